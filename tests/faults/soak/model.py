"""A model of the runs: what the acknowledged moves make of them. The store is compared with it at the end.

The moves of all workers are applied in the order of their acknowledged positions. Values come from the moves; only
versions come from the events.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from msgspec import Struct, field

from engine.codec import derived_id
from engine.model import COMPLETED, CREATED, ERASED, RUNNING, Parameter
from engine.names import ROOT, child_branch
from tests.faults.soak.journal import Move, Noted
from tests.faults.soak.moves import (
    CreateRun,
    EndAttempt,
    EndRun,
    Fork,
    ForkRun,
    LogStep,
    PinRun,
    Reduce,
    SetParameters,
    StartAttempt,
)
from tests.property.naive_reduction import ModelChild, reduce_naively

Place: TypeAlias = tuple[str, str]
"""A run id and a branch's full name."""


class ModelAttempt(Struct):
    attempt_id: str
    status: str = RUNNING
    external_id: str | None = None


class ModelStep(Struct):
    """A step's own attempts, and `carried`, the number of those carried over from a deleted source."""

    status: str
    message: str = ""
    carried: int = 0
    attempts: list[ModelAttempt] = field(default_factory=list)


class Stood(Struct, frozen=True):
    """The state of a step from a version of its branch on."""

    version: int
    status: str
    message: str
    attempts: int


class ModelBranch(Struct):
    """What a branch wrote itself, by version, and where it was forked."""

    source: Place | None = None
    source_version: int = 0
    status: str = CREATED
    writes: dict[int, dict[str, Parameter]] = field(default_factory=dict)
    steps: dict[str, ModelStep] = field(default_factory=dict)
    stood: dict[str, list[Stood]] = field(default_factory=dict)
    children: list[str] = field(default_factory=list)

    def own(self, version: int | None = None) -> dict[str, tuple[Parameter, int]]:
        """Return the parameters that the branch set or reduced itself, up to a version, with the versions that did."""
        return {
            name: (value, at)
            for at, values in self.writes.items()
            if version is None or at <= version
            for name, value in values.items()
        }

    def note_step(self, name: str, version: int) -> None:
        """Record the state of a step from a version on."""
        step = self.steps[name]
        attempts = step.carried + len(step.attempts)
        self.stood.setdefault(name, []).append(Stood(version, step.status, step.message, attempts))

    def completed(self, version: int) -> dict[str, Stood]:
        """Return the steps that had succeeded as of a version."""
        last = {name: [each for each in stood if each.version <= version] for name, stood in self.stood.items()}
        return {name: stood[-1] for name, stood in last.items() if stood and stood[-1].status == COMPLETED}


