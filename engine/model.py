"""The parts of a run: plain, frozen structs without behaviour.

Times are `datetime`s in UTC. JSON values are `None`, `bool`, `int` (64 bits, signed), `float` (NaN and the infinities
included, kept exactly), `str`, and lists and string-keyed mappings of these. Mappings come back in key order.

Structs that are created in large numbers, here and elsewhere, are not tracked by the garbage collector (`gc=False`):
they contain no reference cycles, and its passes would take longer than the work itself.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final, Literal

from msgspec import UNSET, Struct, UnsetType, field, to_builtins

from engine.encoding.canonical import Canonical
from engine.names import ROOT

ParameterKind = Literal["json", "metric", "object", "erased"]

CREATED = "CREATED"
PENDING = "PENDING"
RUNNING = "RUNNING"
COMPLETED = "COMPLETED"
FAILED = "FAILED"
FAILED_INIT = "FAILED_INIT"
CANCELLED = "CANCELLED"

# The meaning of the statuses of two families of hosts: state stores and run logs. Other statuses can be recorded too.
SUCCEEDED_STATUSES = frozenset({COMPLETED, "SUCCESS", "SKIPPED"})
FAILED_STATUSES = frozenset({FAILED, "FAIL", FAILED_INIT})
TERMINAL_STATUSES = SUCCEEDED_STATUSES | FAILED_STATUSES | {CANCELLED}
ACTIVE_STATUSES = frozenset({RUNNING, "SUBMITTED", "WAITING_EXTERNAL", "PROCESSING"})
UNENDED_STATUSES = ACTIVE_STATUSES | {CREATED, PENDING}


def has_ended(status: str, ended_at: object) -> bool:
    """Return whether an attempt has ended; `ended_at` is None if the time of its end is unknown.

    An attempt that was resumed with one of the `UNENDED_STATUSES` keeps its first `ended_at`; any other status that is
    not terminal clears it.
    """
    return status in TERMINAL_STATUSES or (ended_at is not None and status not in UNENDED_STATUSES)


class Parameter(Canonical, frozen=True):
    """A value passed between steps.

    `kind` is `"json"` for plain values, `"metric"` for measurements, `"object"` for a reference (a text) to something
    stored elsewhere, and `"erased"` for an erased value, which is None.
    """

    value: Any
    kind: ParameterKind = "json"


ERASED: Final = Parameter(None, "erased")
"""The replacement for a value whose event's payload was erased."""


class TaskSpec(Canonical, frozen=True, kw_only=True):
    """The specification that makes a step a task.

    `download_patterns` are globs: a list of them, or lists by kind, such as `{"include": ["*.csv"]}`.
    """

    image: str = ""
    command: str = ""
    files: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    dependencies: list[str] = field(default_factory=list)
    cores: int | None = None
    memory_gb: int | float | None = None
    gpus: int | None = None
    time_limit_minutes: int | None = None
    allow_dependency_failure: bool = False
    allow_failure: bool = False
    download_patterns: list[str] | dict[str, list[str]] | None = field(default_factory=list)
    task_type: str = "Task"
    operator_key: str | None = None


class Head(Struct, frozen=True, gc=False):
    """A stream's last version and its hash (32 bytes)."""

    branch: str
    stream_version: int
    hash: bytes


class Source(Struct, frozen=True, gc=False):
    """An event of another branch of the run: the source of a reduced value, or the head when a value was copied."""

    branch: str
    stream_version: int


class Origin(Struct, frozen=True, gc=False):
    """The event that set or reduced a parameter; in a forked run, `run_id` may be that of a source."""

    run_id: str
    branch: str
    stream_version: int


class ParameterConflict(Struct, frozen=True, gc=False):
    """The parent has changed `name` since the fork, and the child has set it to a different value.

    `base` is the parameter at the fork, None if there was none.
    """

    name: str
    branch: str
    base: Parameter | None
    parent: Parameter
    child: Parameter


class AttemptLog(Struct, frozen=True, kw_only=True, gc=False):
    """One attempt at a step. `attempt_index` counts 1, 2, 3 … per step of a branch.

    `inputs`, `outputs` and `metrics` are parameters; `details` holds any other data of the caller. An attempt that was
    resumed keeps the `ended_at` of its first end: `has_ended` tells whether it has ended.
    """

    attempt_id: str
    step: str
    attempt_index: int
    status: str
    status_reason: str | None = None
    operator_key: str | None = None
    operator_type: str | None = None
    external_id: str | None = None
    operator_data: dict[str, Any] | None = None
    relative_path: str | None = None
    message: str = ""
    inputs: dict[str, Parameter] = field(default_factory=dict)
    outputs: dict[str, Parameter] = field(default_factory=dict)
    metrics: dict[str, Parameter] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    created_at: datetime
    submitted_at: datetime | None = None
    ended_at: datetime | None = None


def never_submitted(attempt: AttemptLog) -> bool:
    """Return whether an attempt was created but never submitted: it has no external id."""
    return attempt.status == CREATED and attempt.external_id is None


