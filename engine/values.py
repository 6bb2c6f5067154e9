"""What may be recorded as a value: checked before a batch is formed, so that one bad value cannot fail its neighbours.

NaN and the infinities are values like any other and are kept exactly: a diverging loss is worth recording.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from engine.errors import InvalidValue, shown
from engine.free_form import INTEGER_MAX, INTEGER_MIN
from engine.model import Parameter, ParameterKind, TaskSpec
from engine.names import check_name
from engine.point import Position

VALUE_DEPTH_MAX: Final = 64

Callback = TypeVar("Callback")
Checked = TypeVar("Checked")

_KINDS: Final[tuple[ParameterKind, ...]] = ("json", "metric", "object")


def check_parameters(values: object) -> dict[str, Parameter]:
    """Return what a caller wants set as parameters; a plain value becomes `Parameter(value)`.

    Raises:
        InvalidName, InvalidValue: naming the parameter.
    """
    if not isinstance(values, Mapping):
        raise InvalidValue("parameters", values, "is not a mapping of names to values")
    checked = {}
    for name, value in values.items():
        plain = check_name(name, "parameter name")
        checked[plain] = check_parameter(value, plain) if type(value) is Parameter else _plain_parameter(value, plain)
    return checked


def _plain_parameter(value: Any, name: str) -> Parameter:
    kind = type(value)
    if kind is float or (kind is int and INTEGER_MIN <= value <= INTEGER_MAX):  # most are, and need no more
        return Parameter(value)
    return Parameter(check_value(value, f"parameter {shown(name)}"))


def check_parameter(parameter: Parameter, name: str) -> Parameter:
    """Return a copy of a parameter when it can be recorded and read back exactly.

    Raises:
        InvalidValue: naming the parameter.
    """
    kind = next((kind for kind in _KINDS if kind == parameter.kind), None)
    if kind is None:
        raise InvalidValue(f"parameter {shown(name)}", parameter.kind, "is not a kind: json, metric or object")
    if kind == "object" and not isinstance(parameter.value, str):
        raise InvalidValue(f"parameter {shown(name)}", parameter.value, "is an object parameter's value and not text")
    return Parameter(check_value(parameter.value, f"parameter {shown(name)}"), kind)


def check_document(document: object, where: str) -> dict[str, Any]:
    """Return a copy of a caller's free-form mapping when it can be recorded and read back exactly."""
    if not isinstance(document, Mapping):
        raise InvalidValue(where, document, "is not a mapping")
    checked: dict[str, Any] = check_value(dict(document), where)
    return checked


def check_task_spec(spec: object, where: str = "spec") -> TaskSpec:
    """Return a task's specification when its fields are of their types and can be recorded.

    Raises:
        InvalidValue
    """
    if not isinstance(spec, TaskSpec):
        raise InvalidValue(where, spec, f"is {type(spec).__name__}, not a TaskSpec")
    fields = check_value(msgspec.structs.asdict(spec), where)
    try:
        return msgspec.convert(fields, TaskSpec)
    except msgspec.ValidationError as error:
        raise InvalidValue(where, spec, f"is no task specification: {error}") from error


def check_text(text: object, where: str) -> str:
    """Return `text`, plain, when it is text that UTF-8 can encode."""
    if not isinstance(text, str):
        raise InvalidValue(where, text, f"is {type(text).__name__}, not text")
    plain = str.__str__(text)
    try:
        plain.encode()
    except UnicodeEncodeError as error:
        raise InvalidValue(where, plain, "holds a lone surrogate, which UTF-8 cannot encode") from error
    return plain


def check_optional(check: Callable[[Any, str], Checked], value: object, where: str) -> Checked | None:
    """Return what a check returns of `value`, and None as it is."""
    return None if value is None else check(value, where)


def check_several(several: Iterable[Any], where: str) -> Iterable[Any]:
    """Return `several` when it can be gone through and is no text, whose characters nobody means."""
    if isinstance(several, str | bytes) or not isinstance(several, Iterable):
        raise InvalidValue(where, several, f"is {type(several).__name__}, not several")
    return several


def check_flag(flag: object, where: str) -> bool:
    """Return `flag` when it is True or False."""
    if not isinstance(flag, bool):
        raise InvalidValue(where, flag, f"is {type(flag).__name__}, not True or False")
    return flag


def check_whole(number: object, where: str, most: int) -> int:
    """Return `number` when it is a whole one from 0 to `most`."""
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= most:
        raise InvalidValue(where, number, f"is not a whole number from 0 to {most}")
    return number


def check_function(function: Callback | None, where: str) -> Callback | None:
    """Return `function` when it can be called, or is None."""
    if function is not None and not callable(function):
        raise InvalidValue(where, function, f"is {type(function).__name__}, not a function")
    return function


def check_position(position: object, where: str) -> int:
    """Return `position` when the log could compare one with it; a `Position` is one, too."""
    return _check_integer(position.n if isinstance(position, Position) else position, where, "a position")


def check_version(version: object, where: str) -> int:
    """Return `version` when the log could compare one with it; a `Position` is none."""
    return _check_integer(version, where, "a version")


def _check_integer(number: object, where: str, what: str) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or not INTEGER_MIN <= number <= INTEGER_MAX:
        raise InvalidValue(where, number, f"is not {what}: an integer of 64 bits")
    return int.__int__(number)  # of a subclass, the plain number


def check_value(value: Any, where: str, depth: int = VALUE_DEPTH_MAX) -> Any:
    """Return a copy of `value` when it is JSON that can be recorded and read back exactly.

    Text and numbers of subclasses, such as a member of a `StrEnum` or of an `IntEnum`, are recorded as what they are:
    plain ones.

    It is a copy so that what is recorded is what was given: the caller may change a list while the write is under way.

    Raises:
        InvalidValue: naming `where`.
    """
    kind = type(value)
    if isinstance(value, str):
        return check_text(value, where)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, int) and kind is not bool:
        value = int.__int__(value)
        if not INTEGER_MIN <= value <= INTEGER_MAX:
            raise InvalidValue(where, value, "is an integer over 64 bits")
    elif isinstance(value, dict | list | tuple):
        if depth == 0:
            raise InvalidValue(where, kind.__name__, f"is nested deeper than {VALUE_DEPTH_MAX} levels")
        return _check_members(value, where, depth - 1)
    elif value is not None and kind is not bool:
        raise InvalidValue(where, value, f"is {kind.__name__}, which is not JSON{_advice(value)}")
    return value


def _advice(value: object) -> str:
    # NumPy's arrays and scalars have it, and others' that go by them.
    return "; its tolist() is" if callable(getattr(value, "tolist", None)) else ""


def _check_members(value: dict[Any, Any] | list[Any] | tuple[Any, ...], where: str, depth: int) -> Any:
    if not isinstance(value, dict):
        return [check_value(member, where, depth) for member in value]
    key = f"{where}, a key"
    return {check_text(name, key): check_value(member, where, depth) for name, member in value.items()}
