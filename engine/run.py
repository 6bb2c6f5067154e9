"""The handles that callers hold: a run, its branches, their attempts. Each method is one request or one read."""

import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from typing import Any, TypeAlias, cast

import anyio
from typing_extensions import override

from engine.attempt import Attempt, attempt_fields, derived_attempt_id
from engine.codec import new_event_id
from engine.commands import (
    Command,
    Configure,
    DescribeBranch,
    Finalize,
    Fork,
    LogStep,
    OnConflict,
    Record,
    Reduce,
    RegisterExternalRun,
    RemoveStep,
    Request,
    SetStatus,
    SetStepStatus,
    StartAttempt,
    UpdateExternalRun,
)
from engine.decisions import HeadsMoved
from engine.errors import InvalidValue
from engine.events import AttemptCreated, ParametersReduced, ParametersSet
from engine.expected_version import ANY, ExpectedVersion, check_expected_version
from engine.model import (
    CANCELLED,
    COMPLETED,
    CREATED,
    FAILED,
    RUNNING,
    AttemptDocument,
    AttemptLog,
    BranchLog,
    ExternalRun,
    Head,
    Parameter,
    Reduction,
    RunInfo,
    RunLog,
    Source,
    StepDocument,
    StepLog,
    TaskSpec,
)
from engine.names import ROOT, check_branch, check_name, child_branch
from engine.ports import Point, Recorded, Views
from engine.reduction import check_rule
from engine.values import check_document, check_parameter, check_parameters, check_text
from engine.writer import Writer

Rule: TypeAlias = str | Callable[[list[Any]], Any]
"""The name of a built-in rule, or a function from the children's values, in their order, to the parent's value."""


