"""An import that is killed, or that fails in its own store, takes in all of the file or nothing."""

import asyncio
import io
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine import Engine, open_engine
from engine.errors import DiskFull, StoreUnavailable
from engine.logs.sqlite_import import Importing
from tests.exports import exported, imported, rows
from tests.golden.make_database import fill

# Prints a line at every pause and waits for one before it goes on; prints `done` at the end.
_IMPORTING = """
import asyncio, sys
from engine import open_engine
from engine.logs import sqlite_import, sqlite_transfer

sqlite_import.CHUNK_EVENTS = 1
sqlite_transfer._Job._pause = lambda job: (print("pause", flush=True), sys.stdin.readline())

async def main():
    async with open_engine(sys.argv[1]) as engine:
        with open(sys.argv[2], "rb") as file:
            await engine.import_runs(file)
        print("done", flush=True)
        sys.stdin.readline()

asyncio.run(main())
"""


@pytest.fixture
async def export(tmp_path: Path) -> Path:
    path = tmp_path / "all.jsonl"
    async with open_engine(tmp_path / "source.db", durability="relaxed") as engine:
        await fill(engine)
        path.write_bytes(await exported(engine))
    return path


@pytest.fixture
async def target(tmp_path: Path) -> AsyncIterator[Engine]:
    """A store with a run of its own."""
    async with open_engine(tmp_path / "target.db") as engine:
        await (await engine.create_run("own")).set_parameters({"x": 1})
        yield engine


def kill_after(database: Path, export: Path, pauses: int) -> bool:
    """Kill an import at a pause, or when it is done; return whether it was done."""
    with subprocess.Popen(
        [sys.executable, "-c", _IMPORTING, str(database), str(export)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as importing:
        assert importing.stdin is not None
        assert importing.stdout is not None
        said = importing.stdout.readline()
        for _ in range(pauses):
            if said == "done\n":
                break
            importing.stdin.write("\n")
            importing.stdin.flush()
            said = importing.stdout.readline()
        importing.kill()
    return said == "done\n"


async def check_killed(target: Engine, export: Path, pauses: int) -> bool:
    """Kill an import; assert that all or nothing of it is recorded. Return whether it was done."""
    before = rows(target.path)
    done = await asyncio.to_thread(kill_after, target.path, export, pauses)
    assert (rows(target.path) == before) is not done
    assert await target.verify_views() == []
    assert (await target.verify()).problems == []
    return done


async def test_an_import_killed_midway_leaves_nothing(target: Engine, export: Path) -> None:
    """An import killed midway leaves the store as it was, and the same import then succeeds."""
    assert not await check_killed(target, export, 50)
    assert all(not run.existed for run in (await imported(target, export.read_bytes())).runs)
    assert await exported(target, "nightly", "forked", "empty") == export.read_bytes()


@pytest.mark.slow
async def test_an_import_killed_anywhere(target: Engine, export: Path) -> None:
    """An import killed at any of its pauses leaves the store as it was, and one killed when done is recorded."""
    pauses = 0
    while not await check_killed(target, export, pauses):
        pauses += 1
    assert pauses > 60
    assert all(run.existed for run in (await imported(target, export.read_bytes())).runs)


@pytest.mark.parametrize("error", [sqlite3.OperationalError("disk I/O error"), MemoryError(), AssertionError()])
async def test_an_import_that_breaks_off_leaves_nothing(
    target: Engine, export: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """An import that fails after everything was written is rolled back, and the engine goes on."""
    run = Importing.run

    def breaking(self: Importing) -> object:
        run(self)
        raise error

    before = rows(target.path)
    with monkeypatch.context() as patched:
        patched.setattr(Importing, "run", breaking)
        with pytest.raises(Exception, match="disk I/O error" if isinstance(error, sqlite3.Error) else "^$"):
            await target.import_runs(io.BytesIO(export.read_bytes()))

    assert rows(target.path) == before
    await (await target.run("own")).set_parameters({"x": 2})
    await imported(target, export.read_bytes())
    assert await target.verify_views() == []


async def test_a_full_disk_is_told_and_leaves_nothing(target: Engine, export: Path) -> None:
    """An import for which the file cannot grow raises a typed error and leaves the store as it was."""
    before = rows(target.path)
    pages = await target._log.exclusively(  # type: ignore[attr-defined]
        lambda connection: connection.execute("PRAGMA page_count").fetchone()[0]
    )
    await target._log.exclusively(  # type: ignore[attr-defined]
        lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}").fetchone()
    )
    with pytest.raises((DiskFull, StoreUnavailable)):
        await imported(target, export.read_bytes())
    assert rows(target.path) == before
