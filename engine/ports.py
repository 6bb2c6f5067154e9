"""The protocols between the engine's parts, and the data that crosses them.

An `EventLog` keeps events; `State` is what decisions may ask while they are made; `Views` is what handles read. Only
the `Rebuilder` knows SQLite, in which all views live: what guards an append is the head of each stream that it touches,
named exactly, and a position is an opaque, comparable cursor.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeAlias

from msgspec import Struct

from engine.checkpoint import Checkpoint
from engine.commands import Request
from engine.events import RecordedEvent, StepLogged
from engine.findings import Verification
from engine.lineage import Lineage, LineageWanted
from engine.model import (
    AttemptLog,
    BranchLog,
    ExternalRun,
    Head,
    Origin,
    Parameter,
    RunInfo,
    RunLog,
    RunPage,
    StepLog,
)
from engine.point import PlacedPoint, Point, Position


class Stream(Struct, gc=False):
    """One partition's stream and where it stands. `stream_id` is the log's own short name for it.

    `parent_id` and `parent_version` say what it was forked from, of whichever run.
    """

    stream_id: int
    run_id: str
    branch: str
    parent_id: int | None
    parent_version: int
    version: int
    hash: bytes


class Recorded(Struct, frozen=True, gc=False):
    """The request's events are in the log; `duplicate` when they were already, under the same idempotency key.

    `events` is empty when the request had nothing new to say. `stream_version` is the guarded stream's.
    """

    events: tuple[RecordedEvent, ...]
    stream_version: int
    duplicate: bool = False


Answer: TypeAlias = Recorded | Exception
"""Recorded, or why not: a `Conflict`, a refusal by name, `OutcomeUnknown` or `StoreUnavailable`."""


class Capabilities(Struct, frozen=True):
    """What a log can do, as data.

    `event_bytes_max` is the largest encoded event in bytes, `batch_requests_max` the most requests in one append;
    `dense_order` says that positions are 1, 2, 3 … without gaps.
    """

    event_bytes_max: int
    batch_requests_max: int
    dense_order: bool


class EventFilter(Struct, frozen=True):
    """Which events: of a run, of a branch (with its descendants, when asked), of some types. None asks for all."""

    run_id: str | None = None
    branch: str | None = None
    descendants: bool = False
    types: frozenset[str] | None = None


class EventLog(Protocol):
    """Keeps events in order. Each answer of `append` stands at the place of its request."""

    capabilities: Capabilities

    def append(self, requests: Sequence[Request]) -> asyncio.Future[list[Answer]]:
        """Begin to record a batch, whatever is cancelled then. An error, raised or its own, answers all."""
        ...

    async def read(
        self, events: EventFilter, after: int, until: int | None, limit: int
    ) -> tuple[list[RecordedEvent], int]:
        """Return up to `limit` events after a position, and the position up to which all were looked at."""
        ...

    async def last_position(self) -> int: ...

    async def has_recorded(self, run_id: str, idempotency_key: str) -> bool:
        """Say whether a request of that key was recorded for a run."""
        ...

    def on_append(self, callback: Callable[[], None]) -> None:
        """Call `callback` on the event loop after each append of this process."""
        ...

    async def close(self) -> None: ...


class StepState(Protocol):
    """What a decision asks of a step: its status and how many attempts it has had."""

    @property
    def status(self) -> str: ...
    @property
    def status_reason(self) -> str | None: ...
    @property
    def attempts(self) -> int: ...
    @property
    def current_attempt_id(self) -> str | None: ...


class AttemptState(Protocol):
    """What a decision asks of an attempt: of which step it is and how it stands."""

    @property
    def task_id(self) -> str: ...
    @property
    def status(self) -> str: ...


class OwnParameter(Struct, frozen=True, gc=False):
    """A parameter that a branch set or reduced itself, and the version of its stream that did."""

    parameter: Parameter
    stream_version: int


class PlacedAttempt(Struct, frozen=True):
    """An attempt and where it was made."""

    run_id: str
    branch: str
    log: AttemptLog


class FromSource(Struct, frozen=True):
    """What a forked run sees of its source: parameters and steps, and what its own row repeats of the source's."""

    parameters: dict[str, Parameter]
    steps: dict[str, StepLog]
    described: dict[str, Any]


