"""The logical work, written down once: what a branch does, whichever peer stores it.

A branch's operations take turns: set two parameters, one durable write; log a step with one attempt, one durable write,
and finish it, another. So a pair of operations is three awaited durable writes.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol, TypeAlias

from msgspec import Struct

ROOT: Final = ""
"""The branch that the others are folded into."""

PAIR: Final = 2
"""Operations of a pair."""

Values: TypeAlias = Mapping[str, float]


class BranchWriter(Protocol):
    """What a branch of some peer's store can be asked to do. Each call returns when all of it is written."""

    async def set_parameters(self, values: Values) -> None:
        """Set parameters: one durable write."""
        ...

    async def log_step(self, step: str) -> None:
        """Log a step with one attempt, one durable write; then finish both as completed, another."""
        ...


class SetParameters(Struct, frozen=True):
    """Set two parameters."""

    values: dict[str, float]

    async def by(self, writer: BranchWriter) -> None:
        """Have it done."""
        await writer.set_parameters(self.values)


class LogStep(Struct, frozen=True):
    """Log a step with one attempt, and finish it."""

    step: str

    async def by(self, writer: BranchWriter) -> None:
        """Have it done."""
        await writer.log_step(self.step)


Operation: TypeAlias = SetParameters | LogStep


class Found(Struct, frozen=True):
    """What a store holds of one branch: how often parameters were set, and how many steps are completed."""

    parameter_sets: int = 0
    completed_steps: int = 0


def operations_of_a_branch(count: int) -> list[Operation]:
    """Return the `count` operations of one branch; an even number, as they come in pairs."""
    pairs = ((SetParameters(values_at(turn)), LogStep(step_at(turn))) for turn in range(count // PAIR))
    return [operation for pair in pairs for operation in pair]


async def seconds_of(writers: Sequence[BranchWriter], operations: int) -> float:
    """Have all branches do their operations at once, and return how long that took."""
    script = operations_of_a_branch(operations)

    async def perform(writer: BranchWriter) -> None:
        for operation in script:
            await operation.by(writer)

    began = time.perf_counter()
    await asyncio.gather(*map(perform, writers))
    return time.perf_counter() - began


def values_at(turn: int) -> dict[str, float]:
    """Return the parameters that are set in one turn."""
    return {"epoch": turn, "loss": 1 / (turn + 1)}


def step_at(turn: int) -> str:
    """Return the name of the step that is logged in one turn."""
    return f"step-{turn}"


def folded(children: Iterable[Values]) -> dict[str, float]:
    """Return what a run makes of its children's values: the last epoch and the least loss."""
    epochs, losses = zip(*((child["epoch"], child["loss"]) for child in children), strict=True)
    return {"epoch": max(epochs), "loss": min(losses)}


def branch_names(count: int, *, first: int = 0) -> list[str]:
    """Return the names of some branches, by their numbers from `first` on."""
    return [f"fit.branch-{number}" for number in range(first, first + count)]


def branch_number(name: str) -> int:
    """Return the number in a name of `branch_names`."""
    return int(name.rpartition("-")[2])


def compare(found: Mapping[str, Found], branches: Sequence[str], operations: int) -> tuple[int, Counter[str]]:
    """Return how many operations are missing in a store, and what else is wrong with it."""
    due = operations // PAIR
    missing = 0
    wrong: Counter[str] = Counter()
    for branch in branches:
        there = found.get(branch, Found())
        for count in (there.parameter_sets, there.completed_steps):
            missing += max(0, due - count)
            if count > due:
                wrong[f"{branch}: {count - due} operations more than were asked for"] += 1
    return missing, wrong
