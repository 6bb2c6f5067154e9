"""What differs between two compiled logs: two points of a run, two branches, or two runs. Pure.

Branches are compared by their names below what is compared, so that the branches `fit.a.inner` and `fit.b.inner` are
compared where `fit.a` is compared with `fit.b`.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias, TypeVar

from msgspec import Struct

from engine.codec import same
from engine.model import BranchLog, Parameter, RunLog, StepLog

AnyLog: TypeAlias = RunLog | BranchLog
Side = TypeVar("Side")


class ParameterDifference(Struct, frozen=True):
    """A parameter on both sides; None where there is none of that name."""

    before: Parameter | None
    after: Parameter | None


class StepOutcome(Struct, frozen=True):
    """How a step stands, and the statuses of its attempts in order."""

    status: str
    attempts: list[str]


class StepDifference(Struct, frozen=True):
    """A step on both sides; None where there is none of that name."""

    before: StepOutcome | None
    after: StepOutcome | None


class BranchDifference(Struct, frozen=True):
    """What differs in one branch: statuses, None where there is no such branch, and parameters and steps by name."""

    status_before: str | None
    status_after: str | None
    parameters: dict[str, ParameterDifference]
    steps: dict[str, StepDifference]

    def __bool__(self) -> bool:
        return self.status_before != self.status_after or bool(self.parameters or self.steps)


class Difference(Struct, frozen=True):
    """The branches that differ, by their names below what was compared, which is `""` itself. False when none does."""

    branches: dict[str, BranchDifference]

    def __bool__(self) -> bool:
        return bool(self.branches)


def difference(before: AnyLog, after: AnyLog) -> Difference:
    """Return what of `before` is otherwise in `after`: parameters as they are seen, steps, attempts and statuses."""
    sides = _by_name(before), _by_name(after)
    pairs = _pairs(*sides, unlike=lambda left, right: bool(_branch(left, right)))
    return Difference({name: _branch(*pair) for name, pair in pairs.items()})


def _by_name(top: AnyLog) -> dict[str, AnyLog]:
    """A log and all below it, parents first, by the names below it; a name that is not below it stays whole."""
    found: dict[str, AnyLog] = {}
    waiting: list[AnyLog] = [top]
    while waiting:
        log = waiting.pop()
        found[_relative(log.branch, top.branch)] = log
        waiting.extend(reversed(log.branches.values()))
    return found


def _relative(name: str, top: str) -> str:
    if name == top:
        return ""
    return name.removeprefix(f"{top}.") if top else name


def _branch(before: AnyLog | None, after: AnyLog | None) -> BranchDifference:
    parameters = _pairs(_parameters(before), _parameters(after), unlike=lambda left, right: not same(left, right))
    steps = _pairs(_steps(before), _steps(after), unlike=lambda left, right: left != right)
    return BranchDifference(
        status_before=None if before is None else before.status,
        status_after=None if after is None else after.status,
        parameters={name: ParameterDifference(*pair) for name, pair in sorted(parameters.items())},
        steps={name: StepDifference(*pair) for name, pair in steps.items()},
    )


def _parameters(log: AnyLog | None) -> Mapping[str, Parameter]:
    return {} if log is None else log.parameters


def _steps(log: AnyLog | None) -> Mapping[str, StepOutcome]:
    return {} if log is None else {name: _outcome(step) for name, step in log.steps.items()}


def _outcome(step: StepLog) -> StepOutcome:
    return StepOutcome(step.status, [attempt.status for attempt in step.attempts])


def _pairs(
    before: Mapping[str, Side], after: Mapping[str, Side], *, unlike: Callable[[Side | None, Side | None], bool]
) -> dict[str, tuple[Side | None, Side | None]]:
    """What is unlike on the two sides, by name: in the order of the first, then what only the second has."""
    pairs = {name: (before.get(name), after.get(name)) for name in {**before, **after}}
    return {name: pair for name, pair in pairs.items() if unlike(*pair)}
