"""A sweep of learning rates that may be killed at any moment and started again: what was done is not done twice.

    python examples/resumable_sweep.py sweep.db

Every rate has a branch of its own in which a line is fitted to some points, epoch by epoch; the branches run at once,
and the smallest loss is reduced into the run. Started again it goes on where it stood, and a sweep that had ended is
only reported. To watch it from another terminal, and to look at what it left:

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
from engine.model import COMPLETED, FAILED

RUN_ID = "sweep"
RATES = 0.001, 0.01, 0.05, 0.2, 2.0
EPOCHS = 25
POINTS = [(x / 10, 3 * x / 10 + 1) for x in range(-10, 11)]  # of the line that is to be found
LOSS_MAX = 1_000_000
BEGINNING = {"epoch": 0, "slope": 0.0, "intercept": 0.0, "loss": math.inf}


class Diverged(Exception):
    """The loss grew beyond all bounds: the rate is too large."""


async def sweep(path: str) -> None:
    async with open_engine(path) as engine:
        run = await engine.create_run(RUN_ID, exist_ok=True)
        await end_what_was_left(run)
        branches = [await run.fork(f"rate {rate}", exist_ok=True) for rate in RATES]
        fitted = await asyncio.gather(*map(fit, branches, RATES))
        found = [branch for branch, is_fitted in zip(branches, fitted, strict=True) if is_fitted]
        best = await reduced(run, found) if found else None
        for branch in branches:
            await report(branch, is_best=branch.name == best)


async def reduced(run: Run, found: Sequence[Branch]) -> str:
    """Reduce what the branches found, and return the name of the best one.

    A write that has a key is made once: made again, it answers what it did the first time.
    """
    key = "of " + ", ".join(branch.name for branch in found)
    reduction = await run.reduce(found, rules={"loss": "min"}, default="collect", idempotency_key=f"reduction {key}")
    await run.finalize(COMPLETED, idempotency_key=f"end {key}")
    (source,) = reduction.sources["loss"]
    return source.branch


async def end_what_was_left(run: Run) -> None:
    """End the attempts of whoever was killed. Nobody else works on this run: none of them is going on."""
    for _, attempt in await run.all_attempts():
        if attempt.ended_at is None:
            left = await run.find_attempt(attempt.attempt_id)
            await left.finish_unless_finished(FAILED, "its process was killed")


async def fit(branch: Branch, rate: float) -> bool:
    """Fit the line, from the first epoch on that was not completed, and say whether that went well."""
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
    """Record one step of gradient descent: in one event, which says of which epoch it is."""
    line = await values(branch)
    if line["epoch"] < epoch:  # else it was recorded, and the process killed before its attempt had ended
        await branch.set_parameters({"epoch": epoch, **descended(line["slope"], line["intercept"], rate)})


async def values(branch: Branch) -> dict[str, Any]:
    """What the branch has set itself: it also sees what the run has, once that was reduced."""
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
