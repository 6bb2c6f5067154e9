"""Hypothesis strategies that tests share, for names and values that may be recorded."""

from typing import Any

from hypothesis import strategies as st

from engine.model import Parameter
from engine.names import NAME_BYTES_MAX

_PRINTABLE = st.characters(exclude_categories=("Cc", "Cf", "Cs", "Zl", "Zp"))

names = st.one_of(
    st.text("ab.0[], '%_/\\", min_size=1, max_size=8),
    st.text(_PRINTABLE, min_size=1, max_size=40).filter(lambda text: len(text.encode()) <= NAME_BYTES_MAX),
)
"""Any valid name of a run, branch, step, parameter or status."""

texts = st.text(st.characters(codec="utf-8"), max_size=20)
"""Any text that UTF-8 can encode, control characters included."""

integers = st.one_of(
    st.integers(-5, 5), st.integers(-(2**63), 2**63 - 1), st.sampled_from([-(2**63), 2**63 - 1, 2**53 + 1, 0])
)
floats = st.one_of(st.floats(), st.sampled_from([0.0, -0.0, 1.0, 1e16, 5e-324, 1.7976931348623157e308]))
numbers = st.one_of(integers, floats)
scalars = st.one_of(st.none(), st.booleans(), integers, floats, texts)

values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)
"""Any JSON value that the engine accepts, including 64-bit integers, NaN and the infinities."""

documents: st.SearchStrategy[dict[str, Any]] = st.dictionaries(texts, values, max_size=3)

parameters = st.one_of(
    values.map(Parameter),
    numbers.map(lambda value: Parameter(value, "metric")),
    texts.map(lambda value: Parameter(value, "object")),
)
"""A parameter of any kind."""
