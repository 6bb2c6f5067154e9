"""Projectors fold events into rows: what one is, and several as one fold."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from engine.errors import EventOutOfPlace
from engine.events import RecordedEvent
from engine.ports import Stream

Fold: TypeAlias = Callable[[Stream, RecordedEvent, Any], None]
"""Takes an event of one type into rows: the stream it belongs to, its envelope, and the event itself."""


def out_of_place(recorded: RecordedEvent, missing: str) -> EventOutOfPlace:
    """Return the error for an event that changes what no event before it has made.

    Args:
        missing: what that is, with its article.
    """
    return EventOutOfPlace(type(recorded.event).__name__, recorded.position, missing)


class Projector(Protocol):
    """A pure fold from recorded events to the rows of its tables.

    `version` goes up when the tables or the fold change: the log then rebuilds them from its events. Rows are buffered
    by the `folds`, one for each type of event, and written by `flush`, in the transaction of the events and the
    checkpoint; `forget` drops what is buffered and cached after a rollback, and what is cached of the streams that
    another process has written to. `clear` takes the rows of some streams away, for runs that are folded anew or
    deleted.
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
        """Drop what is in memory: all of it, or between batches what is known of some streams."""
        for projector in self.all:
            projector.forget(stream_ids)

    def clear(self, stream_ids: Collection[int]) -> None:
        """Take the rows of some streams away."""
        for projector in self.all:
            projector.clear(stream_ids)

    def versions(self) -> dict[str, int]:
        """Return the version of each view, by name."""
        return {projector.name: projector.version for projector in self.all}
