"""The reduction rules as tables of cases; conflicts, sources and refusals."""

import math
from collections.abc import Mapping
from typing import Any

import pytest

from engine.codec import same
from engine.errors import ReductionImpossible
from engine.model import Head, Parameter, ParameterConflict, Source
from engine.ports import OwnParameter
from engine.reduction import FUNCTION_RULE, RULES, Child, Outcome, check_rule, fold

FORKED_AT = 5
"""The parent's stream version that every child is forked from."""


def child(branch: str, own: Mapping[str, Any], base: Mapping[str, Any] | None = None, *, version: int = 2) -> Child:
    """A child branch that set `own` at `version` and inherited `base` at its fork."""
    return Child(
        Head(branch, version, bytes(32)),
        {name: OwnParameter(as_parameter(value), version) for name, value in own.items()},
        FORKED_AT,
        {name: as_parameter(value) for name, value in (base or {}).items()},
    )


def as_parameter(value: Any) -> Parameter:
    return value if isinstance(value, Parameter) else Parameter(value)


def reduced(*children: Child, parent: Mapping[str, Any] | None = None, rule: str = "last", **options: Any) -> Outcome:
    """Fold with one rule for every name, unless `options` say otherwise."""
    settings: dict[str, Any] = {"rules": {}, "default_rule": rule, "keep_parent": False, "computed": {}, **options}
    since = {name: OwnParameter(as_parameter(value), FORKED_AT + 1) for name, value in (parent or {}).items()}
    return fold(children, since, **settings)


def folded(rule: str, values: list[Any]) -> tuple[Parameter, list[str]]:
    """Return a rule's result for the values of children a, b, c …, and the branches that it came from."""
    outcome = reduced(
        *(child(branch, {"x": value}) for branch, value in zip("abcdefgh", values, strict=False)), rule=rule
    )
    return outcome.values["x"], [source.branch for source in outcome.sources["x"]]


METRIC = Parameter(1.5, "metric")
OBJECT = Parameter("s3://bucket/key", "object")


@pytest.mark.parametrize(
    ("rule", "values", "expected", "sources"),
    [
        ("last", [1, "two", [3]], Parameter([3]), "c"),
        ("last", [1, METRIC], METRIC, "b"),
        ("last", [1, OBJECT], OBJECT, "b"),
        ("last", [1, None], Parameter(None), "b"),
        ("first", [1, 2, 3], Parameter(1), "a"),
        ("first", [OBJECT, 2], OBJECT, "a"),
        ("collect", [1, "two", None], Parameter([1, "two", None]), "abc"),
        ("collect", [METRIC, METRIC], Parameter([1.5, 1.5], "metric"), "ab"),
        ("collect", [METRIC, 1], Parameter([1.5, 1]), "ab"),
        ("sum", [1, 2, 3], Parameter(6), "abc"),
        ("sum", [1, 0.5], Parameter(1.5), "ab"),
        ("sum", [1, math.nan], Parameter(math.nan), "ab"),
        ("sum", [math.inf, -math.inf], Parameter(math.nan), "ab"),
        ("sum", [METRIC, METRIC], Parameter(3.0, "metric"), "ab"),
        ("sum", [2**62, 2**62 - 1], Parameter(2**63 - 1), "ab"),
        ("min", [3, 1, 2], Parameter(1), "b"),
        ("min", [1, 1.0], Parameter(1), "a"),
        ("min", [2.0, METRIC], METRIC, "b"),
        ("min", [1, -math.inf], Parameter(-math.inf), "b"),
        ("min", [1, math.nan, 0], Parameter(math.nan), "b"),
        ("max", [1, 3, 2], Parameter(3), "b"),
        ("max", [3.0, 3], Parameter(3.0), "a"),
        ("max", [math.nan, 5], Parameter(math.nan), "a"),
        ("max", [2**53, 2**53 + 1], Parameter(2**53 + 1), "b"),
        ("mean", [1, 2], Parameter(1.5), "ab"),
        ("mean", [1, 3], Parameter(2.0), "ab"),
        ("mean", [5], Parameter(5.0), "a"),
        ("mean", [1, math.nan], Parameter(math.nan), "ab"),
        ("merge", [{"a": 1}, {"b": 2}], Parameter({"a": 1, "b": 2}), "ab"),
        ("merge", [{"a": 1, "b": 1}, {"a": 2}], Parameter({"a": 2, "b": 1}), "ab"),
        ("merge", [{"a": {"x": 1}}, {"a": {"y": 2}}], Parameter({"a": {"y": 2}}), "ab"),
        ("concat", [[1], [], [2, 3]], Parameter([1, 2, 3]), "abc"),
        ("concat", [[[1]], [[1]]], Parameter([[1], [1]]), "ab"),
        ("unanimous", [1, 1, 1], Parameter(1), "abc"),
        ("unanimous", [math.nan, math.nan], Parameter(math.nan), "ab"),
        ("unanimous", [{"a": 1, "b": 2}, {"b": 2, "a": 1}], Parameter({"a": 1, "b": 2}), "ab"),
        ("unanimous", [METRIC, METRIC], METRIC, "ab"),
    ],
)
def test_each_rule_by_its_cases(rule: str, values: list[Any], expected: Parameter, sources: str) -> None:
    """A rule folds the children's values in order and names the children that its result came from."""
    value, branches = folded(rule, values)
    assert same(value, expected)
    assert branches == list(sources)


