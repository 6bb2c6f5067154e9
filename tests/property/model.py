"""A model of a store of runs that copies all state at every fork and keeps every version.

The engine copies nothing and keeps only events; the state machine compares the two.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from msgspec import Struct, field, structs

from engine.model import SUCCEEDED_STATUSES, AttemptDocument, Parameter
from tests.property.naive_reduction import ModelChild, ModelReduction, reduce_naively


class ModelAttempt(Struct):
    attempt_id: str | None
    status: str
    message: str = ""
    inputs: dict[str, Parameter] = field(default_factory=dict)
    outputs: dict[str, Parameter] = field(default_factory=dict)
    metrics: dict[str, Parameter] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    external_id: str | None = None
    status_reason: str | None = None
    began_at: None = None  # the drawn attempt documents give no times
    ended_at: None = None


class ModelStep(Struct):
    status: str
    name: str
    message: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    status_reason: str | None = None
    attempts: list[ModelAttempt] = field(default_factory=list)


class ModelBranch:
    """One branch: what it sees, what it wrote itself, and a copy of both at every version.

    `inherited` holds the steps that a forked run still has from its source.
    """

    def __init__(
        self,
        name: str,
        parent: str | None,
        seen: Mapping[str, Parameter],
        inherited: Mapping[str, ModelStep] | None = None,
    ) -> None:
        self.name = name
        self.parent = parent
        self.base = dict(seen)
        self.seen = dict(seen)
        self.own: dict[str, tuple[Parameter, int]] = {}
        self.status = "CREATED"
        self.details: dict[str, Any] = {}
        self.inherited = deepcopy(dict(inherited or {}))
        self.steps: dict[str, ModelStep] = {}
        self.history: list[tuple[dict[str, Parameter], dict[str, Parameter]]] = []
        self.step_history: list[dict[str, ModelStep]] = []
        self.advance()

    @property
    def version(self) -> int:
        return len(self.history)

    @property
    def seen_steps(self) -> dict[str, ModelStep]:
        return self.inherited | self.steps

    def advance(self, events: int = 1) -> None:
        """Add this many events to the stream."""
        for _ in range(events):
            self.history.append((dict(self.seen), {name: value for name, (value, _) in self.own.items()}))
            self.step_history.append(deepcopy(self.seen_steps))

    def succeeded_at(self, version: int) -> dict[str, ModelStep]:
        """Return the steps that a run forked at a version inherits."""
        return {
            name: step for name, step in self.step_history[version - 1].items() if step.status in SUCCEEDED_STATUSES
        }

    def set(self, values: Mapping[str, Parameter]) -> None:
        self.seen.update(values)
        self.own.update({name: (value, self.version + 1) for name, value in values.items()})
        self.advance()

    def set_status(self, status: str) -> None:
        if status != self.status:
            self.status = status
            self.advance()

    def log_step(self, step: str, document: ModelStep, attempts: Sequence[AttemptDocument] = ()) -> None:
        """Log a whole step; only differences from the known step become events."""
        if step in self.inherited:
            if self._is_known(self.inherited[step], document, attempts):
                return
            del self.inherited[step]
        known = self.steps.get(step)
        if known is None:
            self.steps[step] = structs.replace(document, attempts=[])
            self.advance()
        else:
            self._describe(known, document)
        log = self.steps[step].attempts
        for place, attempt in enumerate(attempts):
            if place == len(log):
                log.append(ModelAttempt(attempt_id=None, **structs.asdict(attempt)))
                self.advance()
            else:
                self._change(log[place], structs.asdict(attempt))

    def _is_known(self, known: ModelStep, document: ModelStep, attempts: Sequence[AttemptDocument]) -> bool:
        known = deepcopy(known)
        said = ModelBranch(self.name, None, {})
        said.steps = {"step": known}
        said.log_step("step", document, attempts)
        return said.version == 1

    def _take_over(self, step: str) -> None:
        """Log an inherited step in this run's own stream, without its attempts."""
        if step in self.inherited:
            self.steps[step] = structs.replace(self.inherited.pop(step), attempts=[], status_reason=None)
            self.advance()

    def _describe(self, known: ModelStep, document: ModelStep) -> None:
        described = (known.name, known.message, known.details) != (document.name, document.message, document.details)
        if described or known.status != document.status:
            known.name, known.message, known.details = document.name, document.message, document.details
            if known.status != document.status:
                known.status, known.status_reason = document.status, None
            self.advance()

    def _change(self, attempt: ModelAttempt, document: dict[str, Any]) -> None:
        before = structs.asdict(attempt)
        for name, value in document.items():
            setattr(attempt, name, value)
        if structs.asdict(attempt) != before:
            self.advance()

    def set_step_status(self, step: str, status: str, reason: str | None) -> None:
        known = self.seen_steps[step]
        if known.status != status or reason not in (None, known.status_reason):
            self._take_over(step)
            known = self.steps[step]
            known.status, known.status_reason = status, reason
            self.advance()

    def remove_step(self, step: str) -> None:
        self.steps.pop(step, None)
        self.inherited.pop(step, None)
        self.advance()

    def start_attempt(self, step: str, attempt_id: str, status: str, message: str) -> None:
        if step in self.inherited:
            self.inherited[step].status = status
            self._take_over(step)
        known = self.steps.get(step)
        if known is None:
            self.steps[step] = ModelStep(status=status, name=step)
            self.advance()
        elif known.status != status:
            known.status, known.status_reason = status, None
        self.steps[step].attempts.append(ModelAttempt(attempt_id=attempt_id, status=status, message=message))
        self.advance()

    def update_attempt(self, step: str, attempt: ModelAttempt, **changes: Any) -> None:
        for name, value in changes.items():
            setattr(attempt, name, value)
        self.advance()

    def finish_attempt(self, step: str, attempt: ModelAttempt, status: str) -> None:
        known = self.steps[step]
        if known.attempts[-1] is attempt and known.status != status:
            known.status, known.status_reason = status, None
        self.update_attempt(step, attempt, status=status)


class ModelRun:
    """The branches of one run, in the order in which they were opened."""

    def __init__(self, seen: Mapping[str, Parameter], inherited: Mapping[str, ModelStep] | None = None) -> None:
        self.branches = {"": ModelBranch("", None, seen, inherited)}

    def fork(self, parent: str, name: str) -> None:
        self.branches[name] = ModelBranch(name, parent, self.branches[parent].seen)

    def children(self, parent: str) -> list[str]:
        return [branch.name for branch in self.branches.values() if branch.parent == parent]

    def reduce(
        self, parent: str, children: Sequence[str], rules: Mapping[str, str], default: str, on_conflict: str
    ) -> ModelReduction:
        """Fold the children's own writes into the parent.

        Raises:
            Impossible, ModelConflict
        """
        branch = self.branches[parent]
        read = [ModelChild(name, self.branches[name].own, self.branches[name].base) for name in children]
        reduction = reduce_naively(read, branch.seen, rules=rules, default=default, on_conflict=on_conflict)
        branch.set(reduction.values)
        return reduction
