"""Commands: requests to change a run. `decisions.py` turns each into events.

Commands are plain data: a reused idempotency key is checked against their canonical encoding.
"""

from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct, field, structs

from engine.encoding.canonical import Canonical
from engine.errors import InvalidValue
from engine.events import Event, ExternalRunRegistered, ExternalRunUpdated, RunCreated, RunForked
from engine.expected_version import ANY, ExpectedVersion
from engine.model import (
    CREATED,
    AttemptChanges,
    Head,
    Parameter,
    StepDocument,
    TaskSpec,
)

OnConflict: TypeAlias = Literal["child", "parent", "error"]

SOURCE_HEAD: Final = 0
"""The `source_version` for forking from the source's head: the decision fills in the actual version."""

SOURCE_UNKNOWN: Final = -1
"""The `source_version` in a retry of a recorded fork, whose source may have changed or been deleted since."""


class _Command(Canonical, frozen=True, kw_only=True, tag=True):
    """`branch` names the stream to write to; that of a request's first command is the guarded one."""

    branch: str = ""


class OpenRun(_Command, frozen=True):
    """Open the run. `source_point` is the fork point as the caller specified it, empty for the source's head.

    A retry with the same `source_point` may resolve to another version.
    """

    event: RunCreated | RunForked = field(default_factory=lambda: RunCreated(branch=""))
    parameters: dict[str, Parameter] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    exist_ok: bool = False
    source_point: str = ""


class Fork(_Command, frozen=True):
    """Open `branch` as a child of `parent`; None means its longest dotted prefix that is open, else the root."""

    parent: str | None = ""
    status: str = CREATED
    exist_ok: bool = False


class Record(_Command, frozen=True):
    """Append events unchanged to an open stream; the ids of attempts that they create or update are checked."""

    events: tuple[Event, ...]


Unless: TypeAlias = Literal["resolved", "own"]
"""When a value is not set again: if the branch already sees it, inherited or not, or only if it set it itself."""


class MergeParameters(_Command, frozen=True):
    """Set the values that differ from the branch's: those it sees (`"resolved"`), or those it set itself (`"own"`)."""

    values: dict[str, Parameter]
    unless: Unless = "resolved"


class CopyParameters(_Command, frozen=True):
    """Copy the parameters that the branch `source` of the run sees, except those that `unless` excludes."""

    source: str
    unless: Unless = "resolved"


class Configure(_Command, frozen=True):
    """Merge `config` into the run's configuration and set its job log, as far as they differ."""

    config: dict[str, Any] | None = None
    job: dict[str, Any] | None = None


class SetStatus(_Command, frozen=True):
    """Set the status of a run (the root branch) or a branch, unless it is unchanged.

    `keep_reason` keeps the earlier reason if none is given.
    """

    status: str
    reason: str | None = None
    keep_reason: bool = False


class Pin(_Command, frozen=True):
    """Pin or unpin the run, unless it is unchanged."""

    pinned: bool
    reason: str | None = None


class DescribeBranch(_Command, frozen=True):
    """Set the details of a branch's log; with `merge`, only the given keys."""

    details: dict[str, Any]
    merge: bool = False


class DescribeRun(_Command, frozen=True):
    """Merge into the details of the run's log the items that neither they nor the run's opening event hold already."""

    details: dict[str, Any]


class LogStep(_Command, frozen=True):
    """Record the differences between a step document and the log.

    `own_details` names the details of the step and of its attempts that the document determines; others stay unchanged.
    None means all.
    """

    document: StepDocument
    spec: TaskSpec | None = None
    own_details: tuple[str, ...] | None = None


class SetStepStatus(_Command, frozen=True):
    step: str
    status: str
    reason: str | None = None


class RemoveStep(_Command, frozen=True):
    step: str
    reason: str | None = None


