"""The protocols between the engine's parts, and the data that crosses them.

An `EventLog` keeps events; `State` answers the questions of decisions. Only the `Rebuilder` depends on SQLite, in which
all views live: an append is guarded by the head of each stream that it touches, named exactly, and a position is an
opaque, comparable cursor. Reads (`engine.views`), removal (`engine.removal`), backups (`engine.backup`) and transfers
(`engine.transfer.port`) have protocols of their own.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Protocol, TypeAlias

from msgspec import Struct

from engine.checkpoint import Checkpoint
from engine.commands import Request
from engine.events import RecordedEvent, StepLogged
from engine.findings import Verification
from engine.model import AttemptLog, ExternalRun, Parameter, StepLog


class Stream(Struct, gc=False):
    """One partition's stream and its head. `stream_id` is the log's internal id for it.

    `parent_id` and `parent_version` name the fork point, in the same run or another.
    """

    stream_id: int
    run_id: str
    branch: str
    parent_id: int | None
    parent_version: int
    version: int
    hash: bytes


class Recorded(Struct, frozen=True, gc=False):
    """The request's events are in the log; `duplicate` if an earlier request with the same key recorded them.

    `events` is empty if the request changed nothing. `stream_version` is the guarded stream's.
    """

    events: tuple[RecordedEvent, ...]
    stream_version: int
    duplicate: bool = False


Answer: TypeAlias = Recorded | Exception
"""Recorded, or the error: a `Conflict`, a refusal, `OutcomeUnknown` or `StoreUnavailable`."""


class Capabilities(Struct, frozen=True):
    """The capabilities of a log, as data.

    `event_bytes_max` is the largest encoded event in bytes, `batch_requests_max` the largest number of requests in one
    append; `dense_order` means that positions are 1, 2, 3 … without gaps.
    """

    event_bytes_max: int
    batch_requests_max: int
    dense_order: bool


class EventFilter(Struct, frozen=True):
    """Selects events of a run, of a branch (optionally with its descendants), of some types. None selects all."""

    run_id: str | None = None
    branch: str | None = None
    descendants: bool = False
    types: frozenset[str] | None = None


class EventLog(Protocol):
    """Keeps events in order. The answers of `append` are in the order of its requests."""

    capabilities: Capabilities

    def append(self, requests: Sequence[Request]) -> asyncio.Future[list[Answer]]:
        """Record a batch, before any later one. An error, raised here or set on the future, applies to every request.

        Cancelling the future withdraws the batch unless its recording has begun; in that case the outcome is lost.
        """
        ...

    async def read(
        self, events: EventFilter, after: int, until: int | None, limit: int
    ) -> tuple[list[RecordedEvent], int]:
        """Return up to `limit` events after a position, and the position up to which the log was searched."""
        ...

    async def last_position(self) -> int: ...

    async def has_recorded(self, run_id: str, idempotency_key: str) -> bool:
        """Return whether a request with that key was recorded for a run."""
        ...

    def on_append(self, callback: Callable[[], None]) -> None:
        """Call `callback` on the event loop after each append of this process."""
        ...

    async def close(self) -> None: ...


class StepState(Protocol):
    """The part of a step's state that decisions read."""

    @property
    def status(self) -> str: ...
    @property
    def status_reason(self) -> str | None: ...
    @property
    def attempts(self) -> int: ...
    @property
    def current_attempt_id(self) -> str | None: ...


