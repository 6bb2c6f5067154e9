"""What can happen to a run: one frozen struct per event, all in the union `Event`, and the recorded envelope.

An event names its branch itself and carries data, never a class path. Its type and schema version stand in the
envelope's header, where they outlive an erased payload and can be filtered on; `codec.py` maps them to bytes.

Fields are never renamed, retyped or removed. Where one is added, which needs a default, the event's schema version goes
up in `codec.SCHEMA_VERSIONS`, and an upcaster lifts the older payloads.
"""

from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct, field

from engine.canonical import Canonical
from engine.model import (
    CREATED,
    AttemptChanges,
    CarriedStep,
    Head,
    Parameter,
    ParameterConflict,
    Source,
    TaskSpec,
)
from engine.names import ROOT


class _Event(Canonical, frozen=True, kw_only=True, forbid_unknown_fields=True):
    branch: str


class RunCreated(_Event, frozen=True):
    """Opens a run's root stream. `created_at` is set where the run is older than the log."""

    tag: str = ""
    status: str = CREATED
    dag_hash: str | None = None
    original_run_id: str | None = None
    use_cached: bool = False
    workspace_slug: str | None = None
    root_path: str | None = None
    description: str | None = None
    tags: dict[str, Any] = field(default_factory=dict)
    created_at: datetime | None = None


class RunForked(_Event, frozen=True):
    """Opens a run's root stream as a continuation of another run's branch, as it stood at a version."""

    source_run_id: str
    source_branch: str
    source_version: int
    source_hash: bytes
    tag: str = ""
    status: str = CREATED


class RunStatusChanged(_Event, frozen=True):
    status: str
    reason: str | None = None


class RunConfigured(_Event, frozen=True):
    """Merges `config` into the run's configuration, key by key: it stands over what its source had at a fork."""

    config: dict[str, Any]


class JobLogged(_Event, frozen=True):
    """Sets the run's job log, a document of the host's own shape."""

    job: dict[str, Any]


class RunFinalized(_Event, frozen=True):
    """Names the head of every stream of the run: its own hash commits to all of them.

    A run of very many branches is finalised by several events, recorded together; the last one's hash commits to all.
    """

    heads: list[Head]
    part: int = 1
    parts: int = 1


class RunPinned(_Event, frozen=True):
    """Keeps the run from being deleted, until it is unpinned."""

    reason: str | None = None


class RunUnpinned(_Event, frozen=True):
    reason: str | None = None


class SourceCarriedOver(_Event, frozen=True):
    """Sets what the run saw of its source when it was forked, as of its first version: the source is to be deleted.

    A run that saw very much has several, recorded together; from the last on it has no source any more. Of the steps,
    `hidden` are those that the run had logged or removed itself by then: they are seen only at points before that.
    `config` is what it was configured with before it was there. The first of several also has what the others leave
    out: `runs` are those behind it that had been given what they saw in the same way, and the ids of attempts with it,
    nearest first; the other fields are those of the source's `RunCreated`.
    """

    values: dict[str, Parameter]
    steps: list[CarriedStep] = field(default_factory=list)
    hidden: list[CarriedStep] = field(default_factory=list)
    part: int = 1
    parts: int = 1
    dag_hash: str | None = None
    use_cached: bool = False
    workspace_slug: str | None = None
    root_path: str | None = None
    description: str | None = None
    tags: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)


class PayloadErased(_Event, frozen=True):
    """Says that the payload of an earlier event of this stream was erased, by whom and why.

    `redacted` is the digest (blake2b-256) of what stands in its place, `b""` where nothing does.
    """

    stream_version: int
    event_type: str
    reason: str
    by: str | None = None
    redacted: bytes = b""


class BranchForked(_Event, frozen=True):
    """Opens a branch's stream. Nothing is copied: the parent is read as of `parent_version`."""

    parent: str
    parent_version: int
    parent_hash: bytes
    status: str = CREATED


class BranchLogged(_Event, frozen=True):
    """Sets the details of a branch's own log."""

    details: dict[str, Any] = field(default_factory=dict)


class BranchStatusChanged(_Event, frozen=True):
    status: str
    reason: str | None = None


