"""The rows of a log as they are stored, for verification: neither decoded nor trusted."""

from collections.abc import Collection, Iterable
from typing import Protocol

from msgspec import Struct


class StoredStream(Struct, frozen=True):
    """A stream's row, with its head as stored. `root_id` is the stream of its run's root branch."""

    stream_id: int
    root_id: int
    run_id: str
    branch: str
    parent_id: int | None
    parent_version: int
    version: int
    hash: bytes


class StoredEvent(Struct, frozen=True):
    """An event's row. `recorded_at` in microseconds since 1970; `payload_digest` is set if the payload is erased."""

    position: int
    stream_id: int
    stream_version: int
    event_type: str
    schema_version: int
    event_id: bytes
    recorded_at: int
    payload: bytes | None
    payload_digest: bytes | None
    hash: bytes


class Ledger(Protocol):
    """Row lookups in one snapshot of the log."""

    def stream(self, stream_id: int) -> StoredStream | None: ...
    def named(self, run_id: str, branch: str) -> StoredStream | None: ...
    def event_at(self, position: int) -> StoredEvent | None: ...
    def event_of(self, stream: StoredStream, stream_version: int) -> StoredEvent | None: ...
    def events_of_types(self, root_id: int, types: Collection[str]) -> Iterable[StoredEvent]:
        """Yield a run's events of some types, in order of position."""
        ...