class AttemptChanges(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The fields of an attempt that an update sets; the others stay unchanged."""

    status: str | UnsetType = UNSET
    status_reason: str | UnsetType | None = UNSET
    operator_key: str | UnsetType | None = UNSET
    operator_type: str | UnsetType | None = UNSET
    external_id: str | UnsetType | None = UNSET
    operator_data: dict[str, Any] | UnsetType | None = UNSET
    relative_path: str | UnsetType | None = UNSET
    message: str | UnsetType = UNSET
    inputs: dict[str, Parameter] | UnsetType = UNSET
    outputs: dict[str, Parameter] | UnsetType = UNSET
    metrics: dict[str, Parameter] | UnsetType = UNSET
    details: dict[str, Any] | UnsetType = UNSET
    submitted_at: datetime | UnsetType | None = UNSET
    ended_at: datetime | UnsetType | None = UNSET


NOT_INITIAL_FIELDS: Final = ("status", "status_reason", "submitted_at", "ended_at")
"""The fields that a new attempt cannot be given among its `fields`; its status is passed separately."""

_KEPT_TYPES: Final = (datetime,)


def given(changes: AttemptChanges) -> dict[str, Any]:
    """Return the fields that `changes` sets, by name."""
    # Only for the names: msgspec leaves out unset fields. For small changes this is four times as fast as a loop.
    return {name: getattr(changes, name) for name in to_builtins(changes, builtin_types=_KEPT_TYPES)}


class AttemptDocument(Canonical, frozen=True, kw_only=True):
    """An attempt as a caller passes it inside a `StepDocument`.

    `began_at` and `ended_at` are aware times; None if unknown, which keeps the log's own times.
    """

    status: str = CREATED
    message: str = ""
    inputs: dict[str, Parameter] = field(default_factory=dict)
    outputs: dict[str, Parameter] = field(default_factory=dict)
    metrics: dict[str, Parameter] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    began_at: datetime | None = None
    ended_at: datetime | None = None


class StepDocument(Canonical, frozen=True, kw_only=True):
    """A step as a caller passes it; `attempts` in order, the first with the index 1.

    Fields that are None stay unchanged; for a new step they get the defaults of `StepLog`.
    """

    step: str
    name: str | None = None
    status: str | None = None
    step_type: str | None = None
    message: str | None = None
    mock: bool | None = None
    details: dict[str, Any] | None = None
    attempts: list[AttemptDocument] = field(default_factory=list)


class StepLog(Struct, frozen=True, kw_only=True, gc=False):
    """One step of a branch, with its attempts in order. `step` is its internal name, `name` its display name.

    `spec` is set if the step is a task. `inherited_from` is set if a forked run inherits the step from its source: it
    names the branch that logged it, and the version up to which that branch is read.
    """

    step: str
    name: str
    status: str
    status_reason: str | None = None
    step_type: str = "task"
    message: str = ""
    mock: bool = False
    spec: TaskSpec | None = None
    details: dict[str, Any] = field(default_factory=dict)
    current_attempt_id: str | None = None
    attempts: list[AttemptLog] = field(default_factory=list)
    inherited_from: Origin | None = None


class CarriedStep(Struct, frozen=True, kw_only=True):
    """An inherited step that is carried over because the source is deleted; its attempts get ids of the run's own.

    `place` counts from 0 over the carried steps and their attempts, in their order, which is before the run's own.
    """

    place: int
    log: StepLog


class ExternalRun(Struct, frozen=True, kw_only=True):
    """A job outside the engine, in the legacy (v1) model: one per task, without attempts."""

    task_id: str
    operator_type: str
    status: str
    external_id: str | None = None
    operator_data: dict[str, Any] | None = None
    relative_path: str | None = None


class RunInfo(Struct, frozen=True, kw_only=True):
    """One row of the list of runs, without payloads.

    `status_changed_at` is the time of the last status change, None if the run still has its initial status.
    """

    run_id: str
    status: str
    status_reason: str | None
    tag: str
    created_at: datetime
    dag_hash: str | None
    original_run_id: str | None
    workspace_slug: str | None
    root_path: str | None
    description: str | None
    tags: dict[str, Any]
    finalized: bool
    pinned: bool = False
    status_changed_at: datetime | None = None


class RunPage(Struct, frozen=True):
    """Runs, the last recorded first; `cursor` requests the next page, None on the last. Iterates over the runs."""

    runs: list[RunInfo]
    cursor: str | None

    def __iter__(self) -> Iterator[RunInfo]:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)


class BranchLog(Struct, frozen=True, kw_only=True):
    """A compiled branch: its steps and parameters, with its child branches nested inside.

    `steps` by internal name and `branches` by full name, each in the order they were opened; `parameters` include
    inherited ones. `parent` is the branch that it was forked from, None for the root.
    """

    branch: str
    parent: str | None
    status: str
    status_reason: str | None
    stream_version: int
    steps: dict[str, StepLog]
    branches: dict[str, "BranchLog"]
    parameters: dict[str, Parameter]
    details: dict[str, Any]


class RunLog(BranchLog, frozen=True, kw_only=True):
    """The compiled, nested log of one run: its root branch, and the fields of the run as a whole."""

    branch: str = ROOT
    parent: str | None = None
    run_id: str
    tag: str
    tags: dict[str, Any]
    description: str | None
    dag_hash: str | None
    created_at: datetime
    config: dict[str, Any]
    job: dict[str, Any] | None
    finalized: bool


def branches_of(log: BranchLog) -> Iterator[BranchLog]:
    """Yield a log and all its descendants, parents first, in the order in which they were opened."""
    waiting = [log]
    while waiting:
        branch = waiting.pop()
        yield branch
        waiting.extend(reversed(branch.branches.values()))


class Reduction(Struct, frozen=True, kw_only=True):
    """A recorded reduction.

    `children` are the heads it read; `rules`, `values` and `sources` are keyed by parameter name, and `sources` lists
    the child events that each value came from, in the children's order. `duplicate` is True if an earlier request with
    the same idempotency key recorded it; the children may have written since.
    """

    run_id: str
    branch: str
    stream_version: int
    children: list[Head]
    rules: dict[str, str]
    values: dict[str, Parameter]
    sources: dict[str, list[Source]]
    conflicts: list[ParameterConflict]
    duplicate: bool = False
