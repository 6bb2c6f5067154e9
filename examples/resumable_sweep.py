"""A sweep of learning rates that can be killed at any moment and restarted; finished work is not repeated.

    python examples/resumable_sweep.py sweep.db

Each rate has a branch of its own, in which a line is fitted to some points, epoch by epoch. The branches run
concurrently, and the smallest loss is reduced into the run. After a restart the sweep resumes; a finished one is only
reported. To watch it from another terminal, and to inspect the result:

    anabranch --db sweep.db tail
    anabranch --db sweep.db tree sweep --steps
    anabranch --db sweep.db blame sweep loss
"""

import asyncio
import math
import sys
from collections.abc import Sequence
from typing import Any

from engine import Branch, Run, open_engine
from engine.model import COMPLETED, FAILED, has_ended

RUN_ID = "sweep"
RATES = 0.001, 0.01, 0.05, 0.2, 2.0
EPOCHS = 25
POINTS = [(x / 10, 3 * x / 10 + 1) for x in range(-10, 11)]  # on the line to find
LOSS_MAX = 1_000_000
BEGINNING = {"epoch": 0, "slope": 0.0, "intercept": 0.0, "loss": math.inf}


class Diverged(Exception):
    """The loss exceeds LOSS_MAX: the rate is too large."""


async def sweep(path: str) -> None:
    async with open_engine(path) as engine:
        run = await engine.create_run(RUN_ID, exist_ok=True)
        await end_orphaned_attempts(run)
        branches = [await run.fork(f"rate {rate}", exist_ok=True) for rate in RATES]
        fitted = await asyncio.gather(*map(fit, branches, RATES))
        found = [branch for branch, is_fitted in zip(branches, fitted, strict=True) if is_fitted]
        best = await reduced(run, found) if found else None
        for branch in branches:
            await report(branch, is_best=branch.name == best)


async def reduced(run: Run, found: Sequence[Branch]) -> str:
    """Reduce the branches into the run, and return the name of the best one.

    Both writes have idempotency keys: after a restart they return their original results.
    """
    key = "of " + ", ".join(branch.name for branch in found)
    reduction = await run.reduce(found, rules={"loss": "min"}, default="collect", idempotency_key=f"reduction {key}")
    await run.finalize(COMPLETED, idempotency_key=f"end {key}")
    (source,) = reduction.sources["loss"]
    return source.branch


async def end_orphaned_attempts(run: Run) -> None:
    """End the attempts that a killed process left open. Only one process works on this run, so none is in progress."""
    for _, attempt in await run.all_attempts():
        if not has_ended(attempt.status, attempt.ended_at):
            left = await run.find_attempt(attempt.attempt_id)
            await left.finish_unless_finished(FAILED, "its process was killed")


async def fit(branch: Branch, rate: float) -> bool:
    """Fit the line, starting with the first epoch that is not completed. Return whether the fit converged."""
    known = await branch.compile()
    if known.status == FAILED:
        return False
    done = {name for name, step in known.steps.items() if step.status == COMPLETED}
    for number in range(1, EPOCHS + 1):
        if f"epoch {number}" in done:
            continue
        try:
            async with branch.attempt(f"epoch {number}"):  # running, then completed or failed
                await train(branch, number, rate)
        except Diverged as error:
            await branch.set_status(FAILED, str(error))
            return False
    await branch.set_status(COMPLETED)
    return True


async def train(branch: Branch, epoch: int, rate: float) -> None:
    """Record one step of gradient descent in one event, together with its epoch."""
    line = await values(branch)
    if line["epoch"] < epoch:  # otherwise the process was killed between this write and the end of its attempt
        await branch.set_parameters({"epoch": epoch, **descended(line["slope"], line["intercept"], rate)})


async def values(branch: Branch) -> dict[str, Any]:
    """Return what the branch set itself, without what it inherits from the run."""
    own = await branch.parameters(inherited=False)
    return BEGINNING | {name: parameter.value for name, parameter in own.items()}


def descended(slope: float, intercept: float, rate: float) -> dict[str, float]:
    errors = [(x, slope * x + intercept - y) for x, y in POINTS]
    slope -= rate * sum(2 * error * x for x, error in errors) / len(POINTS)
    intercept -= rate * sum(2 * error for _, error in errors) / len(POINTS)
    loss = sum((slope * x + intercept - y) ** 2 for x, y in POINTS) / len(POINTS)
    if loss > LOSS_MAX:
        raise Diverged(f"the loss is {loss:,.0f}")
    return {"slope": slope, "intercept": intercept, "loss": loss}


async def report(branch: Branch, *, is_best: bool) -> None:
    log, line = await branch.compile(), await values(branch)
    tries = [attempt for step in log.steps.values() for attempt in step.attempts]
    failed = sum(attempt.status == FAILED for attempt in tries)
    found = f"loss {line['loss']:<10.3g}  y = {line['slope']:.3f} x + {line['intercept']:.3f}"
    best = "  <- best" if is_best else ""
    print(f"{branch.name:10}  {log.status:9}  {found}  {len(tries)} attempts, {failed} failed{best}")


if __name__ == "__main__":
    asyncio.run(sweep(sys.argv[1] if len(sys.argv) > 1 else "sweep.db"))
