"""Decisions about tasks: steps with a specification, their attempts one by one, and their external runs. Pure.

A polling orchestrator repeats itself; only changes become events.
"""

from collections.abc import Sequence

from msgspec import structs

from engine.codec import same
from engine.commands import CancelExternalRun, ChangeAttempt, CreateAttempt, LogExternalRun, LogTask
from engine.errors import AttemptExists, AttemptNotFound, ExternalRunNotFound, TaskNotFound
from engine.events import (
    AttemptCreated,
    AttemptUpdated,
    Event,
    ExternalRunRegistered,
    ExternalRunUpdated,
    StepLogged,
)
from engine.model import (
    CANCELLED,
    PENDING,
    TERMINAL_STATUSES,
    AttemptChanges,
    ExternalRun,
    given,
    never_submitted,
)
from engine.ports import State, Stream
from engine.step_decisions import Handler, taken_over


def _log_task(command: LogTask, stream: Stream, state: State) -> Sequence[Event]:
    inherited = state.inherited_step(stream, command.task_id)
    if inherited is not None and same(inherited.spec, command.spec):
        return ()
    known = state.logged_step(stream, command.task_id)
    if known is None:
        step = command.task_id
        return (StepLogged(branch=stream.branch, step=step, name=step, status=PENDING, spec=command.spec),)
    return () if same(known.spec, command.spec) else (structs.replace(known, spec=command.spec),)


def _create_attempt(command: CreateAttempt, stream: Stream, state: State) -> Sequence[Event]:
    inherited = state.inherited_step(stream, command.task_id)
    task = inherited or state.logged_step(stream, command.task_id)
    if task is None or task.spec is None:
        raise TaskNotFound(stream.run_id, command.task_id)
    if state.attempt(command.attempt_id) is not None:
        raise AttemptExists(command.attempt_id)
    step = state.step(stream, command.task_id)
    created = AttemptCreated(
        branch=stream.branch,
        step=command.task_id,
        attempt_id=command.attempt_id,
        attempt_index=1 if step is None else step.attempts + 1,
        status=command.status,
        **given(command.fields),
    )
    return (created,) if inherited is None else (taken_over(inherited), created)


def _change_attempt(command: ChangeAttempt, stream: Stream, state: State) -> Sequence[Event]:
    known = state.logged_attempt(command.attempt_id, stream)
    if known is None:
        raise AttemptNotFound(stream.run_id, command.attempt_id)
    changed = {name: value for name, value in given(command.changes).items() if not same(getattr(known, name), value)}
    if not changed or (command.when == "orphaned" and not never_submitted(known)):
        return ()
    changes = AttemptChanges(**changed)
    return (AttemptUpdated(branch=stream.branch, step=known.step, attempt_id=known.attempt_id, changes=changes),)


def _log_external_run(command: LogExternalRun, stream: Stream, state: State) -> Sequence[Event]:
    event = command.event
    known = state.external_run(stream, event.task_id)
    inherited = state.inherited_step(stream, event.task_id)
    if isinstance(event, ExternalRunRegistered):
        if (inherited or state.step(stream, event.task_id)) is None:
            raise TaskNotFound(stream.run_id, event.task_id)
    elif known is None:
        raise ExternalRunNotFound(stream.run_id, event.task_id)
    if known is not None and _is_known(known, event):
        return ()
    return (event,) if inherited is None else (taken_over(inherited), event)


def _is_known(known: ExternalRun, event: ExternalRunRegistered | ExternalRunUpdated) -> bool:
    said = {name: value for name, value in structs.asdict(event).items() if name != "branch"}
    return same({name: getattr(known, name) for name in said}, said)


def _cancel_external_run(command: CancelExternalRun, stream: Stream, state: State) -> Sequence[Event]:
    if (state.step(stream, command.task_id) or state.inherited_step(stream, command.task_id)) is None:
        raise TaskNotFound(stream.run_id, command.task_id)
    known = state.external_run(stream, command.task_id)
    if known is None or known.status in TERMINAL_STATUSES:
        return ()
    cancelled = ExternalRunUpdated(
        branch=stream.branch,
        task_id=known.task_id,
        status=CANCELLED,
        external_id=known.external_id,
        operator_data=known.operator_data,
        relative_path=known.relative_path,
    )
    return (cancelled,)


TASK_HANDLERS: dict[type, Handler] = {
    LogTask: _log_task,
    CreateAttempt: _create_attempt,
    ChangeAttempt: _change_attempt,
    LogExternalRun: _log_external_run,
    CancelExternalRun: _cancel_external_run,
}