@pytest.mark.parametrize(
    ("rule", "values", "reason"),
    [
        *((rule, [1, "2"], "branch 'b' set '2', which is not a number") for rule in ("sum", "min", "max", "mean")),
        ("sum", [True], "branch 'a' set True, which is not a number"),
        ("mean", [None], "which is not a number"),
        ("min", [OBJECT], "which is not a number"),
        ("sum", [2**63 - 1, 1], "exceeds 64 bits"),
        ("merge", [{"a": 1}, [1]], "branch 'b' set [1], which is not a mapping"),
        ("concat", [[1], "ab"], "branch 'b' set 'ab', which is not a list"),
        ("concat", [[1], {"a": 1}], "which is not a list"),
        ("unanimous", [1, 1.0], "branch 'a' set 1, branch 'b' set 1.0"),
        ("unanimous", [1, True], "branch 'a' set 1, branch 'b' set True"),
        ("unanimous", [1.5, METRIC], "branch 'a' set 1.5 (json), branch 'b' set 1.5 (metric)"),
        ("median", [1], "not one of last, first"),
        ("function", [1], "not one of last, first"),
    ],
)
def test_what_a_rule_cannot_fold_is_refused_by_name(rule: str, values: list[Any], reason: str) -> None:
    """A value that a rule cannot fold raises ReductionImpossible with the parameter, the rule and the reason."""
    with pytest.raises(ReductionImpossible) as caught:
        folded(rule, values)
    assert (caught.value.name, caught.value.rule) == ("x", rule)
    assert reason in caught.value.reason


def test_collecting_too_deep_is_refused() -> None:
    """A result that is nested too deeply raises ReductionImpossible."""
    deep: Any = 1
    for _ in range(64):
        deep = [deep]
    with pytest.raises(ReductionImpossible, match="nested deeper"):
        folded("collect", [deep])


def test_one_rule_for_each_name_and_a_default_for_the_rest() -> None:
    """`rules` apply by parameter name and the default to the rest; the outcome records the rule of every name."""
    outcome = reduced(child("a", {"x": 1, "y": 1}), child("b", {"x": 2, "y": 2}), rules={"x": "sum"}, rule="first")
    assert outcome.values == {"x": Parameter(3), "y": Parameter(1)}
    assert outcome.rules == {"x": "sum", "y": "first"}


def test_a_rule_for_a_name_that_nobody_wrote_is_no_error() -> None:
    """A rule for a name that no child set is ignored."""
    assert reduced(child("a", {}), rules={"x": "sum"}).values == {}


def test_a_child_that_did_not_write_a_name_takes_no_part() -> None:
    """Children that did not set a name themselves take no part in its reduction."""
    outcome = reduced(child("a", {"x": 1}), child("b", {}, base={"x": 100}), child("c", {"x": 2}), rule="mean")
    assert outcome.values == {"x": Parameter(1.5)}
    assert outcome.sources == {"x": [Source("a", 2), Source("c", 2)]}


def test_sources_name_the_version_that_wrote() -> None:
    """A source is a branch and the stream version that set the value."""
    outcome = reduced(child("a", {"x": 1}, version=7), child("b", {"x": 2}, version=9), rule="max")
    assert outcome.sources == {"x": [Source("b", 9)]}


