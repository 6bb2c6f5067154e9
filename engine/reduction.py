"""Reduction: folding what child branches wrote themselves into values for their parent. Pure.

Only a child's own writes (its sets, and what it reduced from its own children) take part, so a stale inherited value
cannot overwrite anything. Conflicts are found by a three-way comparison, as in a version-control merge: the base at the
child's fork, the parent's current value, and the child's. Only names that the parent has set itself since the fork can
conflict; for all others it still sees the base.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any, Final

from msgspec import Struct

from engine.codec import same
from engine.encoding.values import check_parameter
from engine.errors import InvalidValue, ReductionImpossible, shown
from engine.model import Head, Parameter, ParameterConflict, Source
from engine.ports import OwnParameter

FUNCTION_RULE: Final = "function"
"""The rule recorded for a value that the caller's function computed."""


class Child(Struct, frozen=True, gc=False):
    """A child branch as input of a reduction: its head, its own writes, and what it inherited at its fork.

    `forked_at` is the parent's version at the fork. `base` holds at least the `contested` names.
    """

    head: Head
    own: Mapping[str, OwnParameter]
    forked_at: int
    base: Mapping[str, Parameter]


class Outcome(Struct, frozen=True):
    """Values, rules and sources by parameter name, and all conflicts, whether or not the child's value was taken."""

    values: dict[str, Parameter]
    rules: dict[str, str]
    sources: dict[str, list[Source]]
    conflicts: list[ParameterConflict]


class _Contribution(Struct, frozen=True, gc=False):
    parameter: Parameter
    source: Source


_Contributions = Sequence[_Contribution]
_Folded = tuple[Parameter, Sequence[Source]]


def fold(
    children: Sequence[Child],
    parent: Mapping[str, OwnParameter],
    *,
    rules: Mapping[str, str],
    default_rule: str,
    keep_parent: bool,
    computed: Mapping[str, Parameter],
    finds_unchanged: bool = True,
) -> Outcome:
    """Fold the children's own writes by the rules.

    Args:
        children: in the order in which the rules take them.
        parent: the parent's own current parameters, of the names that the children have set.
        rules: by parameter name; `default_rule` for the others.
        keep_parent: skip names on which a child conflicts with the parent.
        computed: results of the caller's functions.
        finds_unchanged: also report a conflict if the child set a name again to its value at the fork, and the parent
            to another. Before version 2 of `ParametersReduced` that was no conflict, and the parent's value was lost.

    Raises:
        ReductionImpossible: a rule cannot fold the values, is unknown, or would take an erased value.
    """
    contributions = _by_name(children)
    conflicts = [conflict for child in children for conflict in _conflicts(child, parent)]
    if not finds_unchanged:
        conflicts = [each for each in conflicts if each.base is None or not same(each.base, each.child)]
    kept = {conflict.name for conflict in conflicts} if keep_parent else set()
    outcome = Outcome({}, {}, {}, conflicts)
    for name in sorted(contributions.keys() - kept):
        rule = FUNCTION_RULE if name in computed else rules.get(name, default_rule)
        _refuse_erased(name, rule, contributions[name])
        sources: Sequence[Source]
        if name in computed:
            value, sources = computed[name], _all_sources(contributions[name])
        else:
            value, sources = _apply(name, rule, contributions[name])
        outcome.values[name], outcome.rules[name], outcome.sources[name] = value, rule, list(sources)
    return outcome


def written_itself(own: Mapping[str, OwnParameter]) -> dict[str, OwnParameter]:
    """Return the parameters that a branch wrote itself, without those copied to it."""
    return {name: each for name, each in own.items() if not each.copied}


def contested(own: Iterable[str], forked_at: int, parent: Mapping[str, OwnParameter]) -> set[str]:
    """Return those of a child's own names that its parent has set itself since the fork."""
    return {name for name in own if name in parent and parent[name].stream_version > forked_at}


def check_rule(name: str, rule: object) -> None:
    """Raise `ReductionImpossible` unless the rule is one of `RULES`."""
    rule_name = rule if isinstance(rule, str) else type(rule).__name__
    if rule_name not in RULES:
        raise ReductionImpossible(name, rule_name, f"it is not one of {', '.join(RULES)}")


def _by_name(children: Sequence[Child]) -> dict[str, list[_Contribution]]:
    contributions: dict[str, list[_Contribution]] = {}
    for child in children:
        for name, own in child.own.items():
            source = Source(child.head.branch, own.stream_version)
            contributions.setdefault(name, []).append(_Contribution(own.parameter, source))
    return contributions


