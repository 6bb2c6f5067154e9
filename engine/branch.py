"""The handle of one branch: writing its parameters, steps and attempts, its forks and their reduction.

Each method is one request; `branch_reads.py` has the reads.
"""

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

from typing_extensions import Unpack

from engine.attempt import Attempt
from engine.attempt_block import AttemptBlock, Started
from engine.attempt_fields import AttemptFields, StartOptions, attempt_fields, check_attempt_document
from engine.branch_reads import BranchReads
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
from engine.errors import InvalidValue, shown
from engine.event_ids import new_event_id
from engine.events import AttemptCreated, ParametersSet
from engine.expected_version import ANY, ExpectedVersion, check_expected_version
from engine.model import CREATED, RUNNING, AttemptDocument, Reduction, StepDocument, TaskSpec
from engine.names import check_key, check_name, child_branch
from engine.ports import Recorded
from engine.reducing import Rule, reduce
from engine.values import (
    check_document,
    check_flag,
    check_optional,
    check_parameters,
    check_several,
    check_task_spec,
    check_text,
)
from engine.views import Views
from engine.writer import Writer


class Branch(BranchReads):
    """One branch of a run. Make one by `Run.branch` or `Branch.fork`; a `Run` is its own root branch.

    Every write returns once it is durable. `expected_version` is what this branch's stream must stand at: a version,
    `ANY`, `NO_STREAM` or `STREAM_EXISTS`; a fork writes to the child's, and takes none. With an `idempotency_key`
    (unique in the run) a write is recorded once, however often it is retried.

    Every write may raise `VersionConflict`, `IdempotencyConflict`, `InvalidInput`, `StoreUnavailable`, `OutcomeUnknown`
    and `EngineClosed`, and records nothing then (`OutcomeUnknown`: it may have).
    """

    def __init__(self, writer: Writer, views: Views, run_id: str, name: str) -> None:
        super().__init__(views, run_id, name)
        self._writer = writer

    async def fork(
        self, name: str, *, status: str = CREATED, exist_ok: bool = False, idempotency_key: str | None = None
    ) -> "Branch":
        """Open a child branch that sees this branch's parameters as they stand now. Nothing is copied.

        Args:
            name: relative to this branch.
            status: the status that it begins with.
            exist_ok: return a branch of that name that was forked from this one already, as it is.

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
        """Set the branch's status; of the root branch, the run's. Records nothing where it is that for that reason."""
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
        """Set what else is to be kept with the branch's own log."""
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
        """Record what the log does not yet say of a step: called twice with the same, it records nothing.

        What is not given stays as it is known. A new step is `CREATED`, of the type `task`, and named as internally.

        Args:
            step: its internal name.
            name: its name for people.
            details: all that else is to be kept with it.
            attempts: all attempts so far, in order.
            spec: what makes the step a task.
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
        """Set a step's status. Records nothing when it is that already.

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
        """Take a step and its attempts out of the views, also one that a forked run has from its source.

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
        """Open the next attempt at a step, which is logged when it is new.

        Args:
            status: what the attempt begins with, and the step goes on to.
            attempt_id: the caller's own id for it, unique in the file. Of several who ask for one at once one gets it,
                and the others `AttemptExists`: so a step can be claimed.
            fields: any of `operator_key`, `operator_type`, `external_id`, `operator_data`, `relative_path`, `message`,
                `inputs`, `outputs`, `metrics` and `details`.

        Raises:
            AttemptExists
        """
        request = self._starting(
            step,
            status=status,
            attempt_id=attempt_id,
            expected_version=expected_version,
            idempotency_key=idempotency_key,
            **fields,
        )
        return self._started(await self._writer.submit(request))

    async def _start_to_the_end(self, step: str, **options: Unpack[StartOptions]) -> Started:
        """`start_attempt` for a caller who has to know of the attempt even when cancelled meanwhile."""
        recorded, cancelled = await self._writer.submit_to_the_end(self._starting(step, **options))
        return self._started(recorded), cancelled

    def _starting(
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
        return Attempt(
            self._writer,
            self._views,
            self._run_id,
            self._name,
            created.step,
            created.attempt_id,
            created.attempt_index,
            duplicate=recorded.duplicate,
        )

    def attempt(self, step: str, **options: Unpack[StartOptions]) -> AbstractAsyncContextManager[Attempt]:
        """Run a block as an attempt: `RUNNING`, then `COMPLETED`, `FAILED` or, when cancelled, `CANCELLED`.

        The step's status follows. What the block raises goes on to the caller, with a note when the outcome could not
        be recorded. An attempt that has ended already, in the block or by somebody else, is left as it is:
        `Attempt.finish` takes the step along, `Attempt.update` changes the attempt alone. Takes the arguments of
        `start_attempt`.

        With an idempotency key that was used before it is the same attempt, which `Attempt.duplicate` says: where that
        has ended, the block changes nothing of how.

        A block that is cancelled is left once its end is recorded: for as long as the write lock is not to be had, that
        is up to the busy timeout.
        """
        return AttemptBlock(partial(self._start_to_the_end, step, **options), self._writer.blocks)

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

        The event names every source of every value: some 40 bytes for each child and each name of a rule that takes all
        (`collect`, `sum`, `mean`, `merge`, `concat`, `unanimous`, functions). 1,000 children fold some 25 such names
        into an event of 1 MiB, and more with a larger `event_bytes_max`. Folding them by and by is no way out: the sum
        of the second half is set, not added.

        Args:
            children: handles, or full names such as `"fit.a"`, in the order that the rules take them; all of this
                branch's when not given, whatever became of them, those that were reduced before too: what such a one
                set is folded again, over what this branch has set since. Name the children where some do not count.
            rules: by parameter name: `last`, `first`, `collect`, `sum`, `min`, `max`, `mean`, `merge`, `concat`,
                `unanimous`, or a function of the children's values. A function is called here and now, never on replay.
                `min` and `max` of a NaN among the values are that NaN. A rule for a name that no child set is for none.
            default: the rule for every other name, one of these; a function is for names that it is given for.
            on_conflict: what to do with a name that this branch has changed since the fork, and that a child has set
                to something else: take the `"child"`'s (by its rule), keep the `"parent"`'s, or raise an `"error"` that
                names them all. What an earlier reduction wrote counts as a change of this branch.

        Raises:
            BranchNotFound, EventTooLarge, HeadsMoved, InvalidValue, ReductionConflict, ReductionImpossible
        """
        wanted = None
        if children is not None:
            wanted = tuple(self._child_name(child) for child in check_several(children, "children"))
        command = Reduce(branch=self._name, children=wanted, default_rule=default, on_conflict=on_conflict)
        write = partial(self._write, expected_version=expected_version, idempotency_key=idempotency_key)
        is_recorded = partial(self._writer.has_recorded, self._run_id, check_key(idempotency_key))
        return await reduce(self._run_id, write, self._views, command, {} if rules is None else rules, is_recorded)

    def _child_name(self, child: "Branch | str") -> str:
        if not isinstance(child, Branch):
            return check_name(child, "branch name")
        if child.run_id != self._run_id:
            raise InvalidValue("children", child.name, f"is a branch of run {child.run_id!r}, not of {self._run_id!r}")
        return child.name

    async def write(
        self, *commands: Command, expected_version: ExpectedVersion = ANY, idempotency_key: str | None = None
    ) -> Recorded:
        """Record several commands of `engine.commands`, which name this branch, together or not at all.

        `Engine.write` is for those of several branches.

        Raises:
            InvalidInput: a command names another branch, or holds what cannot be recorded; and what the commands raise.
        """
        commands = tuple(map(checked, commands))
        for command in commands:
            if command.branch != self._name:
                raise InvalidValue("command", command.branch, f"is its branch, and not {shown(self._name)}")
        return await self._write(*commands, expected_version=expected_version, idempotency_key=idempotency_key)

    async def _write(
        self, *commands: Command, expected_version: ExpectedVersion = ANY, idempotency_key: str | None = None
    ) -> Recorded:
        """`write` for commands that were made here of what was checked."""
        request = self._request(*commands, expected_version=expected_version, idempotency_key=idempotency_key)
        return await self._writer.submit(request)

    def _request(self, *commands: Command, expected_version: ExpectedVersion, idempotency_key: str | None) -> Request:
        return Request(
            run_id=self._run_id,
            commands=commands,
            expected_version=check_expected_version(expected_version),
            idempotency_key=check_key(idempotency_key),
        )
