"""Projectors, which fold events into rows, and their composition."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from engine.errors import EventOutOfPlace
from engine.events import RecordedEvent
from engine.ports import Stream

Fold: TypeAlias = Callable[[Stream, RecordedEvent, Any], None]
"""Folds an event of one type into rows, given its stream, its envelope and the event itself."""


def out_of_place(recorded: RecordedEvent, missing: str) -> EventOutOfPlace:
    """Return the error for an event that changes something that no event before it has created.

    Args:
        missing: the thing, with its article.
    """
    return EventOutOfPlace(type(recorded.event).__name__, recorded.position, missing)


class Projector(Protocol):
    """A pure fold from recorded events to the rows of its tables.

    `version` is raised when the tables or the fold change, so that the log rebuilds them from its events. The `folds`,
    one per event type, buffer rows; `flush` writes them in the transaction of the events and the checkpoint. `forget`
    drops buffered and cached rows after a rollback, or cached rows of streams that another process has written to.
    `clear` deletes the rows of some streams, for runs that are folded again or deleted.
    """

    name: str
    version: int

    def create_tables(self) -> None: ...
    def drop_tables(self) -> None: ...
    def tables(self) -> Sequence[str]: ...
    @property
    def folds(self) -> Mapping[type, Fold]: ...
    def flush(self) -> None: ...
    def forget(self, stream_ids: Collection[int] | None = None) -> None: ...
    def clear(self, stream_ids: Collection[int]) -> None: ...


class Projectors:
    """Several projectors as one fold: each event goes to those that fold its type."""

    def __init__(self, *projectors: Projector) -> None:
        self.all = projectors
        self._folds: dict[type, list[Fold]] = {}
        for projector in projectors:
            for event_type, fold in projector.folds.items():
                self._folds.setdefault(event_type, []).append(fold)

    def apply(self, stream: Stream, recorded: RecordedEvent) -> None:
        """Fold an event of a stream."""
        event = recorded.event
        for fold in self._folds.get(type(event), ()):
            fold(stream, recorded, event)

    def flush(self) -> None:
        """Write every row that has changed."""
        for projector in self.all:
            projector.flush()

    def forget(self, stream_ids: Collection[int] | None = None) -> None:
        """Drop all rows from memory; or, between batches, the cached rows of some streams."""
        for projector in self.all:
            projector.forget(stream_ids)

    def clear(self, stream_ids: Collection[int]) -> None:
        """Delete the rows of some streams."""
        for projector in self.all:
            projector.clear(stream_ids)

    def tables(self) -> list[str]:
        """Return the names of all tables."""
        return [table for projector in self.all for table in projector.tables()]

    def versions(self) -> dict[str, int]:
        """Return the version of each view, by name."""
        return {projector.name: projector.version for projector in self.all}
