"""Grows an anabranch store to a size: runs of the usual work, with many concurrent branches and without syncs."""

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
"""An estimate: five pairs of operations and the fork. It affects only how much is written between two checks."""


async def grow(path: Path, events: int) -> None:
    """Create a store that holds at least `events` events, and hardly more."""
    async with open_engine(path, durability="relaxed") as engine:
        for number in itertools.count():
            left = events - await engine.last_position()
            if left <= 0:
                return
            await write_run(engine, f"run-{number}", min(_BRANCHES, -(-left // _EVENTS_OF_A_BRANCH)), _OPERATIONS)


async def write_run(engine: Engine, run_id: str, branches: int, operations: int) -> None:
    """Record a run whose branches are all written concurrently."""
    run = await engine.create_run(run_id, parameters={"lr": 0.1, "seed": 7})
    writers = [AnabranchBranch(each) for each in await asyncio.gather(*map(run.fork, branch_names(branches)))]
    script = operations_of_a_branch(operations)
    await asyncio.gather(*(_perform(writer, script) for writer in writers))


async def _perform(writer: BranchWriter, script: list[Operation]) -> None:
    for operation in script:
        await operation.by(writer)
