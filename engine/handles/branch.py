"""The handle of one branch: writes of its parameters, steps and attempts, forks and reductions.

Each method is one request; `branch_reads.py` has the reads.
"""

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

from typing_extensions import Unpack

from engine.codec import derived_id
from engine.command_check import checked
from engine.commands import (
    Command,
    DescribeBranch,
    Fork,
    LogStep,
    OnConflict,
    Record,
    Reduce,
    RemoveStep,
    Request,
    SetStatus,
    SetStepStatus,
    StartAttempt,
)
from engine.encoding.event_ids import new_event_id
from engine.encoding.values import (
    check_document,
    check_flag,
    check_optional,
    check_parameters,
    check_several,
    check_task_spec,
    check_text,
)
from engine.errors import InvalidValue, shown
from engine.events import AttemptCreated, ParametersSet
from engine.expected_version import ANY, ExpectedVersion, check_expected_version
from engine.handles.attempt import Attempt
from engine.handles.attempt_block import AttemptBlock, Started
from engine.handles.attempt_fields import AttemptFields, StartOptions, attempt_fields, check_attempt_document
from engine.handles.branch_reads import BranchReads
from engine.handles.reducing import Rule, reduce
from engine.model import CREATED, RUNNING, AttemptDocument, Reduction, StepDocument, TaskSpec
from engine.names import check_key, check_name, child_branch
from engine.ports import Recorded
from engine.views import Views
from engine.writer import Writer


