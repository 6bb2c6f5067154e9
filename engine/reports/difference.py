"""What differs between two compiled logs: two points of a run, two branches, or two runs. Pure.

Branches are compared by their names below what is compared, so that the branches `fit.a.inner` and `fit.b.inner` are
compared where `fit.a` is compared with `fit.b`.

Left out is what differs between any two tries at the same: ids, times, and what an operator calls its jobs and folders.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from msgspec import UNSET, Struct, field, structs

from engine.codec import same
from engine.model import BranchLog, Parameter, RunLog, StepLog, branches_of


class ParameterDifference(Struct, frozen=True):
    """A parameter on both sides; None where there is none of that name."""

    before: Parameter | None
    after: Parameter | None


class StepOutcome(Struct, frozen=True):
    """How a step stands, and the statuses of its attempts in order."""

    status: str
    attempts: list[str]


class FieldDifference(Struct, frozen=True):
    """What a field holds on both sides: one thing, such as text or a `Parameter`, or all that only one side has.

    It is `UNSET` on a side that has no such field.
    """

    before: Any
    after: Any


class StepDifference(Struct, frozen=True):
    """A step on both sides; None where there is none of that name.

    `fields` are those that differ where both have it, such as `spec.command` or `attempts[0].outputs.rows`.
    """

    before: StepOutcome | None
    after: StepOutcome | None
    fields: dict[str, FieldDifference] = field(default_factory=dict)


class BranchDifference(Struct, frozen=True):
    """What differs in one branch: statuses, None where there is no such branch, and parameters and steps by name.

    `fields` are those of the branch that differ where it is on both sides, such as `details.note`; for the root branch
    of two runs those of the run too, such as `config.executor`.
    """

    status_before: str | None
    status_after: str | None
    parameters: dict[str, ParameterDifference]
    steps: dict[str, StepDifference]
    fields: dict[str, FieldDifference] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.status_before != self.status_after or bool(self.parameters or self.steps or self.fields)


class Difference(Struct, frozen=True):
    """The branches that differ, by their names below what was compared, which is `""` itself. False when none does."""

    branches: dict[str, BranchDifference]

    def __bool__(self) -> bool:
        return bool(self.branches)


def difference(before: BranchLog, after: BranchLog) -> Difference:
    """Return what of `before` is otherwise in `after`: parameters as they are seen, steps with their attempts, statuses
    and what else was recorded of a branch or a run.
    """
    own, others = _by_name(before), _by_name(after)
    branches = {name: _branch(own.get(name), others.get(name)) for name in {**own, **others}}
    return Difference({name: each for name, each in branches.items() if each})


def _by_name(top: BranchLog) -> dict[str, BranchLog]:
    """A log and all below it, parents first, by the names below it; a name that is not below it stays whole."""
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
    """Return what differs of a step, None when nothing does."""
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
    """Return which of these fields differ, as deep as both have them."""
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
    """Return what a value holds by the names or indexes that lead there, None where it is one thing."""
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
    """Return how a path goes on to a name: in quotes where it would look like several, or like an index."""
    return f"[{json.dumps(name, ensure_ascii=False)}]" if _AMBIGUOUS.search(name) or not name else f".{name}"


_AMBIGUOUS: Final = re.compile(r"[.\[\]\"]")
