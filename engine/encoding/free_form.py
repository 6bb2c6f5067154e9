"""Validation of the parts of decoded events that their types leave open.

To the decoder, values and documents have any type, and a payload may come from elsewhere: it may hold bytes,
extensions, keys that are not text, integers of any size, or a thousand levels of nesting. None of that is JSON, and it
could not be encoded again or projected. `values.py` applies the same rules to callers' input.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from msgspec import Struct, inspect

INTEGER_MIN: Final = -(2**63)
INTEGER_MAX: Final = 2**63 - 1
DEPTH_MAX: Final = 128
"""Twice the limit for callers' values, because hosts' documents contain such values a few levels down."""

Check: TypeAlias = Callable[[Any], None]
"""Raises `ValueError` that says what is wrong with a value."""


def check_of(struct: type[Struct]) -> Check:
    """Return the check for decoded structs of a type."""
    return _check_of(inspect.type_info(struct)) or _nothing


def _nothing(_value: object) -> None:
    pass


def _check_of(kind: inspect.Type) -> Check | None:
    """Return the check for values of a type, None if the decoder checks them completely."""
    match kind:
        case inspect.ListType(item_type=item):
            return _each(_check_of(item))
        case inspect.DictType(value_type=value):
            return _each_value(_check_of(value))
        case inspect.UnionType():
            return _by_type(kind)
        case inspect.StructType():
            return _fields(kind)
        case _:
            return _CHECKS.get(type(kind))


def _fields(struct: inspect.StructType) -> Check | None:
    checks = [(field.name, check) for field in struct.fields if (check := _check_of(field.type)) is not None]

    def check_fields(value: Any) -> None:
        for name, check in checks:
            field = getattr(value, name)
            if field:  # empty, zero, None and unset values are always valid
                try:
                    check(field)
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from error

    return check_fields if checks else None


def _each(check: Check | None) -> Check | None:
    if check is None:
        return None

    def check_each(values: list[Any]) -> None:
        for value in values:
            check(value)

    return check_each


def _each_value(check: Check | None) -> Check | None:
    each = _each(check)
    return each and (lambda values: each(values.values()))


def _by_type(union: inspect.UnionType) -> Check | None:
    checks = {_runtime_type(each): check for each in union.types if (check := _check_of(each)) is not None}

    def check_by_type(value: Any) -> None:
        check = checks.get(type(value))
        if check is not None:
            check(value)

    return check_by_type if checks else None


def _runtime_type(kind: inspect.Type) -> type:
    if isinstance(kind, inspect.StructType):
        return kind.cls
    return _RUNTIME_TYPES[type(kind)]


_RUNTIME_TYPES: Final[dict[type, type]] = {
    inspect.IntType: int,
    inspect.DateTimeType: datetime,
    inspect.ListType: list,
    inspect.DictType: dict,
}


def check_json(value: Any, depth: int = DEPTH_MAX) -> None:
    """Check that a decoded value is JSON within the limits.

    Raises:
        ValueError
    """
    kind = type(value)
    if kind is str or kind is float or kind is bool or value is None:
        return
    if kind is int:
        _check_integer(value)
    elif kind is not list and kind is not dict:
        raise ValueError(f"{kind.__name__} is not JSON")
    elif depth == 0:
        raise ValueError(f"nested deeper than {DEPTH_MAX} levels")
    elif kind is list:
        for member in value:
            check_json(member, depth - 1)
    else:
        for name, member in value.items():
            if type(name) is not str:
                raise ValueError(f"a key is {type(name).__name__}, not text")
            check_json(member, depth - 1)


def _check_integer(value: int) -> None:
    if not INTEGER_MIN <= value <= INTEGER_MAX:
        raise ValueError("an integer exceeds 64 bits")


def _check_time(moment: datetime) -> None:
    if moment.tzinfo is None:
        raise ValueError("a time has no time zone")
    try:
        moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("a time is outside the years 1 to 9999 in UTC") from error


_CHECKS: Final[dict[type, Check]] = {
    inspect.AnyType: check_json,
    inspect.IntType: _check_integer,
    inspect.DateTimeType: _check_time,
}