class State(Protocol):
    """What is, as a decision sees it: the streams' heads and the partitions, current under the write lock."""

    def stream(self, run_id: str, branch: str) -> Stream | None: ...
    def hash_at(self, stream: Stream, version: int) -> bytes: ...
    def children(self, stream: Stream) -> list[Stream]: ...
    def streams(self, run_id: str) -> list[Stream]: ...
    def status(self, stream: Stream) -> str: ...
    def status_reason(self, stream: Stream) -> str | None: ...
    def branch_details(self, stream: Stream) -> dict[str, object]: ...
    def opened_with(self, run_id: str) -> dict[str, object]:
        """Return the `tag` and the `dag_hash` of the event that opened the run."""
        ...

    def pinned(self, run_id: str) -> bool: ...
    def from_source(self, stream: Stream) -> FromSource:
        """Return what a forked run, by its root stream, sees of what it was forked from."""
        ...

    def config(self, run_id: str) -> dict[str, object]: ...
    def job(self, run_id: str) -> dict[str, object] | None: ...
    def step(self, stream: Stream, step: str) -> StepState | None: ...
    def logged_step(self, stream: Stream, step: str) -> StepLogged | None: ...
    def attempt(self, attempt_id: str, stream: Stream | None = None) -> AttemptState | None:
        """Return the attempt of that id in a branch, or in any."""
        ...

    def logged_attempt(self, attempt_id: str, stream: Stream) -> AttemptLog | None: ...
    def attempts(self, stream: Stream, step: str) -> list[AttemptLog]: ...
    def external_run(self, stream: Stream, task_id: str) -> ExternalRun | None: ...
    def own_parameters(self, streams: Sequence[Stream]) -> list[dict[str, OwnParameter]]:
        """Return what each of some branches set or reduced itself."""
        ...

    def parameters(
        self, stream: Stream, version: int | None = None, names: Collection[str] | None = None
    ) -> dict[str, Parameter]: ...


class StreamHeads(Protocol):
    """The streams of a log and where each stands."""

    def find(self, run_id: str, branch: str) -> Stream | None: ...
    def children(self, stream: Stream) -> list[Stream]: ...
    def of_run(self, run_id: str) -> list[Stream]: ...


class ChildValues(Struct, frozen=True):
    """What children set themselves, read at one point: their heads, and name → values in the children's order."""

    heads: tuple[Head, ...]
    values: dict[str, list[Parameter]]


class ViewDifference(Struct, frozen=True):
    """Rows of a view table that the log does not account for (`unexpected`), and rows that it does (`missing`)."""

    table: str
    missing: int
    unexpected: int


Progress: TypeAlias = Callable[[int, int], None]
"""Told the position reached and the last position, after each chunk."""


class ViewMaintenance(Protocol):
    """Makes the views anew from the events, or says where they differ from them."""

    async def rebuild(self, progress: Progress | None) -> int: ...
    async def compare(self, progress: Progress | None) -> list[ViewDifference]: ...


class Audit(Protocol):
    """Proves the history, or says where it is not what was recorded."""

    async def checkpoint(self) -> Checkpoint: ...
    async def verify(self, run_id: str | None, since: Checkpoint | None, progress: Progress | None) -> Verification: ...


class Erasure(Struct, frozen=True, kw_only=True):
    """Whether a payload was erased just now, or had been before.

    `carried` are the events to erase as well: reductions that hold a value of it, taken or in conflict, in the run and
    its forks, and what was carried over to runs whose source was deleted, which a repeated erase can no longer find.
    """

    erased: bool
    carried: list[Origin]


class DeletedRun(Struct, frozen=True, kw_only=True):
    """What was deleted: how many branches and events."""

    run_id: str
    branches: int
    events: int


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
    """What was deleted, and what was kept although it has expired: the run's id, and why."""

    deleted: list[DeletedRun]
    kept: dict[str, str]


class Removal(Protocol):
    """Takes things out of the log for good."""

    async def erase(self, run_id: str, branch: str, version: int, reason: str, by: str | None) -> Erasure: ...
    async def recorded_until(self, microseconds: int) -> int:
        """Return the last position that has no event before it which was recorded after a time and before now."""
        ...

    async def expired(self, expiry: Expiry) -> Collected:
        """Return what would be deleted, forks before what they were forked from, and what would be kept."""
        ...

    async def delete_run(self, run_id: str, reason: str, *, carry_over: bool, expiry: Expiry | None) -> DeletedRun:
        """Delete a run; with an `expiry`, only if it has expired and is not pinned."""
        ...

    async def compact(self) -> Compaction: ...


