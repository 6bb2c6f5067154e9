"""The events: one frozen struct per event type, all in the union `Event`, and the recorded envelope.

An event names its branch itself and carries data, never a class path. Its type and schema version are in the envelope's
header, where they can be filtered on and outlive an erased payload; `codec.py` maps them to bytes.

Fields are never renamed, retyped or removed. A new field needs a default, a higher schema version of the event in
`codec.SCHEMA_VERSIONS`, and an upcaster for older payloads.
"""

from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct, field

from engine.encoding.canonical import Canonical
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
    """Opens a run's root stream. `created_at` is set if the run is older than the log."""

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
    """Opens a run's root stream as a continuation of another run's branch as of a version."""

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
    """Merges `config` into the run's configuration, key by key; it takes precedence over an inherited one."""

    config: dict[str, Any]


class JobLogged(_Event, frozen=True):
    """Sets the run's job log, a document in the host's format."""

    job: dict[str, Any]


class RunFinalized(_Event, frozen=True):
    """Names the head of every stream of the run, so that its own hash commits to all of them.

    A run with very many branches is finalised by several events, recorded together; the last one's hash commits to all.
    """

    heads: list[Head]
    part: int = 1
    parts: int = 1


class RunPinned(_Event, frozen=True):
    """Protects the run from deletion until it is unpinned."""

    reason: str | None = None


class RunUnpinned(_Event, frozen=True):
    reason: str | None = None


class SourceCarriedOver(_Event, frozen=True):
    """Sets what the run inherited at its fork, as of its first version, because the source is about to be deleted.

    If that is too much for one event there are several, recorded together; from the last one on the run has no source.
    `hidden` are inherited steps that the run has logged or removed itself since: only reads of earlier points see them.
    `config` is the inherited configuration. Only the first of several events has the remaining fields: `runs`, the
    ancestors to which inherited values and attempt ids had been carried over in the same way, nearest first; and those
    of the source's `RunCreated`.
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
    """Records that the payload of an earlier event of this stream was erased, by whom and why.

    `redacted` is the digest (blake2b-256) of the redacted payload, `b""` if none is left.
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
    """Sets the details of a branch's log."""

    details: dict[str, Any] = field(default_factory=dict)


class BranchStatusChanged(_Event, frozen=True):
    status: str
    reason: str | None = None


class ParametersSet(_Event, frozen=True):
    """Sets parameters of a branch.

    `copied_from` marks values that were copied from another branch and names it: reads treat them as the branch's own,
    but reductions do not.
    """

    values: dict[str, Parameter]
    copied_from: Source | None = None


class ParametersReduced(_Event, frozen=True):
    """Folds what child branches wrote into the parent. Replaying it never calls user code.

    `children` are the heads that the values were read at. A value without sources came from the caller.
    """

    children: list[Head]
    rules: dict[str, str]
    values: dict[str, Parameter]
    sources: dict[str, list[Source]]
    on_conflict: Literal["child", "parent"] = "child"
    conflicts: list[ParameterConflict] = field(default_factory=list)


class StepLogged(_Event, frozen=True):
    """Describes a step; recorded again whenever the description changes."""

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
    """Removes a step from the views; its history stays."""

    step: str
    reason: str | None = None


class AttemptCreated(_Event, frozen=True):
    """Opens an attempt and, if `current`, makes it the step's current one.

    `step_status` is the step's new status; None leaves it unchanged. `created_at` and `ended_at` are set if the attempt
    began or ended before it was recorded.
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
    """Sets the fields in `changes`, and the step's status if `step_status` is given.

    `step_status` marks the attempt's end; `ends` does so if the step's status stays unchanged.
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


_RUN_EVENTS: Final = (
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
_BRANCH_EVENTS: Final = (BranchForked, BranchStatusChanged)


def is_misplaced(event: Event) -> bool:
    """Return whether an event about a run is outside its root branch, or one about a child branch is in the root."""
    return isinstance(event, _RUN_EVENTS if event.branch != ROOT else _BRANCH_EVENTS)


class RecordedEvent(Struct, frozen=True, gc=False):
    """An event and its envelope.

    `position` is the place in the whole log and `stream_version` the place in the stream of (`run_id`, `branch`), both
    from 1; `event_id` is 32 hexadecimal digits, ordered by time (RFC 9562, version 7); `recorded_at` is aware, in UTC,
    with microseconds; `hash` is 32 bytes and commits to the stream up to this event.
    """

    position: int
    run_id: str
    branch: str
    stream_version: int
    event_id: str
    recorded_at: datetime
    hash: bytes
    event: Event