class Model:
    """The branches of the runs to compare."""

    def __init__(self) -> None:
        self.branches: dict[Place, ModelBranch] = {}

    def apply(self, key: str, move: Move, events: Sequence[Noted]) -> None:
        """Apply an acknowledged move."""
        _APPLIED[type(move)](self, key, move, events)

    def seen(self, place: Place, version: int | None = None) -> dict[str, Parameter]:
        """Return what a branch sees, forks resolved."""
        branch = self.branches[place]
        inherited = {} if branch.source is None else self.seen(branch.source, branch.source_version)
        return inherited | {name: value for name, (value, _) in branch.own(version).items()}

    def inherited_steps(self, place: Place) -> dict[str, Stood]:
        """Return the steps that a forked run inherits from its source."""
        branch = self.branches[place]
        if branch.source is None or branch.source[0] == place[0]:
            return {}
        found = self.branches[branch.source].completed(branch.source_version)
        return {name: stood for name, stood in found.items() if name not in branch.steps}

    def carry_over(self, run_id: str) -> None:
        """Make the steps that a forked run inherits its own, because its source is deleted."""
        for name, stood in self.inherited_steps((run_id, ROOT)).items():
            self.branches[run_id, ROOT].steps[name] = ModelStep(stood.status, stood.message, stood.attempts)

    def erase(self, place: Place, version: int) -> None:
        """Erase what an event set."""
        writes = self.branches[place].writes
        if version in writes:
            writes[version] = dict.fromkeys(writes[version], ERASED)

    def create_run(self, _: str, move: CreateRun, events: Sequence[Noted]) -> None:
        run = self.branches[move.run_id, ROOT] = ModelBranch(status=RUNNING)
        run.writes[_version(events, "ParametersSet")] = _parameters(move.values)

    def fork_run(self, _: str, move: ForkRun, __: Sequence[Noted]) -> None:
        source = move.source, move.source_branch
        self.branches[move.run_id, ROOT] = ModelBranch(source, move.source_version, status=RUNNING)

    def fork(self, _: str, move: Fork, __: Sequence[Noted]) -> None:
        parent, name = (move.run_id, move.parent), child_branch(move.parent, move.name)
        head = max(self.branches[parent].writes, default=0)  # its last write: its later versions set nothing
        self.branches[move.run_id, name] = ModelBranch(parent, head)
        self.branches[parent].children.append(name)

    def set_parameters(self, _: str, move: SetParameters, events: Sequence[Noted]) -> None:
        writes = self.branches[move.run_id, move.branch].writes
        writes[_version(events, "ParametersSet")] = _parameters(move.values)

    def reduce(self, _: str, move: Reduce, events: Sequence[Noted]) -> None:
        children = [ModelChild(name, self.branches[move.run_id, name].own(), {}) for name in move.children]
        reduction = reduce_naively(children, {}, rules=move.rules)
        self.branches[move.run_id, move.branch].writes[_version(events, "ParametersReduced")] = reduction.values

    def start_attempt(self, key: str, move: StartAttempt, events: Sequence[Noted]) -> None:
        branch = self.branches[move.run_id, move.branch]
        inherited = self.inherited_steps((move.run_id, move.branch)).get(move.step)
        message = "" if inherited is None else inherited.message
        step = branch.steps.setdefault(move.step, ModelStep(RUNNING, message))
        for each in events:  # another run may be forked between them
            if each.event_type == "AttemptCreated":
                step.attempts.append(ModelAttempt(derived_id(move.run_id, key)))
                step.status = RUNNING
            branch.note_step(move.step, each.version)
        assert step.status == RUNNING

    def end_attempt(self, key: str, move: EndAttempt, events: Sequence[Noted]) -> None:
        branch = self.branches[move.run_id, move.branch]
        for name, step in branch.steps.items():
            for attempt in step.attempts:
                if attempt.attempt_id == move.attempt_id:
                    attempt.status, attempt.external_id = move.status, key
                    step.status = move.status if attempt is step.attempts[-1] else step.status
                    branch.note_step(name, events[-1].version)

    def log_step(self, key: str, move: LogStep, events: Sequence[Noted]) -> None:
        branch = self.branches[move.run_id, move.branch]
        step = branch.steps.setdefault(move.step, ModelStep(move.status))
        step.status, step.message = move.status, key
        branch.note_step(move.step, events[0].version)

    def end_run(self, _: str, move: EndRun, __: Sequence[Noted]) -> None:
        self.branches[move.run_id, ROOT].status = move.status


_APPLIED: Final[dict[type, Callable[[Model, str, Any, Sequence[Noted]], None]]] = {
    CreateRun: Model.create_run,
    ForkRun: Model.fork_run,
    Fork: Model.fork,
    SetParameters: Model.set_parameters,
    Reduce: Model.reduce,
    StartAttempt: Model.start_attempt,
    EndAttempt: Model.end_attempt,
    LogStep: Model.log_step,
    EndRun: Model.end_run,
    PinRun: lambda *_: None,
}


def _version(events: Sequence[Noted], event_type: str) -> int:
    (version,) = [each.version for each in events if each.event_type == event_type]
    return version


def _parameters(values: dict[str, Any]) -> dict[str, Parameter]:
    return {name: Parameter(value) for name, value in values.items()}
