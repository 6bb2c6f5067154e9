"""The protocols between the engine's parts, and the data that crosses them.

An `EventLog` keeps events; `State` is what decisions may ask while they are made. Only the `Rebuilder` knows SQLite, in
which all views live: what guards an append is the head of each stream that it touches, named exactly, and a position is
an opaque, comparable cursor. What handles read has a protocol of its own (`engine.views`), as has what is taken out of
a log (`engine.removal`), copied (`engine.backup`) or carried to another (`engine.transfer.port`).
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
        """Record a batch, before whatever is appended later. An error, raised or the future's own, answers all.

        Cancelling the future takes the batch back unless it is being recorded already; then nobody learns of its end.
        """
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
    """What a decision asks of a step."""

    @property
    def status(self) -> str: ...
    @property
    def status_reason(self) -> str | None: ...
    @property
    def attempts(self) -> int: ...
    @property
    def current_attempt_id(self) -> str | None: ...


class AttemptState(Protocol):
    """What a decision asks of an attempt; `task_id` is its step."""

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
        LookupError: its row has another: the index that led there is damaged.
    """
    if (stream.run_id, stream.branch) != (run_id, branch):
        found = f"{stream.branch!r} of run {stream.run_id!r}"
        raise LookupError(f"the index of the branches leads from {branch!r} of run {run_id!r} to {found}")
    return stream


def check_opened_before(parent_id: int | None, stream_id: int) -> None:
    """Raise `LookupError` where a row says that a stream was forked from a later one: that may go in a circle."""
    if parent_id is not None and parent_id >= stream_id:
        raise LookupError(f"stream {stream_id} was forked from stream {parent_id}, which was opened later")


class OwnParameter(Struct, frozen=True, gc=False):
    """A parameter that a branch set or reduced itself, or was given as a copy, and the version of its stream."""

    parameter: Parameter
    stream_version: int
    copied: bool = False


class FromSource(Struct, frozen=True):
    """What a forked run sees of its source, and in `described` what its own row repeats of the source's."""

    parameters: dict[str, Parameter]
    steps: dict[str, StepLog]
    config: dict[str, Any]
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

    def config(self, stream: Stream) -> dict[str, object]:
        """Return the configuration of the run of a root branch: its own over its source's."""
        ...

    def job(self, run_id: str) -> dict[str, object] | None: ...
    def step(self, stream: Stream, step: str) -> StepState | None: ...
    def logged_step(self, stream: Stream, step: str) -> StepLogged | None: ...
    def inherited_step(self, stream: Stream, step: str) -> StepLog | None:
        """Return a step that a run's root branch has from the run's source, and has neither logged nor removed."""
        ...

    def attempt(self, attempt_id: str, stream: Stream | None = None) -> AttemptState | None:
        """Return the attempt of that id in a branch, or in any."""
        ...

    def logged_attempt(self, attempt_id: str, stream: Stream) -> AttemptLog | None: ...
    def attempts(self, stream: Stream, step: str) -> list[AttemptLog]: ...
    def external_run(self, stream: Stream, task_id: str) -> ExternalRun | None: ...
    def own_parameters(self, streams: Sequence[Stream]) -> list[dict[str, OwnParameter]]:
        """Return what each of some branches set or reduced itself."""
        ...

    def own_of(self, stream: Stream, names: Collection[str]) -> dict[str, OwnParameter]:
        """Return what a branch set or reduced itself, of some names."""
        ...

    def parameters(
        self, stream: Stream, version: int | None = None, names: Collection[str] | None = None
    ) -> dict[str, Parameter]: ...
    def forget(self) -> None:
        """Drop what is remembered from batch to batch."""
        ...


class StreamHeads(Protocol):
    """The streams of a log and where each stands."""

    def find(self, run_id: str, branch: str) -> Stream | None: ...
    def children(self, stream: Stream) -> list[Stream]: ...
    def of_run(self, run_id: str) -> list[Stream]: ...


class ViewDifference(Struct, frozen=True):
    """Rows of a view table that the log does not account for (`unexpected`), and rows that it does (`missing`)."""

    table: str
    missing: int
    unexpected: int


Progress: TypeAlias = Callable[[int, int], None]
"""Told how much is done and how much there is, after each chunk: positions, events or bytes, as its taker says."""


class ViewMaintenance(Protocol):
    """Makes the views anew from the events, or says where they differ from them."""

    async def rebuild(self, progress: Progress | None) -> int: ...
    async def compare(self, progress: Progress | None) -> list[ViewDifference]: ...


class Audit(Protocol):
    """Proves the history, or says where it is not what was recorded."""

    async def checkpoint(self) -> Checkpoint: ...
    async def verify(self, run_id: str | None, since: Checkpoint | None, progress: Progress | None) -> Verification: ...


class Rebuilder(Protocol):
    """Folds the log into fresh tables on one connection, to replace the live ones or be compared with them."""

    def create(self, scratch: sqlite3.Connection) -> None: ...
    def fold(self, events: Iterable[tuple[Stream, RecordedEvent]]) -> None: ...
    def disown(self, connection: sqlite3.Connection) -> None: ...
    def replace(self, connection: sqlite3.Connection, scratch_name: str, position: int) -> None: ...
    def differences(self, connection: sqlite3.Connection, scratch_name: str) -> list[ViewDifference]: ...
