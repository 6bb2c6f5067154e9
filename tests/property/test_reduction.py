"""Reductions and three-way conflicts against the naive model."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ReductionImpossible
from engine.model import Head, Parameter
from engine.ports import OwnParameter
from engine.reduction import RULES, Child, Outcome, contested, fold
from tests.property.naive_reduction import Impossible, ModelChild, ModelReduction, key, reduce_naively
from tests.strategies import numbers, parameters, values

NAMES = st.sampled_from(["x", "y", "loss"])
FOLDABLE: dict[str, st.SearchStrategy[Any]] = {
    "numbers": numbers,
    "lists": st.lists(values, max_size=3),
    "mappings": st.dictionaries(st.sampled_from("abc"), values, max_size=3),
    "equal": st.just(1),
}
KINDS = st.sampled_from(["json", "json", "metric"])


@st.composite
def families(draw: st.DrawFn) -> tuple[list[ModelChild], dict[str, Parameter]]:
    """Draw children's own writes, their common base and what the parent sees; most values fit one group of rules."""
    of_kind = draw(st.sampled_from([*FOLDABLE.values()]))
    some = st.dictionaries(NAMES, st.one_of(st.builds(Parameter, of_kind, KINDS), parameters), max_size=3)
    base, now = draw(some), draw(some)
    children = []
    for branch in "abcd"[: draw(st.integers(0, 4))]:
        own = draw(some)
        children.append(
            ModelChild(branch, {name: (value, draw(st.integers(2, 9))) for name, value in own.items()}, dict(base))
        )
    return children, {**base, **now}


FORKED_AT = 5


def as_parent(parent: dict[str, Parameter], children: list[ModelChild]) -> dict[str, OwnParameter]:
    """Return what the parent sees as its own sets: before the forks where it is the inherited value, else after."""
    base = children[0].base if children else {}
    return {
        name: OwnParameter(value, FORKED_AT if name in base and key({name: base[name]}) == key({name: value}) else 9)
        for name, value in parent.items()
    }


def as_child(child: ModelChild, parent: dict[str, OwnParameter]) -> Child:
    """Return a child whose base holds only the names that the fold looks up."""
    own = {name: OwnParameter(value, version) for name, (value, version) in sorted(child.own.items())}
    wanted = contested(own, FORKED_AT, parent)
    base = {name: value for name, value in child.base.items() if name in wanted}
    return Child(Head(child.branch, 9, bytes(32)), own, FORKED_AT, base)


def folded(
    children: list[ModelChild],
    seen: dict[str, Parameter],
    *,
    rules: Mapping[str, str] = MappingProxyType({}),
    default: str = "last",
    keep_parent: bool = False,
) -> Outcome:
    """Fold the children into a parent that sees `seen`."""
    parent = as_parent(seen, children)
    read = [as_child(child, parent) for child in children]
    return fold(read, parent, rules=rules, default_rule=default, keep_parent=keep_parent, computed={})


@given(
    families(),
    st.dictionaries(NAMES, st.sampled_from(sorted(RULES))),
    st.sampled_from(sorted(RULES)),
    st.sampled_from(["child", "parent"]),
)
def test_folding_is_what_the_naive_model_says(
    family: tuple[list[ModelChild], dict[str, Parameter]], rules: dict[str, str], default: str, on_conflict: str
) -> None:
    """Folding any children by any rules gives the model's values, sources and conflicts, whichever side wins."""
    children, seen = family
    expected: ModelReduction | None = None
    found: Outcome | None = None
    try:
        expected = reduce_naively(children, seen, rules=rules, default=default, on_conflict=on_conflict)
    except Impossible:
        expected = None
    try:
        found = folded(children, seen, rules=rules, default=default, keep_parent=on_conflict == "parent")
    except ReductionImpossible:
        found = None
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert_same(found, expected)


def assert_same(found: Outcome, expected: ModelReduction) -> None:
    assert key(found.values) == key(expected.values)
    sources = {name: [(each.branch, each.stream_version) for each in every] for name, every in found.sources.items()}
    assert sources == expected.sources
    assert [(conflict.name, conflict.branch) for conflict in found.conflicts] == expected.conflicts
    assert found.rules.keys() == found.values.keys()


@given(families(), st.randoms())
def test_the_last_of_any_order_wins(family: tuple[list[ModelChild], dict[str, Parameter]], chance: Any) -> None:
    """By the default rule, a value is that of the last child in the given order that wrote it."""
    children, seen = family
    chance.shuffle(children)
    found = folded(children, seen)
    last = {name: value for child in children for name, (value, _) in child.own.items()}
    assert key(found.values) == key(last)


@given(families())
def test_an_inherited_copy_overwrites_nothing(family: tuple[list[ModelChild], dict[str, Parameter]]) -> None:
    """Only the names that a child wrote itself are folded, never those that it inherited."""
    children, seen = family
    found = folded(children, seen)
    assert found.values.keys() == {name for child in children for name in child.own}
