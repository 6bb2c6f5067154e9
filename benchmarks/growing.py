"""Growing an anabranch store to a size: run after run of the usual work, many branches at once, without syncing."""

import asyncio
import itertools
from pathlib import Path
from typing import Final

from benchmarks.operations import BranchWriter, Operation, branch_names, operations_of_a_branch
from benchmarks.peers.anabranch import AnabranchBranch
from engine import Engine, open_engine

_BRANCHES: Final = 256
_OPERATIONS: Final = 10
_EVENTS_OF_A_BRANCH: Final = 31
"""About: five pairs of operations and the fork. Only how much is written before looking again depends on it."""


async def grow(path: Path, events: int) -> None:
    """Make a store that holds at least that many events, and hardly more."""
    async with open_engine(path, durability="relaxed") as engine:
        for number in itertools.count():
            left = events - await engine.last_position()
            if left <= 0:
                return
            await write_run(engine, f"run-{number}", min(_BRANCHES, -(-left // _EVENTS_OF_A_BRANCH)), _OPERATIONS)


async def write_run(engine: Engine, run_id: str, branches: int, operations: int) -> None:
    """Record a run whose branches are all written at once."""
    run = await engine.create_run(run_id, parameters={"lr": 0.1, "seed": 7})
    writers = [AnabranchBranch(each) for each in await asyncio.gather(*map(run.fork, branch_names(branches)))]
    script = operations_of_a_branch(operations)
    await asyncio.gather(*(_perform(writer, script) for writer in writers))


async def _perform(writer: BranchWriter, script: list[Operation]) -> None:
    for operation in script:
        await operation.by(writer)
