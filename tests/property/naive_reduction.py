"""A naive implementation of reduction: the model with which the tests compare the engine's."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from engine.model import Parameter


class Impossible(Exception):
    """The rule cannot fold the values."""


class ModelConflict(Exception):
    """The reduction found conflicts, and `on_conflict` is "error"."""


class ModelChild(Struct):
    """What a child wrote itself, the version that wrote it, and a full copy of what it saw at its fork."""

    branch: str
    own: dict[str, tuple[Parameter, int]]
    base: dict[str, Parameter]


class ModelReduction(Struct):
    values: dict[str, Parameter]
    sources: dict[str, list[tuple[str, int]]]
    conflicts: list[tuple[str, str]]


def key(value: Any) -> Any:
    """Return a stand-in that is equal for two values exactly if they are the same: types count, all NaNs are equal."""
    match value:
        case Parameter():
            return "parameter", value.kind, key(value.value)
        case dict():
            return "dict", frozenset((name, key(member)) for name, member in value.items())
        case list() | tuple():
            return "list", tuple(key(member) for member in value)
        case float():
            return "float", "nan" if math.isnan(value) else value.hex()
        case _:
            return type(value).__name__, value


def reduce_naively(
    children: Sequence[ModelChild],
    parent: Mapping[str, Parameter],
    *,
    rules: Mapping[str, str],
    default: str = "last",
    on_conflict: str = "child",
) -> ModelReduction:
    """Fold the children's own writes, name by name."""
    conflicts = [
        (name, child.branch) for child in children for name in sorted(child.own) if is_conflict(name, child, parent)
    ]
    result = ModelReduction({}, {}, conflicts)
    for name in sorted({name for child in children for name in child.own}):
        if on_conflict == "parent" and name in [conflict for conflict, _ in conflicts]:
            continue
        writers = [(child.branch, *child.own[name]) for child in children if name in child.own]
        value, used = apply_rule(rules.get(name, default), [parameter for _, parameter, _ in writers])
        result.values[name] = value
        result.sources[name] = [(writers[index][0], writers[index][2]) for index in used]
    if on_conflict == "error" and conflicts:
        raise ModelConflict
    return result


def is_conflict(name: str, child: ModelChild, parent: Mapping[str, Parameter]) -> bool:
    """Return whether the parent changed the name since the fork, to another value than the child's."""
    if name not in parent:
        return False
    base, theirs, ours = key(child.base.get(name)), key(parent[name]), key(child.own[name][0])
    return theirs not in {base, ours}


def apply_rule(rule: str, parameters: Sequence[Parameter]) -> tuple[Parameter, Sequence[int]]:
    """Return the folded value and the indexes of the parameters that it came from."""
    everyone = range(len(parameters))
    if rule == "last":
        return parameters[-1], [len(parameters) - 1]
    if rule == "first":
        return parameters[0], [0]
    if rule in ("min", "max"):
        place = _place_of_extreme([parameter.value for parameter in parameters], rule)
        return parameters[place], [place]
    if rule == "unanimous":
        if len({key(parameter) for parameter in parameters}) > 1:
            raise Impossible
        return parameters[0], everyone
    value = _combine(rule, [parameter.value for parameter in parameters])
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise Impossible
    # The function in these tests returns a plain value, which has the kind "json".
    metric = rule != "function" and {parameter.kind for parameter in parameters} == {"metric"}
    return Parameter(value, "metric" if metric else "json"), everyone


def _place_of_extreme(values: Sequence[Any], rule: str) -> int:
    _only(values, (int, float))
    best = 0
    for place, value in enumerate(values):
        if isinstance(value, float) and math.isnan(value):
            return place
        if value < values[best] if rule == "min" else value > values[best]:
            best = place
    return best


def _combine(rule: str, values: Sequence[Any]) -> Any:
    if rule == "collect":
        return list(values)
    if rule == "function":
        return {"seen": list(values)}
    if rule == "merge":
        _only(values, (dict,))
        return {name: member for value in values for name, member in value.items()}
    if rule == "concat":
        _only(values, (list,))
        return [member for value in values for member in value]
    _only(values, (int, float))
    return sum(values) if rule == "sum" else sum(values) / len(values)


def _only(values: Sequence[Any], types: tuple[type, ...]) -> None:
    if any(type(value) not in types for value in values):
        raise Impossible
