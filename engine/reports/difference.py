"""The differences between two compiled logs: two points of a run, two branches, or two runs. Pure.

Branches are matched by their names relative to the compared branches: comparing `fit.a` with `fit.b` compares
`fit.a.inner` with `fit.b.inner`.

Fields that differ between any two executions of the same work are ignored: ids, times, and operators' names for their
jobs and folders.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from msgspec import UNSET, Struct, field, structs

from engine.codec import same
from engine.model import BranchLog, Parameter, RunLog, StepLog, branches_of


class ParameterDifference(Struct, frozen=True):
    """A parameter on both sides; None on a side that has none of that name."""

    before: Parameter | None
    after: Parameter | None


class StepOutcome(Struct, frozen=True):
    """A step's status, and the statuses of its attempts in order."""

    status: str
    attempts: list[str]


class FieldDifference(Struct, frozen=True):
    """A field's values on both sides: single values such as text or a `Parameter`, or a whole that only one side has.

    It is `UNSET` on a side that has no such field.
    """

    before: Any
    after: Any


class StepDifference(Struct, frozen=True):
    """A step on both sides; None on a side that has none of that name.

    `fields` are the differing fields of a step on both sides, such as `spec.command` or `attempts[0].outputs.rows`.
    """

    before: StepOutcome | None
    after: StepOutcome | None
    fields: dict[str, FieldDifference] = field(default_factory=dict)


class BranchDifference(Struct, frozen=True):
    """The differences in one branch: parameters and steps by name; a status is None if its side has no such branch.

    `fields` are the differing fields of a branch on both sides, such as `details.note`; for the root branches of two
    runs also those of the runs, such as `config.executor`.
    """

    status_before: str | None
    status_after: str | None
    parameters: dict[str, ParameterDifference]
    steps: dict[str, StepDifference]
    fields: dict[str, FieldDifference] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.status_before != self.status_after or bool(self.parameters or self.steps or self.fields)


class Difference(Struct, frozen=True):
    """The branches that differ, by their names relative to the compared branches (`""`). False if none differs."""

    branches: dict[str, BranchDifference]

    def __bool__(self) -> bool:
        return bool(self.branches)


def difference(before: BranchLog, after: BranchLog) -> Difference:
    """Return the differences in visible parameters, steps with their attempts, statuses, and other recorded fields of
    branches and runs.
    """
    own, others = _by_name(before), _by_name(after)
    branches = {name: _branch(own.get(name), others.get(name)) for name in {**own, **others}}
    return Difference({name: each for name, each in branches.items() if each})


def _by_name(top: BranchLog) -> dict[str, BranchLog]:
    """Return a log and all below it by relative name, parents first; a name without its prefix is kept."""
    return {_relative(log.branch, top.branch): log for log in branches_of(top)}


def _relative(name: str, top: str) -> str:
    if name == top:
        return ""
    return name.removeprefix(f"{top}.") if top else name


def _branch(before: BranchLog | None, after: BranchLog | None) -> BranchDifference:
    own, others = _steps(before), _steps(after)
    steps = {name: _of_step(own.get(name), others.get(name)) for name in {**own, **others}}
    return BranchDifference(
        status_before=None if before is None else before.status,
        status_after=None if after is None else after.status,
        parameters=_of_parameters(_parameters(before), _parameters(after)),
        steps={name: each for name, each in steps.items() if each is not None},
        fields=_of_branch(before, after),
    )


def _parameters(log: BranchLog | None) -> Mapping[str, Parameter]:
    return {} if log is None else log.parameters


def _steps(log: BranchLog | None) -> Mapping[str, StepLog]:
    return {} if log is None else log.steps


def _of_parameters(before: Mapping[str, Parameter], after: Mapping[str, Parameter]) -> dict[str, ParameterDifference]:
    pairs = {name: (before.get(name), after.get(name)) for name in sorted({**before, **after})}
    return {name: ParameterDifference(*pair) for name, pair in pairs.items() if not same(*pair)}


def _of_branch(before: BranchLog | None, after: BranchLog | None) -> dict[str, FieldDifference]:
    if before is None or after is None:
        return {}
    of_run = _OF_RUN if isinstance(before, RunLog) and isinstance(after, RunLog) else ()
    return _fields(before, after, (*_OF_BRANCH, *of_run))


def _of_step(before: StepLog | None, after: StepLog | None) -> StepDifference | None:
    """Return the differences of a step, None if there are none."""
    outcomes = _outcome(before), _outcome(after)
    if before is None or after is None:
        return StepDifference(*outcomes)
    fields = _fields(before, after, _OF_STEP)
    for index, (one, other) in enumerate(zip(before.attempts, after.attempts, strict=False)):
        fields |= _fields(one, other, _OF_ATTEMPT, f"attempts[{index}].")
    return StepDifference(*outcomes, fields) if fields or outcomes[0] != outcomes[1] else None


def _outcome(step: StepLog | None) -> StepOutcome | None:
    return None if step is None else StepOutcome(step.status, [attempt.status for attempt in step.attempts])


_OF_BRANCH: Final = ("status_reason", "details")
_OF_RUN: Final = ("tag", "tags", "description", "dag_hash", "config", "job")
_OF_STEP: Final = ("name", "status_reason", "step_type", "message", "mock", "spec", "details")
_OF_ATTEMPT: Final = (
    "status_reason",
    "operator_key",
    "operator_type",
    "message",
    "inputs",
    "outputs",
    "metrics",
    "details",
)


def _fields(before: Struct, after: Struct, names: tuple[str, ...], prefix: str = "") -> dict[str, FieldDifference]:
    """Return the differences of these fields, descending as deep as both sides have the same structure."""
    waiting = [(f"{prefix}{name}", getattr(before, name), getattr(after, name)) for name in reversed(names)]
    found = {}
    while waiting:
        path, *sides = waiting.pop()
        one, other = (_members(path, side) for side in sides)
        if one is not None and other is not None and type(sides[0]) is type(sides[1]):
            waiting += [(name, one.get(name, UNSET), other.get(name, UNSET)) for name in reversed({**one, **other})]
        elif UNSET in sides or not same(*sides):
            found[path] = FieldDifference(*sides)
    return found


def _members(path: str, value: Any) -> dict[str, Any] | None:
    """Return a value's members by path, None if it is a single value."""
    match value:
        case Parameter():
            return None
        case Struct():
            return {f"{path}.{name}": member for name, member in structs.asdict(value).items()}
        case dict():
            return {f"{path}{_step(name)}": member for name, member in value.items()}
        case list():
            return {f"{path}[{index}]": member for index, member in enumerate(value)}
        case _:
            return None


def _step(name: str) -> str:
    """Return a name as a step of a path, in quotes if it would look like several steps, or like an index."""
    return f"[{json.dumps(name, ensure_ascii=False)}]" if _AMBIGUOUS.search(name) or not name else f".{name}"


_AMBIGUOUS: Final = re.compile(r"[.\[\]\"]")