def test_a_computed_value_replaces_the_rule() -> None:
    """A computed value is recorded with the rule `function` and all children that set the name as sources."""
    outcome = reduced(child("a", {"x": 1}), child("b", {"x": 2}), computed={"x": Parameter("made")})
    assert outcome.values == {"x": Parameter("made")}
    assert outcome.rules == {"x": FUNCTION_RULE}
    assert outcome.sources == {"x": [Source("a", 2), Source("b", 2)]}


BASE, PARENT, CHILD = Parameter("base"), Parameter("parent"), Parameter("child")


@pytest.mark.parametrize(
    ("base", "parent", "own", "conflicts"),
    [
        (None, None, CHILD, False),  # only the child set it
        (BASE, BASE, CHILD, False),  # only the child changed it
        (BASE, PARENT, BASE, True),  # the parent changed it, and the child set it as it was
        (BASE, BASE, BASE, False),  # neither changed it
        (BASE, CHILD, CHILD, False),  # both changed it to the same value
        (None, CHILD, CHILD, False),  # both created it with the same value
        (BASE, PARENT, CHILD, True),  # both changed it
        (None, PARENT, CHILD, True),  # both created it
        (BASE, Parameter("base", "object"), CHILD, True),  # a change of kind is a change
        (Parameter(1), Parameter(1.0), Parameter(2), True),
        (Parameter(math.nan), Parameter(math.nan), Parameter(2), False),
    ],
)
def test_a_conflict_is_found_three_ways(
    base: Parameter | None,
    parent: Parameter | None,
    own: Parameter,
    conflicts: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """A name conflicts if the parent changed it since the fork and the child set it to something else."""
    one = child("a", {"x": own}, {} if base is None else {"x": base})
    outcome = reduced(one, parent={} if parent is None else {"x": parent})
    assert outcome.conflicts == ([ParameterConflict("x", "a", base, parent, own)] if conflicts and parent else [])
    assert outcome.values == {"x": own}


def test_numbers_are_added_one_after_the_other() -> None:
    """Numbers are added in order without compensation, because `sum` differs between Python versions."""
    tenths = [child(name, {"x": 0.1}) for name in "abcdefghij"]
    assert reduced(*tenths, rules={"x": "sum"}).values == {"x": Parameter(0.9999999999999999)}
    assert reduced(*tenths, rules={"x": "mean"}).values == {"x": Parameter(0.09999999999999999)}


def test_every_child_in_conflict_is_listed() -> None:
    """Conflicts are listed for each name and child, in the children's order."""
    outcome = reduced(child("b", {"x": 1, "y": 1}), child("a", {"x": 2}), parent={"x": 0, "y": 1})
    assert [(conflict.name, conflict.branch) for conflict in outcome.conflicts] == [("x", "b"), ("x", "a")]


def test_keeping_the_parents_leaves_a_name_in_conflict_alone() -> None:
    """With `keep_parent`, a conflicting name is listed but not folded; other names are."""
    outcome = reduced(child("a", {"x": 1, "y": 1}), child("b", {"x": 2}), parent={"x": 0}, keep_parent=True)
    assert outcome.values == {"y": Parameter(1)}
    assert outcome.rules.keys() == outcome.sources.keys() == {"y"}
    assert len(outcome.conflicts) == 2


def test_a_name_kept_is_not_folded_at_all() -> None:
    """With `keep_parent`, the rule is not applied to a conflicting name, so it cannot fail on it."""
    one = child("a", {"x": "no number"})
    assert reduced(one, parent={"x": 0}, keep_parent=True, rule="sum").values == {}


def test_no_children_make_nothing() -> None:
    """Reducing no children gives an empty outcome."""
    assert reduced() == Outcome({}, {}, {}, [])


@pytest.mark.parametrize("rule", RULES)
def test_built_in_rules_pass_the_check(rule: str) -> None:
    """Every built-in rule is accepted."""
    check_rule("x", rule)


@pytest.mark.parametrize("rule", ["median", "", "LAST", FUNCTION_RULE])
def test_other_rules_are_refused_before_anything_is_read(rule: str) -> None:
    """Any other rule raises ReductionImpossible, which lists the built-in rules."""
    with pytest.raises(ReductionImpossible, match="not one of last, first, collect"):
        check_rule("x", rule)