class AttemptState(Protocol):
    """The part of an attempt's state that decisions read; `task_id` is its step."""

    @property
    def task_id(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def status_reason(self) -> str | None: ...
    @property
    def ended_at(self) -> str | None: ...


def check_named(stream: Stream, run_id: str, branch: str) -> Stream:
    """Return a stream that was looked up by its name.

    Raises:
        LookupError: its row has another name, so the index is damaged.
    """
    if (stream.run_id, stream.branch) != (run_id, branch):
        found = f"{stream.branch!r} of run {stream.run_id!r}"
        raise LookupError(f"the index of the branches leads from {branch!r} of run {run_id!r} to {found}")
    return stream


def check_opened_before(parent_id: int | None, stream_id: int) -> None:
    """Raise `LookupError` if a stream's row names a later stream as its parent, which could form a cycle."""
    if parent_id is not None and parent_id >= stream_id:
        raise LookupError(f"stream {stream_id} was forked from stream {parent_id}, which was opened later")


class OwnParameter(Struct, frozen=True, gc=False):
    """A parameter that a branch set or reduced itself, or that was `copied` to it, with its stream version."""

    parameter: Parameter
    stream_version: int
    copied: bool = False


class FromSource(Struct, frozen=True):
    """What a forked run inherits from its source.

    `hidden` are the steps that it has logged or removed itself; `described` are the fields that its row repeats from
    the source's.
    """

    parameters: dict[str, Parameter]
    steps: dict[str, StepLog]
    hidden: Collection[str]
    config: dict[str, Any]
    described: dict[str, Any]


class State(Protocol):
    """The current state for decisions, under the write lock: the streams' heads and the partitions."""

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
        """Return what a forked run, given by its root stream, inherits from its source."""
        ...

    def config(self, stream: Stream) -> dict[str, object]:
        """Return a run's configuration: its own, merged over the inherited one."""
        ...

    def job(self, run_id: str) -> dict[str, object] | None: ...
    def step(self, stream: Stream, step: str) -> StepState | None: ...
    def logged_step(self, stream: Stream, step: str) -> StepLogged | None: ...
    def inherited_step(self, stream: Stream, step: str) -> StepLog | None:
        """Return a step that a run's root branch inherits and has neither logged nor removed itself."""
        ...

    def attempt(self, attempt_id: str, stream: Stream | None = None) -> AttemptState | None:
        """Return the attempt of that id, in one branch or in any."""
        ...

    def logged_attempt(self, attempt_id: str, stream: Stream) -> AttemptLog | None: ...
    def attempts(self, stream: Stream, step: str) -> list[AttemptLog]: ...
    def external_run(self, stream: Stream, task_id: str) -> ExternalRun | None: ...
    def own_parameters(self, streams: Sequence[Stream]) -> list[dict[str, OwnParameter]]:
        """Return the parameters that each of the branches set or reduced itself."""
        ...

    def own_of(self, stream: Stream, names: Collection[str]) -> dict[str, OwnParameter]:
        """Return the parameters of these names that a branch set or reduced itself."""
        ...

    def parameters(
        self, stream: Stream, version: int | None = None, names: Collection[str] | None = None
    ) -> dict[str, Parameter]: ...
    def forget(self) -> None:
        """Drop everything cached between batches."""
        ...


class StreamHeads(Protocol):
    """The streams of a log and their heads."""

    def find(self, run_id: str, branch: str) -> Stream | None: ...
    def children(self, stream: Stream) -> list[Stream]: ...
    def of_run(self, run_id: str) -> list[Stream]: ...


class ViewDifference(Struct, frozen=True):
    """The numbers of rows that a view table lacks (`missing`), and that it should not have (`unexpected`)."""

    table: str
    missing: int
    unexpected: int


Progress: TypeAlias = Callable[[int, int], None]
"""Called with the work done and the total after each chunk: positions, events or bytes, as documented by its user."""


class ViewMaintenance(Protocol):
    """Rebuilds the views from the events, or compares them."""

    async def rebuild(self, progress: Progress | None) -> int: ...
    async def compare(self, progress: Progress | None) -> list[ViewDifference]: ...


class Audit(Protocol):
    """Verifies the history."""

    async def checkpoint(self) -> Checkpoint: ...
    async def verify(self, run_id: str | None, since: Checkpoint | None, progress: Progress | None) -> Verification: ...


class Rebuilder(Protocol):
    """Folds the log into new tables on one connection, to replace the live ones or be compared with them."""

    def create(self, scratch: sqlite3.Connection) -> None: ...
    def fold(self, events: Iterable[tuple[Stream, RecordedEvent]]) -> None: ...
    def disown(self, connection: sqlite3.Connection) -> None: ...
    def replace(self, connection: sqlite3.Connection, scratch_name: str, position: int) -> None: ...
    def differences(self, connection: sqlite3.Connection, scratch_name: str) -> list[ViewDifference]: ...
