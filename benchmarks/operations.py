"""The logical work, defined once for all peers.

The operations of a branch alternate: set two parameters, one durable write; log a step with one attempt, one durable
write, and finish it, another. So a pair of operations is three awaited durable writes.
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
"""The number of operations in a pair."""

Values: TypeAlias = Mapping[str, float]


class BranchWriter(Protocol):
    """A branch of a peer's store. Each call returns when all of it is written."""

    async def set_parameters(self, values: Values) -> None:
        """Set parameters in one durable write."""
        ...

    async def log_step(self, step: str) -> None:
        """Log a step with one attempt in one durable write; then finish both as completed in another."""
        ...


class SetParameters(Struct, frozen=True):
    """Set two parameters."""

    values: dict[str, float]

    async def by(self, writer: BranchWriter) -> None:
        """Perform the operation."""
        await writer.set_parameters(self.values)


class LogStep(Struct, frozen=True):
    """Log a step with one attempt, and finish it."""

    step: str

    async def by(self, writer: BranchWriter) -> None:
        """Perform the operation."""
        await writer.log_step(self.step)


Operation: TypeAlias = SetParameters | LogStep


class Found(Struct, frozen=True):
    """What a store holds of one branch: the numbers of parameter sets and of completed steps."""

    parameter_sets: int = 0
    completed_steps: int = 0


def operations_of_a_branch(count: int) -> list[Operation]:
    """Return the `count` operations of one branch; an even number, as they come in pairs."""
    pairs = ((SetParameters(values_at(turn)), LogStep(step_at(turn))) for turn in range(count // PAIR))
    return [operation for pair in pairs for operation in pair]


async def seconds_of(writers: Sequence[BranchWriter], operations: int) -> float:
    """Have all branches do their operations concurrently; return how long that took, in seconds."""
    script = operations_of_a_branch(operations)

    async def perform(writer: BranchWriter) -> None:
        for operation in script:
            await operation.by(writer)

    began = time.perf_counter()
    await asyncio.gather(*map(perform, writers))
    return time.perf_counter() - began


def values_at(turn: int) -> dict[str, float]:
    """Return the parameters to set in one turn."""
    return {"epoch": turn, "loss": 1 / (turn + 1)}


def step_at(turn: int) -> str:
    """Return the name of the step to log in one turn."""
    return f"step-{turn}"


def folded(children: Iterable[Values]) -> dict[str, float]:
    """Return the reduction of the children's values: the largest epoch and the least loss."""
    epochs, losses = zip(*((child["epoch"], child["loss"]) for child in children), strict=True)
    return {"epoch": max(epochs), "loss": min(losses)}


def branch_names(count: int, *, first: int = 0) -> list[str]:
    """Return `count` branch names, numbered from `first` on."""
    return [f"fit.branch-{number}" for number in range(first, first + count)]


def branch_number(name: str) -> int:
    """Return the number in a name of `branch_names`."""
    return int(name.rpartition("-")[2])


def compare(found: Mapping[str, Found], branches: Sequence[str], operations: int) -> tuple[int, Counter[str]]:
    """Return how many operations are missing in a store, and a message for each surplus."""
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
