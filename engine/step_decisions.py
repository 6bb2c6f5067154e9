"""Decisions about the steps of a branch: their documents and attempts. Pure, like all decisions.

A step document is compared with the log and becomes the events for the differences.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from msgspec import UNSET, structs

from engine.codec import derived_id, same
from engine.commands import (
    LogStep,
    RemoveStep,
    SetStepStatus,
    StartAttempt,
    UpdateAttempt,
)
from engine.errors import (
    AttemptExists,
    AttemptNotFound,
    StepNotFound,
)
from engine.events import (
    AttemptCreated,
    AttemptUpdated,
    Event,
    StepLogged,
    StepRemoved,
    StepStatusChanged,
)
from engine.model import (
    CREATED,
    TERMINAL_STATUSES,
    AttemptChanges,
    AttemptDocument,
    AttemptLog,
    StepDocument,
    StepLog,
    TaskSpec,
    given,
    has_ended,
)
from engine.names import ROOT
from engine.ports import State, Stream


def _log_step(command: LogStep, stream: Stream, state: State) -> Sequence[Event]:
    document = command.document
    inherited = state.inherited_step(stream, document.step)
    if inherited is None:
        events = [*_step_description(command, stream, state)]
    elif _adds_nothing(command, inherited):
        return ()
    else:
        events = [_described(command, taken_over(inherited))]
    known = state.attempts(stream, document.step) if document.attempts else []
    for index, attempt in enumerate(document.attempts, start=1):
        if index > len(known):
            # Indexes that were carried over may have gaps: new attempts continue after the last one.
            last = known[-1].attempt_index if known else 0
            events.append(_created(stream, document, attempt, last + index - len(known)))
        else:
            events.extend(_updated(command, stream, attempt, known[index - 1]))
    return events


def _step_description(command: LogStep, stream: Stream, state: State) -> Sequence[Event]:
    document = command.document
    known = state.logged_step(stream, document.step)
    if known is None:
        return (_new_step(stream.branch, document, command.spec),)
    described = _described(command, known)
    if not same(structs.replace(known, status=described.status), described):
        return (described,)
    if known.status != described.status:
        return (StepStatusChanged(branch=stream.branch, step=document.step, status=described.status),)
    return ()


def _described(command: LogStep, known: StepLogged) -> StepLogged:
    """Return a known step's description, updated by a command."""
    said = {name: value for name, value in _step_fields(command, known).items() if value is not None}
    return structs.replace(known, **said, spec=known.spec if command.spec is None else command.spec)


def _new_step(branch: str, document: StepDocument, spec: TaskSpec | None) -> StepLogged:
    # Written out: building it from a mapping takes four times as long.
    return StepLogged(
        branch=branch,
        step=document.step,
        name=document.step if document.name is None else document.name,
        status=CREATED if document.status is None else document.status,
        step_type="task" if document.step_type is None else document.step_type,
        message=document.message or "",
        mock=bool(document.mock),
        spec=spec,
        details=document.details or {},
    )


def taken_over(inherited: StepLog) -> StepLogged:
    """Return the event that makes an inherited step a forked run's own; its attempts are not taken over."""
    return StepLogged(
        branch=ROOT,
        step=inherited.step,
        name=inherited.name,
        status=inherited.status,
        step_type=inherited.step_type,
        message=inherited.message,
        mock=inherited.mock,
        spec=inherited.spec,
        details=inherited.details,
    )


def _step_fields(command: LogStep, known: StepLogged | StepLog) -> dict[str, Any]:
    """Return a document's fields for the known step itself, without the attempts."""
    fields = structs.asdict(command.document)
    del fields["attempts"]
    if fields["details"] is not None:
        fields["details"] = _others(known.details, command) | fields["details"]
    return fields


def _others(details: Mapping[str, Any], command: LogStep) -> dict[str, Any]:
    """Return the known details that a command's document does not determine."""
    if command.own_details is None:
        return {}
    return {name: value for name, value in details.items() if name not in command.own_details}


def _created(stream: Stream, document: StepDocument, attempt: AttemptDocument, index: int) -> AttemptCreated:
    return AttemptCreated(
        branch=stream.branch,
        step=document.step,
        attempt_id=_attempt_id(stream, document.step, index),
        attempt_index=index,
        created_at=attempt.began_at,
        ended_at=attempt.ended_at,
        **_attempt_fields(attempt),
    )


def _attempt_fields(attempt: AttemptDocument) -> dict[str, Any]:
    """Return a document's fields for an attempt, without its times."""
    fields = structs.asdict(attempt)
    for time in ("began_at", "ended_at"):
        del fields[time]
    return fields


def _attempt_id(stream: Stream, step: str, index: int) -> str:
    # Derived from its place, so that two processes that log the same document agree on it.
    return derived_id(stream.run_id, stream.branch, step, index)


def _adds_nothing(command: LogStep, step: StepLog) -> bool:
    """Return whether a step's log already holds everything that is to be logged, attempts included."""
    document = command.document
    said = _step_fields(command, step) | {"spec": command.spec}
    return (
        all(value is None or same(getattr(step, name), value) for name, value in said.items())
        and len(document.attempts) <= len(step.attempts)
        and not any(_changed(command, *pair) for pair in zip(document.attempts, step.attempts, strict=False))
    )


