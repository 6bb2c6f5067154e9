"""What callers ask for. `decisions.py` turns each into events.

Commands are plain data: their canonical bytes are what an idempotency key is compared by.
"""

from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct, field, structs

from engine.canonical import Canonical
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
"""The `source_version` of a run to be forked from its source as it stands: the decision fills in which that is."""

SOURCE_UNKNOWN: Final = -1
"""The `source_version` in a retry of what is recorded: its source may have gone on, or be gone."""


class _Command(Canonical, frozen=True, kw_only=True, tag=True):
    """`branch` names the stream that is written to; of a request's first command it is the one that is guarded."""

    branch: str = ""


class OpenRun(_Command, frozen=True):
    """Open the run. `source_point` is how a caller named the point of a fork's source, empty for its head.

    Which version that is was found out on the way, and may be another when the same is asked again.
    """

    event: RunCreated | RunForked = field(default_factory=lambda: RunCreated(branch=""))
    parameters: dict[str, Parameter] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    exist_ok: bool = False
    source_point: str = ""


class Fork(_Command, frozen=True):
    """Open `branch` as a child of `parent`; None is its longest dotted prefix that is open, else the root."""

    parent: str | None = ""
    status: str = CREATED
    exist_ok: bool = False


class Record(_Command, frozen=True):
    """Append events as they are to a stream that is open; attempts they create or update are checked."""

    events: tuple[Event, ...]


Unless: TypeAlias = Literal["resolved", "own"]
"""What makes setting a value say nothing new: that the branch sees it, through its forks, or that it set it itself."""


class MergeParameters(_Command, frozen=True):
    """Set only what differs from what the branch sees: `"resolved"` through its forks, or `"own"` alone."""

    values: dict[str, Parameter]
    unless: Unless = "resolved"


class CopyParameters(_Command, frozen=True):
    """Set what another branch of the run sees and this one does not, by the same rule, as copied from there."""

    source: str
    unless: Unless = "resolved"


class Configure(_Command, frozen=True):
    """Merge what differs into the run's configuration, and set its job log when that differs."""

    config: dict[str, Any] | None = None
    job: dict[str, Any] | None = None


class SetStatus(_Command, frozen=True):
    """Set the status of a run (the root branch) or a branch, unless it is that already.

    `keep_reason` leaves an earlier reason as it is where none is given.
    """

    status: str
    reason: str | None = None
    keep_reason: bool = False


class Pin(_Command, frozen=True):
    """Pin the run, or unpin it, unless it is so already."""

    pinned: bool
    reason: str | None = None


class DescribeBranch(_Command, frozen=True):
    """Set the details of a branch's own log, or with `merge` those that are given."""

    details: dict[str, Any]
    merge: bool = False


class DescribeRun(_Command, frozen=True):
    """Merge `details` into those of the run's own log: what neither they nor the opening of the run say already."""

    details: dict[str, Any]


class LogStep(_Command, frozen=True):
    """Record what a step document says that the log does not say yet."""

    document: StepDocument
    spec: TaskSpec | None = None


class SetStepStatus(_Command, frozen=True):
    step: str
    status: str
    reason: str | None = None


class RemoveStep(_Command, frozen=True):
    step: str
    reason: str | None = None


class StartAttempt(_Command, frozen=True):
    """Open the next attempt at a step, logging the step when it is new; `status` also becomes the step's.

    `fresh`: the id was made for this attempt, so that no other can have it.
    """

    step: str
    attempt_id: str
    status: str
    fields: AttemptChanges = field(default_factory=AttemptChanges)
    fresh: bool = False


class UpdateAttempt(_Command, frozen=True):
    """Change fields of an attempt.

    With a `step_status` it is the attempt's end, and the step's while this is its current attempt: a status reason that
    the end does not give is none. `unless_ended` records nothing of an attempt that has ended already.
    """

    attempt_id: str
    changes: AttemptChanges
    step_status: str | None = None
    unless_ended: bool = False


class ChangeAttempt(_Command, frozen=True):
    """Record what an update says that is not so already: of any attempt, or only of one that is `"orphaned"`.

    That is one that was created and never submitted: it has no external id.
    """

    attempt_id: str
    changes: AttemptChanges
    when: Literal["any", "orphaned"] = "any"


class LogTask(_Command, frozen=True):
    """Describe a task: a step with a specification. A new one begins as pending; a known one keeps its status.

    One that a forked run has from its source is a new one, unless it is described as there.
    """

    task_id: str
    spec: TaskSpec


class CreateAttempt(_Command, frozen=True):
    """Open the next attempt at a task that is there. The task's own status is left alone."""

    task_id: str
    attempt_id: str
    status: str = CREATED
    fields: AttemptChanges = field(default_factory=AttemptChanges)


class Reduce(_Command, frozen=True):
    """Fold children into the branch; None means all of its children, in the order they were forked.

    `computed` are values that a caller's functions made of the children at the heads `relies_on`; the names that the
    functions are for have the rule `function`.
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
    """Record what is new of a task's external run: its registration, for a task that is there, or an update."""

    event: ExternalRunRegistered | ExternalRunUpdated


class CancelExternalRun(_Command, frozen=True):
    """Cancel a task's external run, if it has one that has not ended."""

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
    """Commands for one run that are recorded together or not at all.

    `expected_version` guards the stream of the first command's branch. `idempotency_key` is the caller's name for the
    request within the run.

    Raises:
        InvalidValue: there are no commands.
    """

    run_id: str
    commands: tuple[Command, ...]
    expected_version: ExpectedVersion = ANY
    idempotency_key: str | None = None

    def __post_init__(self) -> None:
        if not self.commands:
            raise InvalidValue("commands", self.commands, "are none, and a request is at least one")


def asked_for(commands: tuple[Command, ...]) -> list[Command]:
    """Return the commands as their caller asked for them, without what was read on the way.

    A retry may read something else; under the same idempotency key it asks for the same all the same.
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
