"""Strategies of the state machines: few names and small values, so that moves often touch the same things."""

from hypothesis import strategies as st

from engine.model import AttemptDocument, Parameter
from engine.reduction import RULES

NAMES = st.sampled_from(["x", "y", "z"])
VALUES = st.one_of(
    st.integers(-3, 3),
    st.floats(width=16),
    st.lists(st.integers(0, 2), max_size=2),
    st.dictionaries(st.sampled_from(["k", "l"]), st.integers(0, 2), max_size=2),
    st.none(),
)
PARAMETERS = st.one_of(
    VALUES.map(Parameter),
    st.integers(-3, 3).map(lambda value: Parameter(value, "metric")),
    st.just(Parameter("o", "object")),
)
SOME_PARAMETERS = st.dictionaries(NAMES, PARAMETERS, max_size=3)
STEPS = st.sampled_from(["train", "test"])
STATUSES = st.sampled_from(["CREATED", "RUNNING", "FAILED", "COMPLETED"])
MESSAGES = st.sampled_from(["", "hello"])
DETAILS = st.sampled_from([{}, {"a": [1, {"b": None}]}])
RULE_NAMES = st.sampled_from(sorted(RULES))
ATTEMPTS = st.lists(
    st.builds(AttemptDocument, status=STATUSES, message=MESSAGES, outputs=SOME_PARAMETERS, details=DETAILS), max_size=2
)


def some_of(members: list[str]) -> st.SearchStrategy[list[str]]:
    """Draw any number of the members, in any order."""
    shuffled = st.permutations(members)
    return shuffled.flatmap(lambda order: st.integers(0, len(order)).map(lambda count: order[:count]))
