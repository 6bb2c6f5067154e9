"""Create a run that has a row in every view table."""

import asyncio

from engine import Engine, Run


async def populated(engine: Engine, run_id: str, *, sets: int = 20) -> Run:
    """Record a run with a row in every view table; its branch sets its parameters `sets` times."""
    run = await engine.create_run(run_id, parameters={"a": 1})
    branch = await run.fork("b")
    await asyncio.gather(*(branch.set_parameters({"a": value, "b": [value]}) for value in range(sets)))
    async with branch.attempt("step", operator_key="local") as attempt:
        await attempt.update(external_id="job-7")
    await run.reduce()
    await run.finalize("COMPLETED")
    return run
