"""Processes that write, checkpoint, open and close one file at once.

`python -m tests.faults.storm DATABASE SECONDS SEED` prints a line `branch value` for each acknowledged write, and lines
`done what count` at the end of each process.
"""

import asyncio
import os
import random
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeAlias

from engine import Branch, Engine, Run, open_engine
from engine.logs.sqlite import SqliteEventLog
from tests.faults.acknowledged import say

Turn: TypeAlias = Callable[[Engine, Run, str], Awaitable[None]]
Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]

_TURNS_MAX: Final = 12
_BIG: Final = "x" * 20_000
_CHECKPOINTS: Final = "PASSIVE", "FULL", "RESTART", "TRUNCATE"


async def _write(_engine: Engine, run: Run, name: str) -> None:
    """Fork a branch and write small and large values to it."""
    branch = await run.fork(name)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_acknowledged(branch, random.randrange(1, 20)))
        tasks.create_task(branch.log_step("step"))


async def _acknowledged(branch: Branch, writes: int) -> None:
    for value in range(writes):
        await branch.set_parameters({"value": value, "big": _BIG if random.random() < 0.3 else ""})
        say(branch.name, value)


async def _checkpoint(engine: Engine, _run: Run, _name: str) -> None:
    """Checkpoint in one of SQLite's modes, or compact the file."""
    log = engine._log
    assert isinstance(log, SqliteEventLog)
    if random.random() < 0.05:
        await engine.compact()
    else:
        statement = f"PRAGMA wal_checkpoint({random.choice(_CHECKPOINTS)})"
        await log.exclusively(lambda connection: connection.execute(statement).fetchall())


async def _read(engine: Engine, run: Run, _name: str) -> None:
    """Read what others write, and check that it has no gaps."""
    for name in (await run.children())[-5:]:
        branch = await run.branch(name)
        last = (await branch.parameters()).get("value")
        values = [recorded.stream_version async for recorded in engine.events(run_id="r", branch=name)]
        assert values == list(range(1, len(values) + 1))
        assert last is None or len(values) > last.value


_NAMES: Final[dict[Turn, str]] = {_write: "branches", _checkpoint: "checkpoints", _read: "reads"}


async def _come_and_go(database: str, name: str, until: float, turn: Turn) -> None:
    """Open the file, take a few turns and close it again, until the time is over."""
    opened = turns = 0
    while time.monotonic() < until:
        async with open_engine(database) as engine:
            run = await engine.run("r")
            for _ in range(random.randrange(1, _TURNS_MAX)):
                await turn(engine, run, f"{name}.{turns}")
                turns += 1
        opened += 1
    say("done", "opened", opened)
    say("done", _NAMES[turn], turns)


async def _stay(database: str, name: str, until: float, turn: Turn) -> None:
    """Take turns on one engine until the time is over."""
    turns = 0
    async with open_engine(database) as engine:
        run = await engine.run("r")
        while time.monotonic() < until:
            await turn(engine, run, f"{name}.{turns}")
            turns += 1
    say("done", _NAMES[turn], turns)


def _forked(seed: int, work: Work) -> int:
    """Fork a child that does the work; return its process id."""
    child = os.fork()
    if child:
        return child
    random.seed(seed)
    try:
        asyncio.run(work())
    except BaseException:  # noqa: BLE001 - the child must end here, whatever happens
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def storm(database: str, seconds: float, seed: int) -> int:
    """Run five processes; return how many of them failed.

    In every other storm no process keeps the file open all the time, so that some close it as the last.
    """
    until = time.monotonic() + seconds
    turns: list[Turn] = [_write, _write, _checkpoint, _checkpoint, _read]
    works = [partial(_come_and_go, database, f"p{index}", until, turn) for index, turn in enumerate(turns)]
    if seed % 2:
        works[0] = partial(_stay, database, "p0", until, _write)
    children = [_forked(seed * len(works) + index, work) for index, work in enumerate(works)]
    return sum(os.waitpid(child, 0)[1] != 0 for child in children)


if __name__ == "__main__":
    sys.exit(storm(sys.argv[1], float(sys.argv[2]), int(sys.argv[3])))
