"""Validation of commands that callers construct themselves.

Handles validate their arguments before they make commands. A command made by hand may hold anything, so its fields are
encoded and then decoded by their types, as a log's events are. The result is plain data that shares nothing with the
caller's, and everything recorded from it can be read again and imported elsewhere.
"""

from collections.abc import Callable
from typing import Any, Final, get_args, get_type_hints

import msgspec
from msgspec import UNSET, Struct, structs

from engine.codec import SCHEMA_VERSIONS, decode_event, encode_canonical
from engine.commands import Command, Configure, Finalize, LogExternalRun, OpenRun, Pin, Record, StartAttempt
from engine.encoding.free_form import check_of
from engine.errors import CannotDecode, InvalidName, InvalidValue, shown
from engine.events import (
    AttemptCreated,
    AttemptUpdated,
    BranchLogged,
    BranchStatusChanged,
    Event,
    ExternalRunRegistered,
    ExternalRunUpdated,
    JobLogged,
    ParametersSet,
    RunConfigured,
    RunCreated,
    RunForked,
    RunPinned,
    RunStatusChanged,
    RunUnpinned,
    StepLogged,
    StepRemoved,
    StepStatusChanged,
    is_misplaced,
)
from engine.model import NOT_INITIAL_FIELDS, Parameter
from engine.names import ROOT, check_branch, check_name

_EXTERNAL_RUN_EVENTS: Final = (ExternalRunRegistered, ExternalRunUpdated)
_STEP_EVENTS: Final = (StepLogged, StepStatusChanged, StepRemoved, AttemptCreated, AttemptUpdated)
_BRANCH_EVENTS: Final = (BranchLogged, BranchStatusChanged, ParametersSet)
_RUN_EVENTS: Final = (RunStatusChanged, RunConfigured, JobLogged, RunPinned, RunUnpinned)

_EVENT_FIELDS: Final[dict[type, tuple[str, tuple[type, ...]]]] = {
    OpenRun: ("event", (RunCreated, RunForked)),
    # Not events that open a stream, nor those whose content only a decision can determine: heads, reductions, erasures.
    Record: ("events", (*_RUN_EVENTS, *_BRANCH_EVENTS, *_STEP_EVENTS, *_EXTERNAL_RUN_EVENTS)),
    LogExternalRun: ("event", _EXTERNAL_RUN_EVENTS),
}
"""The field of a command that holds events, and the allowed event types, which no payload tells."""

_RUN_COMMANDS: Final = (OpenRun, Configure, Pin, Finalize)

_NAME_FIELDS: Final = ("step", "task_id", "attempt_id", "status", "step_status")
_PARAMETER_FIELDS: Final = ("values", "parameters", "computed")


def checked(command: Command) -> Command:
    """Return a validated copy of a command, as plain data.

    Raises:
        InvalidValue: it is not a command, a field has the wrong type or cannot be recorded, or an event is of another
            branch.
        InvalidName
    """
    copy = _COPIERS.get(type(command))
    if copy is None:
        raise InvalidValue("command", command, "is not a command")
    try:
        copied: Command = copy(command)
    except InvalidName:
        raise
    except (CannotDecode, msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidValue("command", command, f"cannot be recorded: {_plain_value(command) or error}") from error
    return copied


def _plain_value(command: Command) -> str:
    """Name a value of the command that is not a `Parameter`, a likely mistake; return "" if there is none."""
    for field in _PARAMETER_FIELDS:
        values = getattr(command, field, None)
        for name, value in values.items() if type(values) is dict else ():
            if not issubclass(type(value), Parameter):  # not `isinstance`, which would ask the value itself
                return f"{shown(name)} is {shown(value)}, not a Parameter"
    return ""


def _copier_of(command_type: type[Struct]) -> Callable[[Any], Any]:
    """Return the function that validates and copies commands of a type."""
    field_types = get_type_hints(command_type)
    event_field, event_types = _EVENT_FIELDS.get(command_type, ("", ()))
    field_types.pop(event_field, None)
    fields = msgspec.defstruct(f"{command_type.__name__}Fields", [*field_types.items()])
    decode, check = msgspec.msgpack.Decoder(fields).decode, check_of(fields)

    def copy(command: Any) -> Any:
        if command_type in _RUN_COMMANDS and command.branch != ROOT:
            raise ValueError(f"it applies to the whole run, so its branch must be the root, not {command.branch!r}")
        plain = decode(encode_canonical({name: getattr(command, name) for name in field_types}))
        check(plain)
        _check_names(plain)
        values = structs.asdict(plain)
        if command_type is StartAttempt:
            values["fresh"] = False  # a caller's id may be taken already
        if event_field:
            held = getattr(command, event_field)
            values[event_field] = (
                tuple([_copy_event(event, event_types, command.branch) for event in held])
                if command_type is Record
                else _copy_event(held, event_types, command.branch)
            )
        return command_type(**values)

    return copy


def _copy_event(event: Event, types: tuple[type, ...], branch: str) -> Event:
    event_type = type(event).__name__
    if type(event) not in types:
        raise TypeError(f"it may not hold {event_type} events")
    copied = decode_event(event_type, SCHEMA_VERSIONS[event_type], encode_canonical(event))
    if copied.branch != branch:
        raise ValueError(f"it holds an event of branch {copied.branch!r}")
    if is_misplaced(copied):
        raise ValueError(f"{event_type} cannot be an event of branch {branch!r}")
    _check_names(copied)
    return copied


def _check_names(holder: Any) -> None:
    check_branch(holder.branch)
    document = getattr(holder, "document", None)
    names = [(field, getattr(named, field, None)) for named in (holder, document) for field in _NAME_FIELDS]
    for field, name in names:
        if name is not None:
            check_name(name, field)
    for attempt in (getattr(holder, "changes", None), *getattr(document, "attempts", ())):
        if attempt is not None and attempt.status is not UNSET:
            check_name(attempt.status, "status")
    for field in _PARAMETER_FIELDS:
        for name in getattr(holder, field, ()):
            check_name(name, "parameter name")
    initial_fields = getattr(holder, "fields", None)
    if initial_fields is not None:
        for name in NOT_INITIAL_FIELDS:
            if getattr(initial_fields, name) is not UNSET:
                raise ValueError(f"{name} is not a field that an attempt can start with")


_COPIERS: Final = {command_type: _copier_of(command_type) for command_type in get_args(Command)}