class StartAttempt(_Command, frozen=True):
    """Open the next attempt at a step, logging the step if it is new; `status` also becomes the step's.

    `fresh`: the id was generated for this attempt, so it cannot be taken.
    """

    step: str
    attempt_id: str
    status: str
    fields: AttemptChanges = field(default_factory=AttemptChanges)
    fresh: bool = False


class UpdateAttempt(_Command, frozen=True):
    """Change fields of an attempt.

    A `step_status` marks the attempt's end: it becomes the step's status if this is the step's current attempt, and a
    status reason that is not given is cleared. `unless_ended` records nothing if the attempt has already ended.
    """

    attempt_id: str
    changes: AttemptChanges
    step_status: str | None = None
    unless_ended: bool = False


class ChangeAttempt(_Command, frozen=True):
    """Record the changes that differ from the attempt's fields; with `"orphaned"`, only if it was never submitted.

    An orphaned attempt has the status `CREATED` and no external id.
    """

    attempt_id: str
    changes: AttemptChanges
    when: Literal["any", "orphaned"] = "any"


class LogTask(_Command, frozen=True):
    """Describe a task: a step with a specification. A new task is `PENDING`; a known one keeps its status.

    A task that a forked run inherits counts as new if its specification differs from the source's.
    """

    task_id: str
    spec: TaskSpec


class CreateAttempt(_Command, frozen=True):
    """Open the next attempt at an existing task. The task's status stays unchanged."""

    task_id: str
    attempt_id: str
    status: str = CREATED
    fields: AttemptChanges = field(default_factory=AttemptChanges)


class Reduce(_Command, frozen=True):
    """Fold children into the branch; None means all of its children, in fork order.

    `computed` holds the results of the caller's functions for the children at the heads `relies_on`; names with a
    function have the rule `function`.
    """

    children: tuple[str, ...] | None = None
    rules: dict[str, str] = field(default_factory=dict)
    default_rule: str = "last"
    on_conflict: OnConflict = "child"
    computed: dict[str, Parameter] = field(default_factory=dict)
    relies_on: tuple[Head, ...] | None = None


class Finalize(_Command, frozen=True):
    """Record every head of the run."""


class LogExternalRun(_Command, frozen=True):
    """Record the registration of an existing task's external run, or an update to it, unless it is unchanged."""

    event: ExternalRunRegistered | ExternalRunUpdated


class CancelExternalRun(_Command, frozen=True):
    """Cancel a task's external run if there is one that has not ended."""

    task_id: str


Command: TypeAlias = (
    OpenRun
    | Fork
    | Record
    | MergeParameters
    | CopyParameters
    | Configure
    | SetStatus
    | Pin
    | DescribeBranch
    | DescribeRun
    | LogStep
    | SetStepStatus
    | RemoveStep
    | StartAttempt
    | UpdateAttempt
    | ChangeAttempt
    | LogTask
    | CreateAttempt
    | Reduce
    | Finalize
    | LogExternalRun
    | CancelExternalRun
)


class Request(Struct, frozen=True, kw_only=True):
    """Commands for one run, recorded all or none.

    `expected_version` guards the stream of the first command's branch. `idempotency_key` identifies the request within
    the run.

    Raises:
        InvalidValue: there are no commands.
    """

    run_id: str
    commands: tuple[Command, ...]
    expected_version: ExpectedVersion = ANY
    idempotency_key: str | None = None

    def __post_init__(self) -> None:
        if not self.commands:
            raise InvalidValue("commands", self.commands, "is empty; a request needs at least one command")


def asked_for(commands: tuple[Command, ...]) -> list[Command]:
    """Return the commands without the parts that were read from the store, for comparing a retry with the original.

    A retry under the same idempotency key may have read something else; it is the same request nevertheless.
    """
    return [_as_asked(command) for command in commands]


def _as_asked(command: Command) -> Command:
    match command:
        case Reduce():
            return structs.replace(command, computed={}, relies_on=None)
        case OpenRun(event=RunForked() as event):
            return structs.replace(command, event=structs.replace(event, source_version=SOURCE_HEAD, source_hash=b""))
        case _:
            return command
