"""A migration that is interrupted at any point leaves the state store as it was, or the whole log."""

import asyncio
import gc
import logging
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import open_engine
from engine.errors import AnabranchError
from engine.logs import sqlite_opening
from engine.logs.forking import connect
from tests import legacy_state_files as old
from tests.legacy_state_rows import assert_holds, expected, values_of

LOG = logging.getLogger(__name__)
_ROOT = Path(__file__).parents[2]
_INSTRUCTIONS = 5  # of SQLite's virtual machine, between two calls of the progress handler
_BREAKS = 12


def _padded(rows: old.Rows, bytes_each: int) -> old.Rows:
    """Make a state store larger than SQLite's cache, so that pages are written before the commit."""
    rows["tasks"] += [old.task(f"padding-{index}", "run-2", command="x" * bytes_each) for index in range(300)]
    return rows


@pytest.mark.parametrize(
    ("version", "journal", "padding", "every"),
    [
        pytest.param("4", "DELETE", 0, 9, id="a few"),
        pytest.param("4", "DELETE", 0, 1, id="version 4", marks=pytest.mark.slow),
        pytest.param("1", "DELETE", 0, 1, id="version 1", marks=pytest.mark.slow),
        pytest.param("4", "WAL", 0, 1, id="version 4 in WAL mode", marks=pytest.mark.slow),
        pytest.param("4", "DELETE", 12_000, 251, id="more than the cache holds", marks=pytest.mark.slow),
        pytest.param("4", "WAL", 12_000, 251, id="more than the cache holds in WAL mode", marks=pytest.mark.slow),
    ],
)
async def test_a_killed_migration_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, preloaded: dict[str, str], version: str, journal: str, padding: int, every: int
) -> None:
    """After a migration is killed before, or halfway through, any change to the files, the next opening migrates the
    file whole, and once.
    """
    state_store = tmp_path / "state.db"
    rows = _padded(old.rich_rows(), padding) if padding else old.rich_rows()
    old.make(state_store, version, rows)
    old.change(state_store, f"PRAGMA journal_mode = {journal}")
    command = [sys.executable, "-m", "tests.faults.migration_kills", str(state_store), version, str(every)]
    done = await asyncio.to_thread(
        subprocess.run, command, env=preloaded, cwd=_ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    kills, changes = map(int, done.stdout.split())
    LOG.info("killed %d migrations of %d changes each", kills, changes)
    assert kills >= 50 // every
    assert changes >= 50


class _Breaking:
    """Replaces `connect`: its connections interrupt a transaction at a chosen point, as SQLite does on a fault."""

    def __init__(self) -> None:
        self.looks = 0
        self.break_at = 0

    def __call__(self, database: Path | str, *, busy_timeout: float) -> sqlite3.Connection:
        connection = connect(database, busy_timeout=busy_timeout)
        self.looks = 0
        connection.set_progress_handler(lambda: self._look(connection), _INSTRUCTIONS)
        return connection

    def _look(self, connection: sqlite3.Connection) -> bool:
        self.looks += connection.in_transaction
        return connection.in_transaction and self.looks == self.break_at


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    """Disables garbage collection, so that what an error keeps alive stays alive."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_garbage_collection")
@pytest.mark.parametrize("journal", ["DELETE", "WAL"])
async def test_a_fault_in_the_middle_leaves_the_state_store(
    database: Path, monkeypatch: pytest.MonkeyPatch, journal: str
) -> None:
    """Wherever SQLite interrupts a migration, the state store's file is unchanged, and the next opening migrates it."""
    old.make(database, "4", old.rich_rows())
    old.change(database, f"PRAGMA journal_mode = {journal}")
    content = database.read_bytes()
    due = expected(values_of(database), "4")
    breaking = _Breaking()
    monkeypatch.setattr(sqlite_opening, "connect", breaking)
    for break_at in _points(await _looks(database, breaking)):
        database.write_bytes(content)
        breaking.break_at = break_at
        with pytest.raises(AnabranchError):
            await open_engine(database)
        assert database.read_bytes() == content
        breaking.break_at = 0
        async with open_engine(database) as engine:
            assert await engine.verify_views() == []
        assert_holds(values_of(database), due)


async def _looks(database: Path, breaking: _Breaking) -> int:
    engine = await open_engine(database)
    looks = breaking.looks
    await engine.close()
    return looks


def _points(looks: int) -> range:
    assert looks > _BREAKS
    return range(1, looks, looks // _BREAKS)
