"""Kills removals at one change to the files after another, and checks what each of them leaves.

Run with `kill_at.c` preloaded: `python -m tests.faults.removal_kills REMOVAL EVERY` kills a removal at every EVERY-th
change. It prints the number of kills, and the number of changes that a whole removal makes.
"""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeAlias

from engine import Engine, open_engine
from engine.events import PayloadErased
from engine.model import COMPLETED
from tests.faults.armed import killed_at

SECRET: Final = "correct-horse-battery"
Seen: TypeAlias = dict[str, Any]

REMOVALS: Final[dict[str, Callable[[Engine], Awaitable[Any]]]] = {
    "erase": lambda engine: engine.erase("r", None, 2, "a key"),
    "delete": lambda engine: engine.delete_run("old 1", "old"),
    "carry over": lambda engine: engine.delete_run("r", "old", carry_over=True),
    "collect": lambda engine: engine.collect(timedelta(0)),
    "compact": lambda engine: engine.compact(),
}


async def _prepare(database: Path) -> None:
    async with open_engine(database) as engine:
        run = await engine.create_run("r", parameters={"x": SECRET * 300, "y": 1})
        async with run.attempt("train", outputs={"o": 1}):
            await run.set_parameters({f"p{number}": number for number in range(50)})
        for fork in ("f", "g"):
            await engine.fork_run("r", run_id=fork)
        for number in range(3):
            old = await engine.create_run(f"old {number}", parameters={"z": "z" * 3000})
            await old.set_status(COMPLETED)


async def _seen(engine: Engine) -> Seen:
    """Return what the store shows of its runs, and the number of erasures on record."""
    runs = [await engine.run(each.run_id) for each in await engine.runs()]
    shown = {run.run_id: (await run.parameters(), await run.parameters(at=1), list(await run.steps())) for run in runs}
    return {**shown, "erased": len([each async for each in engine.events(types=[PayloadErased])])}


def _is_one_of(seen: Seen, before: Seen, after: Seen, removal: str) -> bool:
    if removal == "collect":  # run by run, each whole or not at all
        left = [each for each in ("old 2", "old 1", "old 0") if each in seen]
        return left == ["old 2", "old 1", "old 0"][3 - len(left) :] and seen == {name: before[name] for name in seen}
    return seen in (before, after)


def _killed_at(database: Path, removal: str, change: int) -> bool:
    """Remove in a child that is killed at a change; return whether it was killed before it finished."""
    return killed_at(database.parent, change, lambda: _removed(database, removal))


async def _removed(database: Path, removal: str) -> Seen:
    async with open_engine(database) as engine:
        await REMOVALS[removal](engine)
        return await _seen(engine)


async def _assert_before_or_after(database: Path, removal: str, before: Seen, after: Seen) -> None:
    async with open_engine(database) as engine:
        assert list((await engine.verify()).problems) == []
        assert await engine.verify_views() == []
        seen = await _seen(engine)
        assert _is_one_of(seen, before, after, removal), seen
        if removal in ("erase", "collect", "compact") or seen == before:  # repeat the removal
            await REMOVALS[removal](engine)
        assert await _seen(engine) == after
        await engine.create_run("after")
        await engine.compact()
        assert list((await engine.verify()).problems) == []
        assert await engine.verify_views() == []
    if removal == "erase":
        assert all(SECRET.encode() not in path.read_bytes() for path in database.parent.iterdir())


def _copied(source: Path, folder: str) -> Path:
    return Path(shutil.copy(source, folder))


async def _before_and_after(prepared: Path, removal: str) -> tuple[Seen, Seen]:
    with tempfile.TemporaryDirectory() as folder:
        database = _copied(prepared, folder)
        async with open_engine(database) as engine:
            before = await _seen(engine)
        return before, await _removed(database, removal)


def kill_each(removal: str, every: int) -> tuple[int, int]:
    """Return how many removals were killed, each at a later change, and how many changes a whole one makes."""
    with tempfile.TemporaryDirectory() as origin:
        prepared = Path(origin) / "runs.db"
        asyncio.run(_prepare(prepared))
        before, after = asyncio.run(_before_and_after(prepared, removal))
        change, kills = 1, 0
        while True:
            with tempfile.TemporaryDirectory() as folder:
                database = _copied(prepared, folder)
                killed = _killed_at(database, removal, change)
                if killed and change % 3 == 0:
                    _killed_at(database, removal, change % 11 + 1)  # the recovery, too
                asyncio.run(_assert_before_or_after(database, removal, before, after))
            if not killed:
                return kills, change - 1
            change, kills = change + every, kills + 1


if __name__ == "__main__":
    print(*kill_each(sys.argv[1], int(sys.argv[2])))  # noqa: T201 - the pipe is how it answers
