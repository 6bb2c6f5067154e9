"""Tasks of `worker.py` for processes that fault tests kill. They print what is durable, or their progress."""

import asyncio
import ctypes
import os
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from unittest.mock import patch

from engine import Branch, open_engine
from engine.projectors import Projectors
from projections.rebuild import ViewRebuilder
from projections.state import StateViews
from tests.faults.acknowledged import say


async def write_until_killed(path: str, name: str) -> None:
    """Write on four branches without end, acknowledging each write as `branch value`."""
    async with open_engine(path) as engine, asyncio.TaskGroup() as tasks:
        run = await engine.run("r")
        for index in range(4):
            branch = await run.fork(f"{name}.{index}")
            tasks.create_task(_acknowledge(branch))


async def _acknowledge(branch: Branch) -> None:
    for value in count():
        await branch.set_parameters(
            {"value": value, "big": "x" * (value % 4 * 5000)}
        )  # commits checkpoint now and then
        say(branch.name, value)
        await branch.log_step(f"step {value % 10}", message=str(value))


async def write_until_change(path: str, name: str, change: str) -> None:
    """Write like `write_until_killed`, until `kill_at.c` kills the process at a file change, in a transaction."""
    async with open_engine(path) as engine:
        branch = await (await engine.run("r")).fork(name)
        library = ctypes.CDLL(None)  # where the symbols of a preloaded library are found
        library.arm(os.fsencode(Path(path).parent), ctypes.c_long(int(change)), int(change) % 2)
        await _acknowledge(branch)


async def stop_in_a_write(path: str, name: str, place: str) -> None:
    """Begin to write, print `held` in the middle of the transaction, and go on when told to.

    `place` is where: `apply`, before an event is folded; `flush`, between the rows of the events and of the views;
    `commit`, after both.
    """
    async with open_engine(path) as engine:
        branch = await (await engine.run("r")).fork(name)
        where, after = ("flush", True) if place == "commit" else (place, False)
        with patch.object(Projectors, where, _stopping(getattr(Projectors, where), after=after)):
            await branch.set_parameters({"value": 0})
    say("written")


async def fork_then_write(path: str, name: str) -> None:
    """Write without end, with a forked child that is asleep."""
    async with open_engine(path) as engine, asyncio.TaskGroup() as tasks:
        run = await engine.run("r")
        for index in range(4):
            tasks.create_task(_acknowledge(await run.fork(f"{name}.{index}")))
        child = os.fork()
        if child == 0:
            sys.stdin.read()
            os._exit(0)
        say("child", child)


async def rebuild_until_killed(path: str) -> None:
    """Rebuild the views again and again, printing the progress."""
    async with open_engine(path) as engine:
        while True:
            await engine.rebuild(say)


async def stop_in_a_rebuild(path: str, place: str) -> None:
    """Rebuild the views, print `held` in the transaction that swaps them, and go on when told to.

    `place` is `dropped`, when some of the old tables are dropped and not created again, or `replaced`, just before the
    commit.
    """
    if place == "replaced":
        stopping = patch.object(ViewRebuilder, "replace", _stopping(ViewRebuilder.replace, after=True))
    else:  # the first tables created are those to fold into
        create = _stopping(StateViews.create_tables, after=False, call=2)
        stopping = patch.object(StateViews, "create_tables", create)
    async with open_engine(path) as engine:
        with stopping:
            await engine.rebuild()
    say("rebuilt")


def _stopping(function: Callable[..., None], *, after: bool, call: int = 1) -> Callable[..., None]:
    """Return a function that stops at one of its calls, before or after its work."""
    calls = count(1)

    def stop(*arguments: object, **options: object) -> None:
        stops = next(calls) == call
        if after:
            function(*arguments, **options)
        if stops:
            say("held")
            sys.stdin.read()
        if not after:
            function(*arguments, **options)

    return stop
