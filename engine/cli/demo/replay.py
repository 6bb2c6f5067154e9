"""An independent replay: folds a run from its events, sharing no code with the views, and compares the results."""

from collections.abc import AsyncIterator
from typing import Any

from msgspec import UNSET, Struct, field

from engine.encoding.plain_json import plain
from engine.events import (
    AttemptCreated,
    AttemptUpdated,
    BranchForked,
    BranchStatusChanged,
    ParametersReduced,
    ParametersSet,
    RecordedEvent,
    RunCreated,
    RunForked,
    RunStatusChanged,
    StepLogged,
    StepRemoved,
    StepStatusChanged,
)
from engine.model import Parameter, RunLog, branches_of


class ReplayedBranch(Struct):
    """A branch according to its events: `writes` are the parameters it set, each with the event's stream version."""

    parent: str | None
    parent_version: int
    version: int = 0
    status: str = ""
    writes: list[tuple[int, dict[str, Parameter]]] = field(default_factory=list)
    steps: dict[str, str] = field(default_factory=dict)
    attempts: dict[str, tuple[str, str]] = field(default_factory=dict)


class Replay:
    """Branches by name, folded from events."""

    def __init__(self) -> None:
        self.branches: dict[str, ReplayedBranch] = {}

    async def feed(self, events: AsyncIterator[RecordedEvent]) -> None:
        """Fold events in the order given."""
        async for recorded in events:
            self._apply(recorded)

    def parameters(self, name: str) -> dict[str, Parameter]:
        """Return what a branch sees: its own writes, then those its parent saw at the fork."""
        seen: dict[str, Parameter] = {}
        branch: ReplayedBranch | None = self.branches[name]
        until = self.branches[name].version
        while branch is not None:
            for version, values in reversed(branch.writes):
                if version <= until:
                    seen = {**values, **seen}
            until = branch.parent_version
            branch = None if branch.parent is None else self.branches.get(branch.parent)
        return seen

    def differences(self, log: RunLog) -> list[str]:
        """Return how a compiled run log differs from the events; an empty list if they agree."""
        logs = {each.branch: each for each in branches_of(log)}
        found = [f"branch {name!r} exists on one side only" for name in sorted(logs.keys() ^ self.branches.keys())]
        for name in sorted(logs.keys() & self.branches.keys()):
            replayed, compiled = self.branches[name], logs[name]
            facts = {
                "status": (replayed.status, compiled.status),
                "version": (replayed.version, compiled.stream_version),
                "parameters": (plain(self.parameters(name)), plain(compiled.parameters)),
                "steps": (replayed.steps, {step: each.status for step, each in compiled.steps.items()}),
                "attempts": (replayed.attempts, _attempts(compiled.steps)),
            }
            found += [f"branch {name!r}: {what} differ" for what, (left, right) in facts.items() if left != right]
        return found

    def _apply(self, recorded: RecordedEvent) -> None:
        event = recorded.event
        if isinstance(event, RunCreated | RunForked):
            self.branches[recorded.branch] = ReplayedBranch(None, 0)
        elif isinstance(event, BranchForked):
            self.branches[recorded.branch] = ReplayedBranch(event.parent, event.parent_version)
        branch = self.branches[recorded.branch]
        branch.version = recorded.stream_version
        match event:
            case RunCreated() | RunForked() | BranchForked() | RunStatusChanged() | BranchStatusChanged():
                branch.status = event.status
            case ParametersSet() | ParametersReduced():
                branch.writes.append((recorded.stream_version, event.values))
            case StepLogged() | StepStatusChanged():
                branch.steps[event.step] = event.status
            case StepRemoved():
                _remove_step(branch, event.step)
            case AttemptCreated():
                branch.attempts[event.attempt_id] = event.step, event.status
            case AttemptUpdated() if event.changes.status is not UNSET:
                branch.attempts[event.attempt_id] = event.step, event.changes.status
            case _:
                pass  # other events change nothing that is compared
        if isinstance(event, AttemptCreated | AttemptUpdated) and event.step_status is not None:
            branch.steps[event.step] = event.step_status


def _remove_step(branch: ReplayedBranch, step: str) -> None:
    branch.steps.pop(step, None)
    branch.attempts = {attempt: each for attempt, each in branch.attempts.items() if each[0] != step}


def _attempts(steps: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {attempt.attempt_id: (attempt.step, attempt.status) for step in steps.values() for attempt in step.attempts}
