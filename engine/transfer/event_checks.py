"""Checks of an imported event: its type is known, and the engine could have recorded it where it is.

A forger who recomputes every hash can still not bring the views into an inconsistent state.
"""

from collections.abc import Iterator

from engine.codec import EVENT_TYPES, SCHEMA_VERSIONS, decode_event, encode_canonical
from engine.errors import CannotDecode, InvalidName, NewerEventVersion, UnknownEventType, shown
from engine.events import (
    AttemptCreated,
    AttemptUpdated,
    Event,
    ExternalRunRegistered,
    ExternalRunUpdated,
    ParametersReduced,
    ParametersSet,
    SourceCarriedOver,
    StepLogged,
    StepStatusChanged,
    is_misplaced,
)
from engine.names import check_name
from engine.ports import State, Stream
from engine.stored import StoredEvent
from engine.transfer.lines import EventLine
from engine.transfer.refusals import HistoryBroken, MalformedLine


def check_known(line: EventLine, number: int) -> None:
    """Raise unless this version reads events of a line's type and schema version.

    Args:
        number: the line's, for the error.

    Raises:
        UnknownEventType, NewerEventVersion, MalformedLine
    """
    if line.type not in EVENT_TYPES:
        reason = f"line {number}: no such event is known"
        raise UnknownEventType(line.type, line.schema_version, reason)
    current = SCHEMA_VERSIONS[line.type]
    if line.schema_version > current:
        reason = f"line {number}: this version of anabranch reads it up to version {current}"
        raise NewerEventVersion(line.type, line.schema_version, reason)
    if line.schema_version < 1:
        raise MalformedLine(number, f"schema_version {line.schema_version} is less than 1")


def decoded_at(line: int, event_type: str, schema_version: int, payload: bytes | None) -> Event:
    """Return a decoded event.

    Raises:
        CannotDecode: naming the line.
    """
    try:
        return decode_event(event_type, schema_version, payload or b"")
    except CannotDecode as error:
        raise type(error)(event_type, schema_version, f"line {line}: {error.reason}") from error


def check_form(row: StoredEvent, event: Event, line: int) -> None:
    """Raise unless an event's encoding, branch and names can have been recorded.

    Args:
        event: the decoded row.
        line: the event's line number, for the error.

    Raises:
        MalformedLine, HistoryBroken
    """
    if row.schema_version == SCHEMA_VERSIONS[row.event_type] and encode_canonical(event) != row.payload:
        raise MalformedLine(line, "its payload is not in the canonical encoding of an event")
    if is_misplaced(event):
        raise HistoryBroken(line, "link", f"a {row.event_type} cannot be in branch {shown(event.branch)}")
    try:
        for what, name in _names_given(event):
            check_name(name, what)
    except InvalidName as error:
        raise MalformedLine(line, str(error)) from error


def _names_given(event: Event) -> Iterator[tuple[str, str]]:
    match event:
        case ParametersSet(values=values) | ParametersReduced(values=values) | SourceCarriedOver(values=values):
            yield from (("parameter name", name) for name in values)
        case StepLogged(step=step):
            yield "step name", step
        case AttemptCreated(attempt_id=attempt_id):
            yield "attempt id", attempt_id
        case ExternalRunRegistered(task_id=task_id):
            yield "task id", task_id
        case _:
            pass
    if isinstance(event, SourceCarriedOver):
        for carried in (*event.steps, *event.hidden):
            yield "step name", carried.log.step
            yield from (("attempt id", attempt.attempt_id) for attempt in carried.log.attempts)


def check_references(event: Event, stream: Stream, state: State, line: int) -> None:
    """Raise `HistoryBroken` if an event refers to a step, attempt or external run that does not exist.

    Args:
        line: the event's line number, for the error.
    """
    match event:
        case AttemptUpdated(attempt_id=attempt_id):
            attempt = state.attempt(attempt_id, stream)
            if attempt is None or attempt.task_id != event.step:
                raise _missing(line, "attempt", attempt_id)
        case AttemptCreated(step=step) | StepStatusChanged(step=step) if state.step(stream, step) is None:
            raise _missing(line, "step", step)
        case ExternalRunUpdated(task_id=task_id) if state.external_run(stream, task_id) is None:
            raise _missing(line, "external run of task", task_id)
        case _:
            pass


def _missing(line: int, what: str, name: str) -> HistoryBroken:
    return HistoryBroken(line, "link", f"it refers to {what} {shown(name)}, which does not exist")


def attempts_created(event: Event) -> Iterator[str]:
    """Yield the ids of the attempts that an event creates."""
    if isinstance(event, AttemptCreated):
        yield event.attempt_id
    elif isinstance(event, SourceCarriedOver):
        for carried in (*event.steps, *event.hidden):
            yield from (attempt.attempt_id for attempt in carried.log.attempts)