def _conflicts(child: Child, parent: Mapping[str, OwnParameter]) -> list[ParameterConflict]:
    found = []
    for name in sorted(contested(child.own, child.forked_at, parent)):
        base, now, own = child.base.get(name), parent[name].parameter, child.own[name].parameter
        if not (_agree(now, own) or _agree(base, now)):
            found.append(ParameterConflict(name, child.head.branch, base, now, own))
    return found


def _agree(one: Parameter | None, other: Parameter) -> bool:
    """Return whether two parameters are known to be equal; an erased one never is."""
    return one is not None and one.kind != "erased" and same(one, other)


def _refuse_erased(name: str, rule: str, contributions: _Contributions) -> None:
    taken = {"first": contributions[:1], "last": contributions[-1:]}.get(rule, contributions)
    for contribution in taken:
        if contribution.parameter.kind == "erased":
            source = contribution.source
            raise ReductionImpossible(
                name, rule, f"what branch {shown(source.branch)} set at version {source.stream_version} was erased"
            )


def _apply(name: str, rule: str, contributions: _Contributions) -> _Folded:
    check_rule(name, rule)
    try:
        value, sources = RULES[rule](contributions)
        return check_parameter(value, name), sources
    except (_NotFoldable, InvalidValue) as error:
        raise ReductionImpossible(name, rule, str(error)) from error


class _NotFoldable(Exception):
    """The rule cannot fold values of this kind."""


def _all_sources(contributions: _Contributions) -> list[Source]:
    return [contribution.source for contribution in contributions]


def _values(contributions: _Contributions, types: type | tuple[type, ...], description: str) -> list[Any]:
    for contribution in contributions:
        value = contribution.parameter.value
        if not isinstance(value, types) or isinstance(value, bool):
            branch = shown(contribution.source.branch)
            raise _NotFoldable(f"branch {branch} set {shown(value)}, which is not {description}")
    return [contribution.parameter.value for contribution in contributions]


def _numbers(contributions: _Contributions) -> list[Any]:
    return _values(contributions, (int, float), "a number")


def _combined(value: Any, contributions: _Contributions) -> _Folded:
    metric = all(contribution.parameter.kind == "metric" for contribution in contributions)
    return Parameter(value, "metric" if metric else "json"), _all_sources(contributions)


def _one(contribution: _Contribution) -> _Folded:
    return contribution.parameter, [contribution.source]


def _extreme(contributions: _Contributions, choose: Callable[..., int]) -> _Folded:
    numbers = _numbers(contributions)
    for contribution, number in zip(contributions, numbers, strict=True):
        if math.isnan(number):  # comparisons with NaN would make the result depend on the order
            return _one(contribution)
    return _one(contributions[choose(range(len(numbers)), key=numbers.__getitem__)])


def _sum(contributions: _Contributions) -> Any:
    # Not `sum`: it rounds differently from Python 3.12 on, so recorded reductions would no longer verify.
    return reduce(add, _numbers(contributions), 0)


def _mean(contributions: _Contributions) -> _Folded:
    return _combined(_sum(contributions) / len(contributions), contributions)


def _merge(contributions: _Contributions) -> _Folded:
    merged: dict[str, Any] = {}
    for mapping in _values(contributions, dict, "a mapping"):
        merged |= mapping
    return _combined(merged, contributions)


def _concat(contributions: _Contributions) -> _Folded:
    lists = _values(contributions, (list, tuple), "a list")
    return _combined([member for members in lists for member in members], contributions)


def _unanimous(contributions: _Contributions) -> _Folded:
    first = contributions[0]
    for other in contributions[1:]:
        if not same(first.parameter, other.parameter):
            kinds = first.parameter.kind != other.parameter.kind
            raise _NotFoldable(f"{_described(first, with_kind=kinds)}, {_described(other, with_kind=kinds)}")
    return first.parameter, _all_sources(contributions)


def _described(contribution: _Contribution, *, with_kind: bool) -> str:
    text = f"branch {shown(contribution.source.branch)} set {shown(contribution.parameter.value)}"
    return f"{text} ({contribution.parameter.kind})" if with_kind else text


RULES: Final[dict[str, Callable[[_Contributions], _Folded]]] = {
    "last": lambda contributions: _one(contributions[-1]),
    "first": lambda contributions: _one(contributions[0]),
    "collect": lambda contributions: _combined([each.parameter.value for each in contributions], contributions),
    "sum": lambda contributions: _combined(_sum(contributions), contributions),
    "min": lambda contributions: _extreme(contributions, min),
    "max": lambda contributions: _extreme(contributions, max),
    "mean": _mean,
    "merge": _merge,
    "concat": _concat,
    "unanimous": _unanimous,
}
"""The built-in rules: functions from the contributions, in the children's order, to a value and its sources."""