class Rebuilder(Protocol):
    """Folds the log into fresh tables on one connection, to replace the live ones or be compared with them."""

    def create(self, scratch: sqlite3.Connection) -> None: ...
    def fold(self, events: Iterable[tuple[Stream, RecordedEvent]]) -> None: ...
    def replace(self, connection: sqlite3.Connection, scratch_name: str, position: int) -> None: ...
    def differences(self, connection: sqlite3.Connection, scratch_name: str) -> list[ViewDifference]: ...


class TaskViews(Protocol):
    """What a state store reads: tasks, attempts and external runs by their ids alone, in any branch of any run.

    Each call is one consistent snapshot. A run that is not there has nothing.
    """

    async def places(self, task_id: str, run_id: str | None) -> list[tuple[str, str]]:
        """Return the run and the branch of every task of that id, in one run or in all.

        Where it is no task's, return those of every step of that name.
        """
        ...

    async def tasks(self, run_id: str) -> list[tuple[str, StepLog]]:
        """Return a run's tasks, each with its branch and without its attempts, in the order they were first logged."""
        ...

    async def attempt(self, attempt_id: str) -> PlacedAttempt | None: ...
    async def unfinished(self, run_id: str | None) -> list[PlacedAttempt]:
        """Return the attempts that have not ended, of one run or of all, in the order they were created."""
        ...

    async def attempted(self, run_id: str) -> set[str]:
        """Return the ids of what has had attempts in a run."""
        ...

    async def external_run(self, run_id: str, branch: str, task_id: str) -> ExternalRun | None: ...
    async def external_runs(self, run_id: str, *, at: Position | None = None) -> list[tuple[str, ExternalRun]]:
        """Return a run's external runs, now or as of a position, each with its branch, in the order of the tasks' ids.

        Raises:
            RunNotFound: as of a position, where there is no such run.
        """
        ...


class Views(Protocol):
    """What handles read: each call one consistent snapshot that never waits for a writer.

    `at` is a point of the branch that is named, or else of the run's root: what spans branches is then as it stood when
    the point's event was recorded.

    Raises, where they apply: RunNotFound, BranchNotFound, StepNotFound, AttemptNotFound, PointNotFound,
    ParameterNotFound.
    """

    @property
    def tasks(self) -> TaskViews: ...

    async def stream(self, run_id: str, branch: str) -> Stream: ...
    async def head_at(self, run_id: str, branch: str, at: int | datetime | Position) -> Head: ...
    async def head_before(self, run_id: str, branch: str, step: str, *, at: Point) -> Head:
        """Return the head of a branch just before one of its steps began, looking no further than a point."""
        ...

    async def run_info(self, run_id: str, *, at: Point = None) -> RunInfo: ...
    async def runs(
        self,
        *,
        status: str | None,
        tag: str | None,
        created_from: datetime | None,
        created_until: datetime | None,
        limit: int,
        cursor: str | None,
    ) -> RunPage: ...
    async def parameters(
        self, run_id: str, branch: str, *, at: Point, names: Collection[str] | None, inherited: bool
    ) -> dict[str, Parameter]: ...
    async def resolved(self, run_id: str, branch: str, *, at: Point) -> dict[str, tuple[Parameter, Origin]]: ...
    async def lineage(self, run_id: str, branch: str, *, at: Point, wanted: LineageWanted) -> Lineage: ...
    async def parting(self, one: PlacedPoint, other: PlacedPoint) -> Origin | None:
        """Return the last version of a branch that both read through, None when nothing is behind both."""
        ...

    async def steps(self, run_id: str, branch: str, *, at: Point = None) -> dict[str, StepLog]: ...
    async def step(self, run_id: str, branch: str, step: str, *, at: Point = None) -> StepLog: ...
    async def attempts(
        self, run_id: str, branch: str | None, step: str | None, *, at: Point = None
    ) -> list[tuple[str, AttemptLog]]: ...
    async def attempt(self, run_id: str, attempt_id: str) -> tuple[str, AttemptLog]: ...
    async def children(self, run_id: str, branch: str, *, at: Point = None) -> list[str]: ...
    async def own_values(self, run_id: str, branch: str, children: Sequence[str] | None) -> ChildValues: ...
    async def compile(self, run_id: str, *, at: Point = None, nested: bool, inherited: bool) -> RunLog: ...
    async def compile_branch(
        self, run_id: str, branch: str, *, at: Point = None, nested: bool, inherited: bool
    ) -> BranchLog: ...
