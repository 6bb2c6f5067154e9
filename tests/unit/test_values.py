"""Which values may be recorded, and which are refused."""

import enum
import math
from collections import OrderedDict, UserDict
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from typing_extensions import override

from engine.codec import same
from engine.encoding.values import (
    VALUE_DEPTH_MAX,
    check_document,
    check_parameter,
    check_parameters,
    check_text,
    check_value,
)
from engine.errors import InvalidName, InvalidValue
from engine.model import Parameter
from projections.columns import from_json, to_json
from tests.strategies import documents, values


def nested(depth: int, *, of: type = list) -> Any:
    """Return a value of `depth` nested containers."""
    value: Any = 1
    for _ in range(depth):
        value = [value] if of is list else {"k": value}
    return value


class Number(int):
    """An integer that is not exactly an `int`."""


class Colour(enum.IntEnum):
    RED = 1


class Inexact(float):
    """A subclass of `float`, such as NumPy's 64-bit floats, with a misleading `__float__` and `__repr__`."""

    @override
    def __float__(self) -> float:
        return 0.0

    @override
    def __repr__(self) -> str:
        return "Inexact"


class Array:
    """An array-like object with `tolist`."""

    def tolist(self) -> list[int]:
        return [1]


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        0,
        2**63 - 1,
        -(2**63),
        0.0,
        -0.0,
        0.1,
        5e-324,
        math.inf,
        -math.inf,
        math.nan,
        "",
        "\x00\n",
        "日本",
        [],
        {},
        [1, [2, [3]]],
        {"a": {"b": [None]}},
        nested(VALUE_DEPTH_MAX),
        nested(VALUE_DEPTH_MAX, of=dict),
    ],
)
def test_json_values_can_be_recorded_and_read_back(value: Any) -> None:
    """A JSON value within the limits is accepted and read back from the views' text unchanged."""
    check_value(value, "here")
    assert same(from_json(to_json(value)), value)


@given(values)
def test_every_value_comes_back_from_the_views_exactly(value: Any) -> None:
    """Every value is read back from the views' text exactly: 1, 1.0, True, 0.0 and -0.0 stay apart, NaN stays NaN."""
    check_value(value, "here")
    assert same(from_json(to_json(value)), value)


@given(documents)
def test_equal_documents_have_equal_text_whatever_their_order(document: dict[str, Any]) -> None:
    """The views' text of a document does not depend on the order of its keys."""
    backwards = dict(reversed(document.items()))
    assert to_json(document) == to_json(backwards)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (2**63, "exceeds 64 bits"),
        (-(2**63) - 1, "exceeds 64 bits"),
        (10**400, "exceeds 64 bits"),
        ("\ud800", "holds a lone surrogate"),
        (["ok", "\udfff"], "holds a lone surrogate"),
        ({"\ud800": 1}, "holds a lone surrogate"),
        ({1: "a"}, "is int, not text"),
        ({None: "a"}, "is NoneType, not text"),
        ({("a",): 1}, "is tuple, not text"),
        (object(), "is object, which is not JSON"),
        (b"bytes", "is bytes, which is not JSON"),
        ({1, 2}, "is set, which is not JSON"),
        (1j, "is complex, which is not JSON"),
        (Decimal(1), "is Decimal, which is not JSON"),
        (datetime(2026, 1, 1, tzinfo=UTC), "is datetime, which is not JSON"),
        (Number(2**63), "exceeds 64 bits"),
        (Array(), r"is Array, which is not JSON; its tolist\(\) is"),
        (Parameter(1), "is Parameter, which is not JSON"),
        (UserDict(a=1), "is UserDict, which is not JSON"),
        ([[{"a": [object()]}]], "is object, which is not JSON"),
        (nested(VALUE_DEPTH_MAX + 1), "is nested deeper than 64 levels"),
        (nested(VALUE_DEPTH_MAX + 1, of=dict), "is nested deeper than 64 levels"),
        (nested(900), "is nested deeper than 64 levels"),
    ],
)
def test_what_cannot_be_recorded_is_refused_with_the_reason(value: Any, reason: str) -> None:
    """A value that cannot be recorded raises InvalidValue with the place and the reason, in a short message."""
    with pytest.raises(InvalidValue, match=reason) as caught:
        check_value(value, "parameter 'x'")
    assert caught.value.where.startswith("parameter 'x'")
    assert len(str(caught.value)) < 250


def test_a_value_that_contains_itself_is_refused() -> None:
    """A value that contains itself raises InvalidValue as nested too deeply."""
    value: list[Any] = []
    value.append(value)
    with pytest.raises(InvalidValue, match="nested deeper"):
        check_value(value, "here")


