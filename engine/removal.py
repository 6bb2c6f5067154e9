"""Taking things out of a log for good: the protocol of a log that does so, and what it answers."""

from datetime import datetime
from typing import Protocol

from msgspec import Struct

from engine.model import Origin


class Erasure(Struct, frozen=True, kw_only=True):
    """Whether a payload was erased just now, or had been before.

    `carried` are the events to erase as well: reductions that hold a value of it, taken or in conflict, in the run and
    its forks, and, which a repeated erase can no longer find, those that describe a step with the same text, and what
    was carried over to runs whose source was deleted.
    """

    erased: bool
    carried: list[Origin]


class DeletedRun(Struct, frozen=True, kw_only=True):
    """What was deleted: how many branches and events."""

    run_id: str
    branches: int
    events: int


class Deletion(Struct, frozen=True, kw_only=True):
    """What stays on record of a run that was deleted: when and why, and how many events it had, from where to where."""

    run_id: str
    deleted_at: datetime
    reason: str
    events: int
    first_position: int
    last_position: int


class Compaction(Struct, frozen=True, kw_only=True):
    """The file's size in bytes before and after; `complete` unless a reader's old snapshot keeps the log beside it."""

    bytes_before: int
    bytes_after: int
    complete: bool


class Expiry(Struct, frozen=True):
    """Which runs have expired: of these statuses, and with a last event at or before a time and a position.

    The time is in microseconds since 1970. The position is what the log says of it: see `Removal.recorded_until`.
    """

    statuses: frozenset[str]
    last_event_until: int
    last_position_until: int


class Collected(Struct, frozen=True, kw_only=True):
    """What was deleted, and what was kept although it has expired: the run's id, and why.

    `others` counts by status the runs that are as old and were not asked for.
    """

    deleted: list[DeletedRun]
    kept: dict[str, str]
    others: dict[str, int] = {}


class Removal(Protocol):
    """Takes things out of the log for good."""

    async def erase(self, run_id: str, branch: str, version: int, reason: str, by: str | None) -> Erasure: ...
    async def recorded_until(self, microseconds: int) -> int:
        """Return the position before the first event that was recorded after a time, those of times to come aside."""
        ...

    async def expired(self, expiry: Expiry) -> Collected:
        """Return what would be deleted, forks before what they were forked from, and what would be kept."""
        ...

    async def delete_run(self, run_id: str, reason: str, *, carry_over: bool, expiry: Expiry | None) -> DeletedRun:
        """Delete a run; with an `expiry`, only if it has expired and is not pinned."""
        ...

    async def deletions(self) -> list[Deletion]:
        """Return what is known of the runs that were deleted, the last deleted first."""
        ...

    async def compact(self) -> Compaction: ...
