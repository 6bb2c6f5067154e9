"""Kills backups at one change to the files after another, and checks what each of them leaves.

Run with `kill_at.c` preloaded: `python -m tests.faults.backup_kills EVERY` kills a backup at every EVERY-th change. It
prints the number of kills, and the number of changes that a whole backup makes.
"""

import asyncio
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from engine import open_engine
from engine.checkpoint import Checkpoint
from tests.faults.armed import killed_at
from tests.integration.backups import record_store

_NEW_SECONDS = 120


async def _backed_up(database: Path, target: Path) -> Checkpoint:
    async with open_engine(database) as engine:
        await engine.backup(target)
        return await engine.checkpoint()


def _killed_at(database: Path, target: Path, change: int) -> bool:
    """Back up in a child that is killed at a change; return whether it was killed before it finished."""
    return killed_at(target.parent, change, lambda: _backed_up(database, target))


async def _assert_whole(copy: Path, since: Checkpoint) -> None:
    """Assert that a copy opens by itself and equals its original."""
    with tempfile.TemporaryDirectory() as folder:
        async with open_engine(shutil.copy(copy, folder)) as engine:
            assert (await engine.verify(since=since)).problems == []
            assert await engine.verify_views() == []
            assert (await engine.checkpoint()).root == since.root


async def _assert_whole_or_nothing(database: Path, target: Path) -> None:
    """Assert that the target is missing or whole, and that the next backup leaves nothing else in the folder."""
    names = {path.name for path in target.parent.iterdir()}
    assert names <= {target.name} | {name for name in names if name.startswith("anabranch-partial-")}
    for left in target.parent.glob("anabranch-partial-*"):
        os.utime(left, (time.time() - _NEW_SECONDS, time.time() - _NEW_SECONDS))
    since = await _backed_up(database, target.with_name("next.db"))
    for copy in {path.name for path in target.parent.iterdir()}:
        assert copy in (target.name, "next.db")
        await _assert_whole(target.with_name(copy), since)


def kill_each(every: int) -> tuple[int, int]:
    """Return how many backups were killed, each at a later change, and how many changes a whole one makes."""
    with tempfile.TemporaryDirectory() as origin:
        database = Path(origin) / "runs.db"
        asyncio.run(record_store(database))
        change, kills = 1, 0
        while True:
            with tempfile.TemporaryDirectory() as folder:
                target = Path(folder) / "monday.db"
                killed = _killed_at(database, target, change)
                assert killed or target.exists()
                asyncio.run(_assert_whole_or_nothing(database, target))
            if not killed:
                return kills, change - 1
            change, kills = change + every, kills + 1


if __name__ == "__main__":
    print(*kill_each(int(sys.argv[1])))  # noqa: T201 - the pipe is how it answers
