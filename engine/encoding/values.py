"""Validation of callers' values, before a batch is formed, so that a bad value cannot fail other requests.

NaN and the infinities are valid and kept exactly: a diverging loss is worth recording.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from engine.encoding.free_form import INTEGER_MAX, INTEGER_MIN
from engine.errors import InvalidValue, shown
from engine.model import Parameter, ParameterKind, TaskSpec
from engine.names import check_name
from engine.point import Position

VALUE_DEPTH_MAX: Final = 64

Callback = TypeVar("Callback")
Checked = TypeVar("Checked")

_KINDS: Final[tuple[ParameterKind, ...]] = ("json", "metric", "object")


def check_parameters(values: object, where: str = "parameters") -> dict[str, Parameter]:
    """Return validated parameters; a plain value becomes `Parameter(value)`.

    Raises:
        InvalidName, InvalidValue: naming the parameter.
    """
    if not isinstance(values, Mapping):
        raise InvalidValue(where, values, "is not a mapping of names to values")
    checked = {}
    for name, value in values.items():
        plain = check_name(name, "parameter name")
        checked[plain] = check_parameter(value, plain) if type(value) is Parameter else _plain_parameter(value, plain)
    return checked


def _plain_parameter(value: Any, name: str) -> Parameter:
    kind = type(value)
    if kind is float or (kind is int and INTEGER_MIN <= value <= INTEGER_MAX):  # fast path for the most common types
        return Parameter(value)
    return Parameter(check_value(value, f"parameter {shown(name)}"))


def check_parameter(parameter: Parameter, name: str) -> Parameter:
    """Return a copy of a parameter that can be recorded and read back exactly.

    Raises:
        InvalidValue: naming the parameter.
    """
    kind = next((kind for kind in _KINDS if kind == parameter.kind), None)
    if kind is None:
        raise InvalidValue(f"parameter {shown(name)}", parameter.kind, "is not one of the kinds json, metric, object")
    if kind == "object" and not isinstance(parameter.value, str):
        raise InvalidValue(f"parameter {shown(name)}", parameter.value, "is not text, as an object parameter has to be")
    return Parameter(check_value(parameter.value, f"parameter {shown(name)}"), kind)


def check_document(document: object, where: str) -> dict[str, Any]:
    """Return a copy of a caller's free-form mapping that can be recorded and read back exactly."""
    if not isinstance(document, Mapping):
        raise InvalidValue(where, document, "is not a mapping")
    checked: dict[str, Any] = check_value(dict(document), where)
    return checked


def check_task_spec(spec: object, where: str = "spec") -> TaskSpec:
    """Return a validated copy of a task specification.

    Raises:
        InvalidValue
    """
    if not isinstance(spec, TaskSpec):
        raise InvalidValue(where, spec, f"is {type(spec).__name__}, not a TaskSpec")
    fields = check_value(msgspec.structs.asdict(spec), where)
    try:
        return msgspec.convert(fields, TaskSpec)
    except msgspec.ValidationError as error:
        raise InvalidValue(where, spec, f"is not a valid task specification: {error}") from error


def check_text(text: object, where: str) -> str:
    """Return `text` as a plain `str`, if UTF-8 can encode it."""
    if not isinstance(text, str):
        raise InvalidValue(where, text, f"is {type(text).__name__}, not text")
    plain = str.__str__(text)
    try:
        plain.encode()
    except UnicodeEncodeError as error:
        raise InvalidValue(where, plain, "holds a lone surrogate, which UTF-8 cannot encode") from error
    return plain


def check_optional(check: Callable[[Any, str], Checked], value: object, where: str) -> Checked | None:
    """Apply `check` to a value; return None unchanged."""
    return None if value is None else check(value, where)


def check_several(items: Iterable[Any], where: str) -> Iterable[Any]:
    """Return `items` if it is iterable and not a single text or bytes object, a likely mistake."""
    if isinstance(items, str | bytes) or not isinstance(items, Iterable):
        raise InvalidValue(where, items, f"is {type(items).__name__}, not a list")
    return items


def check_flag(flag: object, where: str) -> bool:
    """Return `flag` if it is True or False."""
    if not isinstance(flag, bool):
        raise InvalidValue(where, flag, f"is {type(flag).__name__}, not True or False")
    return flag


def check_whole(number: object, where: str, maximum: int) -> int:
    """Return `number` if it is an integer from 0 to `maximum`."""
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= maximum:
        raise InvalidValue(where, number, f"is not a whole number from 0 to {maximum}")
    return number


def check_function(function: Callback | None, where: str) -> Callback | None:
    """Return `function` if it is callable or None."""
    if function is not None and not callable(function):
        raise InvalidValue(where, function, f"is {type(function).__name__}, not a function")
    return function


def check_position(position: object, where: str) -> int:
    """Return a position as a number, if it is a 64-bit integer or a `Position`."""
    return _check_integer(position.n if isinstance(position, Position) else position, where, "a position")


def check_version(version: object, where: str) -> int:
    """Return `version` if it is a 64-bit integer; a `Position` is not a version."""
    return _check_integer(version, where, "a version")


def _check_integer(number: object, where: str, what: str) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or not INTEGER_MIN <= number <= INTEGER_MAX:
        raise InvalidValue(where, number, f"is not {what}, a 64-bit integer")
    return int.__int__(number)  # a plain int, also of a subclass


def check_value(value: Any, where: str, depth: int = VALUE_DEPTH_MAX) -> Any:
    """Return a copy of `value` if it is JSON that can be recorded and read back exactly.

    Instances of subclasses of `str`, `int` and `float`, such as members of a `StrEnum`, become plain ones. The copy
    protects against changes that the caller makes while the write is in progress.

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
            raise InvalidValue(where, value, "exceeds 64 bits")
    elif isinstance(value, dict | list | tuple):
        if depth == 0:
            raise InvalidValue(where, kind.__name__, f"is nested deeper than {VALUE_DEPTH_MAX} levels")
        return _check_members(value, where, depth - 1)
    elif value is not None and kind is not bool:
        raise InvalidValue(where, value, f"is {kind.__name__}, which is not JSON{_advice(value)}")
    return value


def _advice(value: object) -> str:
    # For NumPy's arrays and scalars, and types modelled on them.
    return "; its tolist() is" if callable(getattr(value, "tolist", None)) else ""


def _check_members(value: dict[Any, Any] | list[Any] | tuple[Any, ...], where: str, depth: int) -> Any:
    if not isinstance(value, dict):
        return [check_value(member, where, depth) for member in value]
    key = f"{where}, a key"
    return {check_text(name, key): check_value(member, where, depth) for name, member in value.items()}
