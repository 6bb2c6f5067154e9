"""Permanent removal from a log: the protocol, and its results."""

from datetime import datetime
from typing import Protocol

from msgspec import Struct

from engine.model import Origin


class Erasure(Struct, frozen=True, kw_only=True):
    """The result of an erasure; `erased` is False if the payload had been erased before.

    `carried` are other events that hold some of the erased data: reductions with one of its values, taken or in
    conflict, in the run and its forks; and, which a repeated erasure can no longer find, events that describe the same
    step with the same text, and values carried over to runs whose source was deleted.
    """

    erased: bool
    carried: list[Origin]


class DeletedRun(Struct, frozen=True, kw_only=True):
    """A deleted run, with the numbers of branches and events that were deleted."""

    run_id: str
    branches: int
    events: int


class Deletion(Struct, frozen=True, kw_only=True):
    """The record that a deleted run leaves: when and why it was deleted, and the number and positions of its events."""

    run_id: str
    deleted_at: datetime
    reason: str
    events: int
    first_position: int
    last_position: int


class Compaction(Struct, frozen=True, kw_only=True):
    """The file's size in bytes before and after; not `complete` if a reader's old snapshot keeps the WAL in use."""

    bytes_before: int
    bytes_after: int
    complete: bool


class Expiry(Struct, frozen=True):
    """Selects expired runs: those with one of these statuses whose last event is at or before a time and a position.

    The time is in microseconds since 1970; the position belongs to it, see `Removal.recorded_until`.
    """

    statuses: frozenset[str]
    last_event_until: int
    last_position_until: int


class Collected(Struct, frozen=True, kw_only=True):
    """The runs that were deleted, and the expired ones that were `kept`: run id to reason.

    `others` counts, by status, the runs that are old enough but have a status that was not selected.
    """

    deleted: list[DeletedRun]
    kept: dict[str, str]
    others: dict[str, int] = {}


class Removal(Protocol):
    """Permanently removes data from the log."""

    async def erase(self, run_id: str, branch: str, version: int, reason: str, by: str | None) -> Erasure: ...
    async def recorded_until(self, microseconds: int) -> int:
        """Return the position before the first event recorded after a time, ignoring events with future times."""
        ...

    async def expired(self, expiry: Expiry) -> Collected:
        """Return the runs that would be deleted, forks before their sources, and those that would be kept."""
        ...

    async def delete_run(self, run_id: str, reason: str, *, carry_over: bool, expiry: Expiry | None) -> DeletedRun:
        """Delete a run; with an `expiry`, only if it has expired and is not pinned."""
        ...

    async def deletions(self) -> list[Deletion]:
        """Return the records of deleted runs, the last deleted first."""
        ...

    async def compact(self) -> Compaction: ...