class Branch:
    """One branch of a run. Make one by `Run.branch` or `Branch.fork`; a `Run` is its own root branch.

    Every write returns once it is durable. `expected_version` is what this branch's stream must stand at: a version,
    `ANY`, `NO_STREAM` or `STREAM_EXISTS`. With an `idempotency_key` (unique in the run) a write is recorded once,
    however often it is retried.

    Every write may raise `VersionConflict`, `IdempotencyConflict`, `InvalidInput`, `StoreUnavailable`, `OutcomeUnknown`
    and `EngineClosed`, and records nothing then (`OutcomeUnknown`: it may have).
    """

    def __init__(self, writer: Writer, views: Views, run_id: str, name: str) -> None:
        self._writer = writer
        self._views = views
        self._run_id = run_id
        self._name = name

    @override
    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._run_id!a} {self._name!a}>"

    @property
    def run_id(self) -> str:
        return self._run_id

    @property
    def name(self) -> str:
        """The branch's full name; `""` for the root branch."""
        return self._name

    async def fork(self, name: str, *, status: str = CREATED, idempotency_key: str | None = None) -> "Branch":
        """Open a child branch that sees this branch's parameters as they stand now. Nothing is copied.

        Args:
            name: relative to this branch.
            status: the status that it begins with.

        Raises:
            BranchExists
        """
        branch = child_branch(self._name, name)
        command = Fork(branch=branch, parent=self._name, status=check_name(status, "status"))
        await self._write(command, idempotency_key=idempotency_key)
        return Branch(self._writer, self._views, self._run_id, branch)

    async def children(self) -> list[str]:
        """Return the full names of the branches forked from this one, in the order they were forked."""
        return await self._views.children(self._run_id, self._name)

    async def head(self) -> Head:
        """Return the stream's last version and hash."""
        stream = await self._views.stream(self._run_id, self._name)
        return Head(stream.branch, stream.version, stream.hash)

    async def set_parameters(
        self,
        values: Mapping[str, Any],
        *,
        expected_version: ExpectedVersion = ANY,
        idempotency_key: str | None = None,
    ) -> Recorded:
        """Set parameters on this branch alone: plain values, or `Parameter(value, kind)`.

        Raises:
            InvalidName, InvalidValue, EventTooLarge
        """
        checked = check_parameters(values)
        if not checked:
            raise InvalidValue("parameters", values, "is empty")
        event = ParametersSet(branch=self._name, values=checked)
        command = Record(branch=self._name, events=(event,))
        return await self._write(command, expected_version=expected_version, idempotency_key=idempotency_key)

    async def parameters(
        self, *, at: Point = None, names: Collection[str] | None = None, inherited: bool = True
    ) -> dict[str, Parameter]:
        """Return what this branch sees, by name.

        Args:
            at: as of a version of this branch's stream, or an aware time; None for now.
            names: only these.
            inherited: also what comes through the forks; False for what the branch set or reduced itself.

        Raises:
            PointNotFound
        """
        return await self._views.parameters(self._run_id, self._name, at=at, names=names, inherited=inherited)

    async def sources(self) -> dict[str, Source]:
        """Return for every parameter this branch sees the event that set or reduced it: branch and version."""
        return await self._views.sources(self._run_id, self._name)

    async def set_status(
        self,
        status: str,
        reason: str | None = None,
        *,
        expected_version: ExpectedVersion = ANY,
        idempotency_key: str | None = None,
    ) -> Recorded:
        """Set the branch's status; for the root branch, the run's. Records nothing when it is that already."""
        command = SetStatus(branch=self._name, status=check_name(status, "status"), reason=_optional_text(reason))
        return await self._write(command, expected_version=expected_version, idempotency_key=idempotency_key)

    async def describe(self, details: Mapping[str, Any]) -> Recorded:
        """Set what else is to be kept with the branch's own log."""
        return await self._write(DescribeBranch(branch=self._name, details=check_document(details, "details")))

    async def log_step(
        self,
        step: str,
        *,
        name: str | None = None,
        status: str = CREATED,
        step_type: str = "task",
        message: str = "",
        mock: bool = False,
        details: Mapping[str, Any] | None = None,
        attempts: Iterable[AttemptDocument] = (),
        spec: TaskSpec | None = None,
        expected_version: ExpectedVersion = ANY,
        idempotency_key: str | None = None,
    ) -> Recorded:
        """Record what the log does not yet say of a step: called twice with the same, it records nothing.

        Args:
            step: its internal name.
            name: its name for people; `step` unless given.
            attempts: all attempts so far, in order.
            spec: what makes the step a task.
        """
        document = StepDocument(
            step=check_name(step, "step name"),
            name=check_text(step if name is None else name, "name"),
            status=check_name(status, "status"),
            step_type=check_text(step_type, "step_type"),
            message=check_text(message, "message"),
            mock=mock,
            details=check_document(details or {}, "details"),
            attempts=[checked_attempt(attempt) for attempt in attempts],
        )
        command = LogStep(branch=self._name, document=document, spec=spec)
        return await self._write(command, expected_version=expected_version, idempotency_key=idempotency_key)

    async def set_step_status(self, step: str, status: str, reason: str | None = None) -> Recorded:
        """Set a step's status.

        Raises:
            StepNotFound
        """
        check_name(status, "status")
        command = SetStepStatus(branch=self._name, step=step, status=status, reason=_optional_text(reason))
        return await self._write(command)

    async def remove_step(self, step: str, reason: str | None = None) -> Recorded:
        """Take a step and its attempts out of the views. Its history stays in the log.

        Raises:
            StepNotFound
        """
        return await self._write(RemoveStep(branch=self._name, step=step, reason=_optional_text(reason)))

    async def steps(self) -> dict[str, StepLog]:
        """Return this branch's own steps by internal name, in the order they were first logged."""
        return await self._views.steps(self._run_id, self._name)

    async def step(self, step: str) -> StepLog:
        """Return one step with its attempts.

        Raises:
            StepNotFound
        """
        return await self._views.step(self._run_id, self._name, step)

    async def start_attempt(
        self,
        step: str,
        *,
        status: str = RUNNING,
        attempt_id: str | None = None,
        expected_version: ExpectedVersion = ANY,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> Attempt:
        """Open the next attempt at a step, which is logged when it is new.

        Args:
            status: what the attempt, and with it the step, goes on to from `CREATED` at once.
            attempt_id: the caller's own id for it, unique in the file.
            fields: any of `operator_key`, `operator_type`, `external_id`, `operator_data`, `relative_path`, `message`,
                `inputs`, `outputs`, `metrics` and `details`.

        Raises:
            AttemptExists
        """
        if attempt_id is None:
            attempt_id = new_event_id().hex()
            if idempotency_key is not None:
                attempt_id = derived_attempt_id(self._run_id, idempotency_key)
        command = StartAttempt(
            branch=self._name,
            step=check_name(step, "step name"),
            attempt_id=check_name(attempt_id, "attempt id"),
            status=check_name(status, "status"),
            fields=attempt_fields(fields),
        )
        recorded = await self._write(command, expected_version=expected_version, idempotency_key=idempotency_key)
        created = next(each.event for each in recorded.events if isinstance(each.event, AttemptCreated))
        return Attempt(
            self._writer,
            self._views,
            self._run_id,
            self._name,
            step,
            created.attempt_id,
            created.attempt_index,
        )

    @contextlib.asynccontextmanager
    async def attempt(self, step: str, **fields: Any) -> AsyncIterator[Attempt]:
        """Run a block as an attempt: `CREATED`, `RUNNING`, then `COMPLETED`, `FAILED` or, when cancelled, `CANCELLED`.

        The step's status follows. What the block raises goes on to the caller. An attempt that the block finished
        itself is left as it is.
        """
        attempt = await self.start_attempt(step, **fields)
        try:
            yield attempt
        except BaseException as error:
            status = FAILED if isinstance(error, Exception) else CANCELLED
            with anyio.CancelScope(shield=True):  # the outcome is recorded even when the block was cancelled
                await attempt.finish_unless_finished(status, _reason(error))
            raise
        await attempt.finish_unless_finished(COMPLETED, None)

    async def attempts(self, step: str | None = None) -> list[AttemptLog]:
        """Return this branch's attempts, or those of one step, in the order they were created."""
        found = await self._views.attempts(self._run_id, self._name, step)
        return [attempt for _, attempt in found]

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

        Args:
            children: in the order that the rules take them; all of this branch's when not given.
            rules: by parameter name: `last`, `first`, `collect`, `sum`, `min`, `max`, `mean`, `merge`, `concat`,
                `unanimous`, or a function of the children's values. A function is called here and now, never on replay.
            default: the rule for every other name.
            on_conflict: what to do with a name that both this branch and a child changed since the fork: take the
                `"child"`'s (by its rule), keep the `"parent"`'s, or raise an `"error"` that names them all.

        Raises:
            BranchNotFound, ReductionConflict, ReductionImpossible
        """
        names = None if children is None else tuple(_branch_name(child) for child in children)
        built_in = {name: rule for name, rule in (rules or {}).items() if isinstance(rule, str)}
        functions = {name: rule for name, rule in (rules or {}).items() if not isinstance(rule, str)}
        for name, rule in {**built_in, "default": default}.items():
            check_rule(name, rule)
        if on_conflict not in ("child", "parent", "error"):
            raise InvalidValue("on_conflict", on_conflict, "is none of child, parent, error")
        while True:
            command = Reduce(
                branch=self._name,
                children=names,
                rules=built_in,
                default_rule=default,
                on_conflict=on_conflict,
            )
            if functions:
                command = await self._computed(command, functions)
            try:
                recorded = await self._write(
                    command, expected_version=expected_version, idempotency_key=idempotency_key
                )
            except HeadsMoved:
                continue  # a child has written in between: look again
            return _as_reduction(recorded)

    async def external_run(self, task_id: str) -> ExternalRun | None:
        """Return a task's external run (v1), if it has one."""
        return await self._views.external_run(self._run_id, self._name, task_id)

    async def register_external_run(
        self,
        task_id: str,
        *,
        operator_type: str,
        status: str,
        external_id: str | None = None,
        operator_data: Mapping[str, Any] | None = None,
        relative_path: str | None = None,
    ) -> Recorded:
        """Register a task's external run in the old (v1) way; again replaces it.

        Raises:
            StepNotFound: there is no such task.
        """
        command = RegisterExternalRun(
            branch=self._name,
            task_id=task_id,
            operator_type=check_text(operator_type, "operator_type"),
            status=check_name(status, "status"),
            external_id=_optional_text(external_id),
            operator_data=None if operator_data is None else check_document(operator_data, "operator_data"),
            relative_path=_optional_text(relative_path),
        )
        return await self._write(command)

    async def update_external_run(
        self,
        task_id: str,
        *,
        status: str,
        external_id: str | None = None,
        operator_data: Mapping[str, Any] | None = None,
        relative_path: str | None = None,
    ) -> Recorded:
        """Replace what is known of a registered external run.

        Raises:
            StepNotFound: the task has none.
        """
        command = UpdateExternalRun(
            branch=self._name,
            task_id=task_id,
            status=check_name(status, "status"),
            external_id=_optional_text(external_id),
            operator_data=None if operator_data is None else check_document(operator_data, "operator_data"),
            relative_path=_optional_text(relative_path),
        )
        return await self._write(command)

    async def compile(self) -> BranchLog | RunLog:
        """Return the compiled log of this branch and all below it; of a run, its run log."""
        return await self._views.compile_branch(self._run_id, self._name)

    async def write(
        self,
        *commands: Command,
        expected_version: ExpectedVersion = ANY,
        idempotency_key: str | None = None,
    ) -> Recorded:
        """Record several commands together or not at all; what the stores are built on."""
        if idempotency_key is not None:
            check_name(idempotency_key, "idempotency key")
        request = Request(
            run_id=self._run_id,
            commands=commands,
            expected_version=check_expected_version(expected_version),
            idempotency_key=idempotency_key,
        )
        return await self._writer.submit(request)

    async def _write(
        self, command: Command, *, expected_version: ExpectedVersion = ANY, idempotency_key: str | None = None
    ) -> Recorded:
        return await self.write(command, expected_version=expected_version, idempotency_key=idempotency_key)

    async def _computed(self, command: Reduce, functions: Mapping[str, Callable[[list[Any]], Any]]) -> Reduce:
        read = await self._views.own_values(self._run_id, self._name, command.children)
        computed = {}
        for name, function in functions.items():
            if name in read.values:
                value = function([parameter.value for parameter in read.values[name]])
                computed[name] = value if isinstance(value, Parameter) else Parameter(value)
                check_parameter(computed[name], name)
        return Reduce(
            branch=command.branch,
            children=tuple(head.branch for head in read.heads),
            rules=command.rules,
            default_rule=command.default_rule,
            on_conflict=command.on_conflict,
            computed=computed,
            relies_on=read.heads,
        )


class Run(Branch):
    """A run, which is its own root branch. Make one by `Engine.create_run` or `Engine.run`."""

    def __init__(self, writer: Writer, views: Views, run_id: str) -> None:
        super().__init__(writer, views, run_id, ROOT)

    async def branch(self, name: str | None) -> Branch:
        """Return the branch of that full name; `""` and None are the root.

        Raises:
            BranchNotFound
        """
        stream = await self._views.stream(self.run_id, check_branch(name))
        return Branch(self._writer, self._views, self.run_id, stream.branch)

    async def find_attempt(self, attempt_id: str) -> Attempt:
        """Return the handle of an attempt of any branch of the run.

        Raises:
            AttemptNotFound
        """
        branch, log = await self._views.attempt(self.run_id, attempt_id)
        return Attempt(self._writer, self._views, self.run_id, branch, log.step, attempt_id, log.attempt_index)

    async def info(self) -> RunInfo:
        """Return the run's row in the list of runs."""
        return await self._views.run_info(self.run_id)

    async def configure(self, config: Mapping[str, Any]) -> Recorded:
        """Merge into the run's configuration what differs from it."""
        return await self.write(Configure(config=check_document(config, "config")))

    async def log_job(self, job: Mapping[str, Any]) -> Recorded:
        """Set the run's job log, a document of the caller's own shape."""
        return await self.write(Configure(job=check_document(job, "job")))

    async def finalize(self, status: str | None = None, *, idempotency_key: str | None = None) -> Recorded:
        """Record the head of every stream, after setting the run's status if one is given.

        It closes nothing: a run that is retried goes on in the same streams.
        """
        commands: list[Command] = []
        if status is not None:
            commands.append(SetStatus(status=check_name(status, "status")))
        return await self.write(*commands, Finalize(), idempotency_key=idempotency_key)

    async def all_attempts(self) -> list[tuple[str, AttemptLog]]:
        """Return the attempts of every branch, each with its branch, in the order they were created."""
        return await self._views.attempts(self.run_id, None, None)

    @override
    async def compile(self) -> RunLog:
        """Return the compiled, nested run log."""
        return await self._views.compile(self.run_id)


def checked_attempt(attempt: AttemptDocument) -> AttemptDocument:
    """Return an attempt's document when it can be recorded."""
    check_name(attempt.status, "status")
    check_text(attempt.message, "message")
    check_document(attempt.details, "details")
    for values in (attempt.inputs, attempt.outputs, attempt.metrics):
        check_parameters(values)
    return attempt


def _optional_text(text: str | None) -> str | None:
    return None if text is None else check_text(text, "text")


def _branch_name(branch: Branch | str) -> str:
    return branch.name if isinstance(branch, Branch) else check_name(branch, "branch name")


_REASON_CHARACTERS_MAX = 1000


def _reason(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}".encode(errors="backslashreplace").decode()
    return text[:_REASON_CHARACTERS_MAX]


def _as_reduction(recorded: Recorded) -> Reduction:
    envelope = recorded.events[-1]
    event = cast("ParametersReduced", envelope.event)
    return Reduction(
        run_id=envelope.run_id,
        branch=envelope.branch,
        stream_version=envelope.stream_version,
        children=event.children,
        rules=event.rules,
        values=event.values,
        sources=event.sources,
        conflicts=event.conflicts,
    )