def _changed(command: LogStep, attempt: AttemptDocument, known: AttemptLog) -> dict[str, Any]:
    """Return the differences between an attempt's document and its log."""
    fields = _attempt_fields(attempt)
    fields["details"] = _others(known.details, command) | attempt.details
    changed = {name: value for name, value in fields.items() if not same(getattr(known, name), value)}
    return changed | _times(attempt, known)


def _updated(command: LogStep, stream: Stream, attempt: AttemptDocument, known: AttemptLog) -> Sequence[Event]:
    changed = _changed(command, attempt, known)
    if not changed:
        return ()
    changes = AttemptChanges(**changed)
    return (AttemptUpdated(branch=stream.branch, step=known.step, attempt_id=known.attempt_id, changes=changes),)


def _times(attempt: AttemptDocument, known: AttemptLog) -> dict[str, datetime | None]:
    """Return the times that differ between an attempt's document and its log.

    A document without a time clears a known one if its status says that the attempt has not begun, or not ended.
    """
    times: dict[str, datetime | None] = {}
    if attempt.began_at is not None:
        if attempt.began_at != (known.submitted_at or known.created_at):
            times["submitted_at"] = attempt.began_at
    elif attempt.status == CREATED and known.submitted_at is not None:
        times["submitted_at"] = None
    if attempt.ended_at is not None:
        if attempt.ended_at != known.ended_at:
            times["ended_at"] = attempt.ended_at
    elif attempt.status not in TERMINAL_STATUSES and known.ended_at is not None:
        times["ended_at"] = None
    return times


def _set_step_status(command: SetStepStatus, stream: Stream, state: State) -> Sequence[Event]:
    inherited = state.inherited_step(stream, command.step)
    known = inherited or state.step(stream, command.step)
    if known is None:
        raise StepNotFound(stream.run_id, stream.branch, command.step)
    if known.status == command.status and command.reason in (None, known.status_reason):
        return ()
    changed = StepStatusChanged(branch=stream.branch, step=command.step, status=command.status, reason=command.reason)
    return (changed,) if inherited is None else (taken_over(inherited), changed)


def _remove_step(command: RemoveStep, stream: Stream, state: State) -> Sequence[Event]:
    if (state.step(stream, command.step) or state.inherited_step(stream, command.step)) is None:
        raise StepNotFound(stream.run_id, stream.branch, command.step)
    return (StepRemoved(branch=stream.branch, step=command.step, reason=command.reason),)


def check_attempts(events: Sequence[Event], stream: Stream, state: State) -> None:
    """Check that events create attempts with unused ids, and update existing attempts of the step that they name.

    Raises:
        AttemptExists, AttemptNotFound
    """
    steps: dict[str, str] = {}
    for event in events:
        if isinstance(event, AttemptCreated):
            if event.attempt_id in steps or state.attempt(event.attempt_id) is not None:
                raise AttemptExists(event.attempt_id)
            steps[event.attempt_id] = event.step
        elif isinstance(event, AttemptUpdated):
            known = state.attempt(event.attempt_id, stream)
            if event.step != (steps.get(event.attempt_id) if known is None else known.task_id):
                raise AttemptNotFound(stream.run_id, event.attempt_id)


def _start_attempt(command: StartAttempt, stream: Stream, state: State) -> Sequence[Event]:
    if not command.fresh and state.attempt(command.attempt_id) is not None:
        raise AttemptExists(command.attempt_id)
    name, status = command.step, command.status
    step = state.step(stream, name)
    created = AttemptCreated(
        branch=stream.branch,
        step=name,
        attempt_id=command.attempt_id,
        attempt_index=1 if step is None else step.attempts + 1,
        status=status,
        step_status=None if step is None or step.status == status else status,
        **given(command.fields),
    )
    if step is not None:
        return (created,)
    inherited = state.inherited_step(stream, name)
    if inherited is not None:
        return structs.replace(taken_over(inherited), status=status), created
    return StepLogged(branch=stream.branch, step=name, name=name, status=status), created


def _update_attempt(command: UpdateAttempt, stream: Stream, state: State) -> Sequence[Event]:
    attempt = state.attempt(command.attempt_id, stream)
    if attempt is None:
        raise AttemptNotFound(stream.run_id, command.attempt_id)
    changes = command.changes
    if command.unless_ended and has_ended(attempt.status, attempt.ended_at):
        return ()
    if command.step_status is None:
        if not given(changes):
            return ()
    elif changes.status_reason is UNSET and attempt.status_reason is not None:
        changes = structs.replace(changes, status_reason=None)
    step_status = _step_status(command, attempt.task_id, stream, state)
    updated = AttemptUpdated(
        branch=stream.branch,
        step=attempt.task_id,
        attempt_id=command.attempt_id,
        changes=changes,
        step_status=step_status,
        ends=command.step_status not in TERMINAL_STATUSES | {None, step_status},
    )
    return (updated,)


def _step_status(command: UpdateAttempt, name: str, stream: Stream, state: State) -> str | None:
    """Return the step's new status, None if unchanged; only the step's current attempt changes it."""
    if command.step_status is None:
        return None
    step = state.step(stream, name)
    if step is None or step.current_attempt_id != command.attempt_id or step.status == command.step_status:
        return None
    return command.step_status


Handler: TypeAlias = Callable[[Any, Stream, State], Sequence[Event]]
"""Decides the events of one type of command, for an open stream."""

STEP_HANDLERS: dict[type, Handler] = {
    LogStep: _log_step,
    SetStepStatus: _set_step_status,
    RemoveStep: _remove_step,
    StartAttempt: _start_attempt,
    UpdateAttempt: _update_attempt,
}