def test_mappings_and_lists_of_other_classes_are_taken_as_what_they_are() -> None:
    """An `OrderedDict` or a tuple is recorded as a plain mapping or list."""
    check_value(OrderedDict(a=(1, 2)), "here")
    assert same(OrderedDict(a=(1, 2)), {"a": [1, 2]})


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Colour.RED, 1),
        (Number(7), 7),
        (Inexact(0.1), 0.1),
        (Inexact("nan"), math.nan),
        ([{"a": Inexact(-0.0)}], [{"a": -0.0}]),
    ],
)
def test_numbers_of_other_classes_are_taken_as_what_they_are(value: Any, plain: Any) -> None:
    """An instance of a subclass of `int` or `float` is recorded as the plain number, bit for bit."""
    found = check_value(value, "here")
    assert same(found, plain)
    assert type(found) is type(plain)


def test_text_is_refused_when_it_is_none_or_cannot_be_encoded() -> None:
    """A text may hold anything that UTF-8 can encode; other text and other types raise InvalidValue."""
    assert check_text("\x00 any", "message") == "\x00 any"
    with pytest.raises(InvalidValue, match="message: 5 is int, not text"):
        check_text(5, "message")
    with pytest.raises(InvalidValue, match="lone surrogate"):
        check_text("a\udc80", "message")


class Metric(enum.StrEnum):
    LOSS = "loss"
    METRIC = "metric"


def test_text_of_another_class_is_recorded_as_plain_text() -> None:
    """A `StrEnum` member is recorded as plain text, whether as text, value, key, parameter name or kind."""
    given = check_parameters({Metric.LOSS: Parameter({Metric.LOSS: [Metric.LOSS]}, Metric.METRIC)})  # type: ignore[arg-type]
    assert same(given, {"loss": Parameter({"loss": ["loss"]}, "metric")})
    assert type(check_text(Metric.LOSS, "message")) is str


def test_plain_values_become_json_parameters() -> None:
    """A plain value becomes a parameter of kind json, and a `Parameter` is kept."""
    metric = Parameter(0.5, "metric")
    assert check_parameters({"a": 1, "b": metric}) == {"a": Parameter(1), "b": metric}


def test_any_mapping_will_do_for_parameters_and_documents() -> None:
    """Any mapping is accepted as parameters or as a document."""
    assert check_parameters(MappingProxyType({"a": 1})) == {"a": Parameter(1)}
    assert check_document(MappingProxyType({"a": 1}), "details") == {"a": 1}


@pytest.mark.parametrize("wrong", [None, 5, "ab", [("a", 1)], {1}])
def test_what_is_no_mapping_is_refused(wrong: object) -> None:
    """Parameters or a document that is not a mapping raises InvalidValue."""
    with pytest.raises(InvalidValue, match="is not a mapping"):
        check_parameters(wrong)
    with pytest.raises(InvalidValue, match="is not a mapping"):
        check_document(wrong, "details")


@pytest.mark.parametrize("name", ["", "a\n", 5, None, "x" * 513])
def test_a_parameters_name_is_a_name(name: Any) -> None:
    """An invalid parameter name raises InvalidName."""
    with pytest.raises(InvalidName, match="parameter name"):
        check_parameters({name: 1})


@pytest.mark.parametrize(
    ("parameter", "reason"),
    [
        (Parameter(1, "weird"), "is not one of the kinds json, metric, object"),  # type: ignore[arg-type]
        (Parameter(1, ["metric"]), "is not one of the kinds json, metric, object"),  # type: ignore[arg-type]
        (Parameter(1, "object"), "is not text, as an object parameter has to be"),
        (Parameter(2**63), "exceeds 64 bits"),
        (Parameter(object(), "metric"), "is not JSON"),
    ],
)
def test_a_parameter_is_refused_by_name(parameter: Parameter, reason: str) -> None:
    """A parameter with an invalid kind or value raises InvalidValue, which names the parameter."""
    with pytest.raises(InvalidValue, match=reason) as caught:
        check_parameter(parameter, "loss")
    assert "'loss'" in caught.value.where


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        (1, 1.0, False),
        (1, True, False),
        (0.0, -0.0, False),
        (math.nan, math.nan, True),
        (math.inf - math.inf, math.nan, True),  # its sign bit is set
        ({"a": [math.inf - math.inf]}, {"a": [math.nan]}, True),
        ([math.nan, 1], [math.nan, 1.0], False),
        ([math.nan, 1], [math.nan, 2], False),
        (math.inf, -math.inf, False),
        (math.nan, math.inf, False),
        ([1], (1,), True),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        (None, "", False),
        (Parameter(1), Parameter(1, "metric"), False),
    ],
)
def test_same_means_the_same_bytes_but_for_the_bits_of_a_nan(left: object, right: object, equal: bool) -> None:  # noqa: FBT001 - a column of the table
    """Two values are the same if their canonical bytes are equal; all NaNs are the same."""
    assert same(left, right) is equal
