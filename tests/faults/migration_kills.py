"""Kills migrations at one change to the files after another, and checks what each of them leaves.

Run with `kill_at.c` preloaded: `python -m tests.faults.migration_kills STATE_STORE VERSION EVERY` kills a migration at
every EVERY-th change. It prints the number of kills, and the number of changes that a whole migration makes.
"""

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from engine import open_engine
from tests.faults.armed import killed_at
from tests.legacy_state_rows import Values, assert_holds, expected, values_of


async def _migrate(database: Path) -> None:
    async with open_engine(database):
        pass


def _killed_at(database: Path, change: int) -> bool:
    """Migrate in a child that is killed at a change; return whether it was killed before it finished."""
    return killed_at(database.parent, change, lambda: _migrate(database))


async def _assert_migrated_once(database: Path, due: Values, events: int) -> None:
    async with open_engine(database) as engine:
        assert await engine.last_position() == events
        assert await engine.verify_views() == []
        assert list((await engine.verify()).problems) == []
    assert_holds(values_of(database), due)
    left = {path.name.removeprefix(database.name) for path in database.parent.iterdir()}
    assert left == {"", "-lock", next(name for name in left if name.endswith("-backup"))}, left


async def _events_of(state_store: Path) -> int:
    with tempfile.TemporaryDirectory() as folder:
        database = Path(shutil.copy(state_store, folder))
        async with open_engine(database) as engine:
            return await engine.last_position()


def kill_each(state_store: Path, version: str, every: int) -> tuple[int, int]:
    """Return how many migrations were killed, each at a later change, and how many changes a whole one makes."""
    due = expected(values_of(state_store), version)
    events = asyncio.run(_events_of(state_store))
    change, kills = 1, 0
    while True:
        with tempfile.TemporaryDirectory() as folder:
            database = Path(shutil.copy(state_store, folder))
            killed = _killed_at(database, change)
            if killed:
                _killed_at(database, change % 11 + 1)  # sometimes the recovery, too
            asyncio.run(_assert_migrated_once(database, due, events))
        if not killed:
            return kills, change - 1
        change, kills = change + every, kills + 1


if __name__ == "__main__":
    print(*kill_each(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))  # noqa: T201 - the pipe is how it answers