class Branch(BranchReads):
    """One branch of a run, returned by `Run.branch` and `Branch.fork`; a `Run` is its own root branch.

    Every write returns once it is durable. `expected_version` is the required state of this branch's stream: a version,
    `ANY`, `NO_STREAM` or `STREAM_EXISTS`; `fork` takes none, because it writes to the child's stream. With an
    `idempotency_key` (unique in the run) a write is recorded once, however often it is retried.

    Every write may raise `VersionConflict`, `IdempotencyConflict`, `InvalidInput`, `RunNotFound` (if the run was
    deleted), `StoreUnavailable` and `EngineClosed`, in which case nothing was recorded, or `OutcomeUnknown`, in which
    case it may have been. On a damaged file it may raise `RowDamaged`, `RowRefused`, `EventOutOfPlace` and
    `CannotDecode`, and nothing was recorded either.
    """

    def __init__(self, writer: Writer, views: Views, run_id: str, name: str) -> None:
        super().__init__(views, run_id, name)
        self._writer = writer

    async def fork(
        self, name: str, *, status: str = CREATED, exist_ok: bool = False, idempotency_key: str | None = None
    ) -> "Branch":
        """Open a child branch that inherits this branch's current parameters. Nothing is copied.

        Args:
            name: relative to this branch.
            status: the child's initial status.
            exist_ok: return the existing branch, unchanged, if one of that name was already forked from this one.

        Raises:
            BranchExists
        """
        branch = child_branch(self._name, name)
        status, exist_ok = check_name(status, "status"), check_flag(exist_ok, "exist_ok")
        command = Fork(branch=branch, parent=self._name, status=status, exist_ok=exist_ok)
        await self._write(command, idempotency_key=idempotency_key)
        return Branch(self._writer, self._views, self._run_id, branch)

    async def set_parameters(
        self,
        values: Mapping[str, Any],
        *,
        expected_version: ExpectedVersion = ANY,
        idempotency_key: str | None = None,
    ) -> Recorded:
        """Set parameters on this branch alone: plain values, or `Parameter(value, kind)`. Records nothing for none.

        Raises:
            InvalidName, InvalidValue, EventTooLarge
        """
        checked = check_parameters(values)
        command = Record(
            branch=self._name, events=(ParametersSet(branch=self._name, values=checked),) if checked else ()
        )
        return await self._write(command, expected_version=expected_version, idempotency_key=idempotency_key)

    async def set_status(
        self,
        status: str,
        reason: str | None = None,
        *,
        expected_version: ExpectedVersion = ANY,
        idempotency_key: str | None = None,
    ) -> Recorded:
        """Set the branch's status; on the root branch, the run's. A new status without a reason clears the earlier one.

        Records nothing if the status is unchanged and no other reason is given.
        """
        command = SetStatus(
            branch=self._name, status=check_name(status, "status"), reason=check_optional(check_text, reason, "reason")
        )
        return await self._write(command, expected_version=expected_version, idempotency_key=idempotency_key)

    async def describe(
        self,
        details: Mapping[str, Any],
        *,
        expected_version: ExpectedVersion = ANY,
        idempotency_key: str | None = None,
    ) -> Recorded:
        """Set the details of the branch's log. They replace the earlier ones."""
        command = DescribeBranch(branch=self._name, details=check_document(details, "details"))
        return await self._write(command, expected_version=expected_version, idempotency_key=idempotency_key)

    async def log_step(
        self,
        step: str,
        *,
        name: str | None = None,
        status: str | None = None,
        step_type: str | None = None,
        message: str | None = None,
        mock: bool | None = None,
        details: Mapping[str, Any] | None = None,
        attempts: Iterable[AttemptDocument] = (),
        spec: TaskSpec | None = None,
        expected_version: ExpectedVersion = ANY,
        idempotency_key: str | None = None,
    ) -> Recorded:
        """Record what is new about a step; a repeated call with the same arguments records nothing.

        Arguments that are not given stay unchanged. A new step has the status `CREATED`, the type `task`, and its
        internal name as its name.

        Args:
            step: its internal name.
            name: its display name.
            details: anything else to keep with it; replaces the earlier details.
            attempts: all attempts so far, in order.
            spec: makes the step a task.
        """
        document = StepDocument(
            step=check_name(step, "step name"),
            name=check_optional(check_text, name, "name"),
            status=check_optional(check_name, status, "status"),
            step_type=check_optional(check_text, step_type, "step_type"),
            message=check_optional(check_text, message, "message"),
            mock=check_optional(check_flag, mock, "mock"),
            details=check_optional(check_document, details, "details"),
            attempts=[check_attempt_document(attempt) for attempt in check_several(attempts, "attempts")],
        )
        command = LogStep(branch=self._name, document=document, spec=check_optional(check_task_spec, spec, "spec"))
        return await self._write(command, expected_version=expected_version, idempotency_key=idempotency_key)

    async def set_step_status(
        self,
        step: str,
        status: str,
        reason: str | None = None,
        *,
        expected_version: ExpectedVersion = ANY,
        idempotency_key: str | None = None,
    ) -> Recorded:
        """Set a step's status. A new status without a reason clears the earlier one.

        Records nothing if the status is unchanged and no other reason is given.

        Raises:
            StepNotFound
        """
        command = SetStepStatus(
            branch=self._name,
            step=check_name(step, "step name"),
            status=check_name(status, "status"),
            reason=check_optional(check_text, reason, "reason"),
        )
        return await self._write(command, expected_version=expected_version, idempotency_key=idempotency_key)

    async def remove_step(
        self,
        step: str,
        reason: str | None = None,
        *,
        expected_version: ExpectedVersion = ANY,
        idempotency_key: str | None = None,
    ) -> Recorded:
        """Remove a step and its attempts from the views, including a step that a forked run inherits from its source.

        Its history stays in the log.

        Raises:
            StepNotFound
        """
        step = check_name(step, "step name")
        command = RemoveStep(branch=self._name, step=step, reason=check_optional(check_text, reason, "reason"))
        return await self._write(command, expected_version=expected_version, idempotency_key=idempotency_key)

    async def start_attempt(
        self,
        step: str,
        *,
        status: str = RUNNING,
        attempt_id: str | None = None,
        expected_version: ExpectedVersion = ANY,
        idempotency_key: str | None = None,
        **fields: Unpack[AttemptFields],
    ) -> Attempt:
        """Open the next attempt at a step, logging the step if it is new.

        Args:
            status: the attempt's initial status, and the step's new one.
            attempt_id: the caller's own id, unique in the file. It can claim a step: of several concurrent callers
                with the same id one gets the attempt, and the others get `AttemptExists`.
            fields: any of `operator_key`, `operator_type`, `external_id`, `operator_data`, `relative_path`, `message`,
                `inputs`, `outputs`, `metrics` and `details`.

        Raises:
            AttemptExists
        """
        request = self._start_request(
            step,
            status=status,
            attempt_id=attempt_id,
            expected_version=expected_version,
            idempotency_key=idempotency_key,
            **fields,
        )
        return self._started(await self._writer.submit(request))

    async def _start_shielded(self, step: str, **options: Unpack[StartOptions]) -> Started:
        """Do as `start_attempt`, and return the attempt even if the caller is cancelled meanwhile."""
        recorded, cancelled = await self._writer.submit_shielded(self._start_request(step, **options))
        return self._started(recorded), cancelled

    def _start_request(
        self,
        step: str,
        *,
        status: str = RUNNING,
        attempt_id: str | None = None,
        expected_version: ExpectedVersion = ANY,
        idempotency_key: str | None = None,
        **fields: Unpack[AttemptFields],
    ) -> Request:
        fresh = attempt_id is None and idempotency_key is None
        if fresh:
            attempt_id = new_event_id().hex()
        elif attempt_id is None:
            attempt_id = derived_id(self._run_id, check_name(idempotency_key, "idempotency key"))
        command = StartAttempt(
            branch=self._name,
            step=check_name(step, "step name"),
            attempt_id=attempt_id if fresh else check_name(attempt_id, "attempt id"),
            status=check_name(status, "status"),
            fields=attempt_fields(fields),
            fresh=fresh,
        )
        return self._request(command, expected_version=expected_version, idempotency_key=idempotency_key)

    def _started(self, recorded: Recorded) -> Attempt:
        created = next(each.event for each in recorded.events if isinstance(each.event, AttemptCreated))
        return Attempt(self._writer, self._views, self._run_id, self._name, created, duplicate=recorded.duplicate)

    def attempt(self, step: str, **options: Unpack[StartOptions]) -> AbstractAsyncContextManager[Attempt]:
        """Run a block as an attempt: `RUNNING`, then `COMPLETED`, `FAILED` or, when cancelled, `CANCELLED`.

        Takes the arguments of `start_attempt`. The step's status follows. An error in the block propagates to the
        caller, with a note if the outcome could not be recorded. An attempt that has already ended, inside the block or
        elsewhere, is left unchanged: `Attempt.finish` sets the step's status as well, `Attempt.update` only the
        attempt's.

        A reused idempotency key returns the same attempt, with `Attempt.duplicate` set; if that attempt has ended, the
        block does not change it.

        A cancelled block exits once its end is recorded, which may take up to the busy timeout while another process
        holds the write lock.
        """
        return AttemptBlock(partial(self._start_shielded, step, **options), self._writer.blocks)

    async def reduce(
        self,
        children: "Iterable[Branch | str] | None" = None,
        *,
        rules: Mapping[str, Rule] | None = None,
        default: str = "last",
        on_conflict: OnConflict = "child",
        expected_version: ExpectedVersion = ANY,
        idempotency_key: str | None = None,
    ) -> Reduction:
        """Fold what child branches wrote themselves into this branch, as one event.

        The event names every source of every value: about 40 bytes per child for each name whose rule uses all children
        (`collect`, `sum`, `mean`, `merge`, `concat`, `unanimous`, functions). 1,000 children and about 25 such names
        make an event of 1 MiB; a larger `event_bytes_max` allows more. It also holds every conflict with its values, at
        least 60 bytes each: far more if children are reduced again whose `sum` is already here. Reducing the children
        in several calls is not equivalent: the second call sets its sum, it does not add it to the first.

        Args:
            children: handles, or full names such as `"fit.a"`, in the order in which the rules take them. The default
                is all children of this branch in fork order, whatever their status, including those reduced before:
                their values are folded again, over what this branch has set since. Name the children to exclude some.
            rules: by parameter name: `last`, `first`, `collect`, `sum`, `min`, `max`, `mean`, `merge`, `concat`,
                `unanimous`, or a function of the list of values. Only children that set the name take part. A function
                is called now, on the event loop, never on replay; what it raises is raised here. `min` and `max` return
                a NaN if there is one among the values. A rule for a name that no child set is ignored.
            default: the built-in rule for every other name.
            on_conflict: what to do with a name that this branch has changed since the fork and a child has set to a
                different value: take the `"child"`'s value (by the rule), keep the `"parent"`'s, or raise an `"error"`
                that names all conflicts. Values written by an earlier reduction count as changes of this branch.

        Raises:
            BranchNotFound, EventTooLarge, HeadsMoved, InvalidValue, ReductionConflict, ReductionImpossible
        """
        names = None
        if children is not None:
            names = tuple(self._child_name(child) for child in check_several(children, "children"))
        command = Reduce(branch=self._name, children=names, default_rule=default, on_conflict=on_conflict)
        request = self._request(command, expected_version=expected_version, idempotency_key=idempotency_key)
        return await reduce(self._writer, self._views, request, {} if rules is None else rules)

    def _child_name(self, child: "Branch | str") -> str:
        if not isinstance(child, Branch):
            return check_name(child, "branch name")
        if child.run_id != self._run_id:
            raise InvalidValue("children", child.name, f"is a branch of another run, {shown(child.run_id)}")
        return child.name

    async def write(
        self, *commands: Command, expected_version: ExpectedVersion = ANY, idempotency_key: str | None = None
    ) -> Recorded:
        """Record several commands of `engine.commands` for this branch, all or none.

        `Engine.write` takes commands for several branches.

        Raises:
            InvalidInput: a command names another branch or cannot be recorded; and the errors of the commands.
        """
        commands = tuple(map(checked, commands))
        for command in commands:
            if command.branch != self._name:
                raise InvalidValue("command", command.branch, f"is its branch; the handle's is {shown(self._name)}")
        return await self._write(*commands, expected_version=expected_version, idempotency_key=idempotency_key)

    async def _write(
        self, *commands: Command, expected_version: ExpectedVersion = ANY, idempotency_key: str | None = None
    ) -> Recorded:
        """Record commands that are known to be valid."""
        request = self._request(*commands, expected_version=expected_version, idempotency_key=idempotency_key)
        return await self._writer.submit(request)

    def _request(self, *commands: Command, expected_version: ExpectedVersion, idempotency_key: str | None) -> Request:
        return Request(
            run_id=self._run_id,
            commands=commands,
            expected_version=check_expected_version(expected_version),
            idempotency_key=check_key(idempotency_key),
        )