class ParametersSet(_Event, frozen=True):
    """Sets parameters of a branch.

    `copied_from` is where they were seen that a caller had copied into the branch: they are its own to whoever reads,
    and no write of its own to a reduction.
    """

    values: dict[str, Parameter]
    copied_from: Source | None = None


class ParametersReduced(_Event, frozen=True):
    """Folds what child branches wrote into the parent. Replaying it calls nobody's code.

    `children` are the heads that the values were read from. A value whose sources are empty came from the caller.
    """

    children: list[Head]
    rules: dict[str, str]
    values: dict[str, Parameter]
    sources: dict[str, list[Source]]
    on_conflict: Literal["child", "parent"] = "child"
    conflicts: list[ParameterConflict] = field(default_factory=list)


class StepLogged(_Event, frozen=True):
    """Describes a step; again whenever its description changes."""

    step: str
    name: str
    status: str = CREATED
    step_type: str = "task"
    message: str = ""
    mock: bool = False
    spec: TaskSpec | None = None
    details: dict[str, Any] = field(default_factory=dict)


class StepStatusChanged(_Event, frozen=True):
    step: str
    status: str
    reason: str | None = None


class StepRemoved(_Event, frozen=True):
    """Takes a step out of the views; its history stays."""

    step: str
    reason: str | None = None


class AttemptCreated(_Event, frozen=True):
    """Opens an attempt and, where `current`, makes it the step's current one.

    `step_status` is what the step goes on to with it; None leaves the step's status alone. `created_at` and `ended_at`
    are given where it began, or ended, before it was recorded.
    """

    step: str
    attempt_id: str
    attempt_index: int
    status: str = CREATED
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
    created_at: datetime | None = None
    current: bool = True
    step_status: str | None = None
    ended_at: datetime | None = None


class AttemptUpdated(_Event, frozen=True):
    """Sets the fields that `changes` names, and the step's status where it goes with the attempt's: `step_status`.

    That is at the attempt's end; `ends` says so where the step stays as it is and the status does not.
    """

    step: str
    attempt_id: str
    changes: AttemptChanges
    step_status: str | None = None
    ends: bool = False


class ExternalRunRegistered(_Event, frozen=True):
    task_id: str
    operator_type: str
    status: str
    external_id: str | None = None
    operator_data: dict[str, Any] | None = None
    relative_path: str | None = None


class ExternalRunUpdated(_Event, frozen=True):
    task_id: str
    status: str
    external_id: str | None = None
    operator_data: dict[str, Any] | None = None
    relative_path: str | None = None


Event: TypeAlias = (
    RunCreated
    | RunForked
    | RunStatusChanged
    | RunConfigured
    | JobLogged
    | RunFinalized
    | RunPinned
    | RunUnpinned
    | SourceCarriedOver
    | PayloadErased
    | BranchForked
    | BranchLogged
    | BranchStatusChanged
    | ParametersSet
    | ParametersReduced
    | StepLogged
    | StepStatusChanged
    | StepRemoved
    | AttemptCreated
    | AttemptUpdated
    | ExternalRunRegistered
    | ExternalRunUpdated
)


_OF_RUNS: Final = (
    RunCreated,
    RunForked,
    RunStatusChanged,
    RunConfigured,
    JobLogged,
    RunFinalized,
    RunPinned,
    RunUnpinned,
    SourceCarriedOver,
)
_OF_BRANCHES: Final = (BranchForked, BranchStatusChanged)


def is_misplaced(event: Event) -> bool:
    """Whether an event is about a run and outside of its root branch, or about another branch and in the root."""
    return isinstance(event, _OF_RUNS if event.branch != ROOT else _OF_BRANCHES)


class RecordedEvent(Struct, frozen=True, gc=False):
    """An event and its envelope.

    `position` is the place in the whole log and `stream_version` the place in the stream of (`run_id`, `branch`), both
    from 1; `event_id` is 32 hexadecimal digits, ordered by time (RFC 9562, version 7); `recorded_at` is aware and in
    UTC, to the microsecond; `hash` is 32 bytes and commits to the stream up to here.
    """

    position: int
    run_id: str
    branch: str
    stream_version: int
    event_id: str
    recorded_at: datetime
    hash: bytes
    event: Event
