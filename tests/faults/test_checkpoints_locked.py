"""Checkpoints are made under the write lock: SQLite before 3.51.3 can corrupt a file in concurrent checkpoints.

A tool that takes the lock itself to copy the files relies on this, too: they do not change meanwhile.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import open_engine
from engine.errors import StoreBusy
from engine.logs.file_lock import FileLock
from engine.logs.own_files import beside
from tests.faults.audit import assert_whole
from tests.faults.children import finished, start_worker
from tests.faults.preload import CheckpointWatch


async def test_who_checkpoints_holds_the_lock(database: Path, watch: CheckpointWatch) -> None:
    """Checkpoints in a commit, in a compaction and at the last close are made under the write lock."""
    for _ in range(2):
        await finished(await start_worker("checkpoint", database, environment=watch.environment))
        assert not beside(database, "-wal").exists()
    assert watch.counts().locked > 1000
    assert watch.counts().unlocked == 0


async def test_a_checkpoint_without_the_lock_is_noticed(database: Path, watch: CheckpointWatch) -> None:
    """The watch notices an engine that closes, and so checkpoints, without the lock."""
    task = "checkpoint_on_closing_without_the_lock"
    await finished(await start_worker(task, database, environment=watch.environment))
    assert watch.counts().unlocked > 0


@pytest.fixture
def lock(database: Path) -> Iterator[FileLock]:
    """The write lock, as taken by a tool that has no connection to the database."""
    lock = FileLock(beside(database, "-lock"))
    yield lock
    lock.close()


def standing(database: Path) -> list[tuple[int, int]]:
    """Return the times and sizes of the database and its write-ahead log. They are not opened: see `prepare_file`."""
    return [(found.st_mtime_ns, found.st_size) for found in (beside(database, end).stat() for end in ("", "-wal"))]


async def test_who_cannot_have_the_lock_closes_without_a_checkpoint(database: Path, lock: FileLock) -> None:
    """While a tool holds the lock, the last engine to close makes no checkpoint and leaves the files unchanged."""
    async with open_engine(database, busy_timeout=0.1) as engine:
        run = await engine.create_run("r", parameters={"a": 1})
        await run.parameters()
        before = standing(database)
        assert lock.try_acquire()
    assert standing(database) == before
    lock.close()
    assert assert_whole(database) == {"r": 2}
    async with open_engine(database) as engine:
        assert (await (await engine.run("r")).parameters())["a"].value == 1
    assert not beside(database, "-wal").exists()


async def test_an_opening_that_fails_closes_without_a_checkpoint(database: Path, lock: FileLock) -> None:
    """An opening that fails because it cannot get the lock leaves the files unchanged."""
    await finished(await start_worker("leave_in_the_log", database, "UPDATE view_checkpoints SET version = 0"))
    before = standing(database)
    assert lock.try_acquire()
    with pytest.raises(StoreBusy):
        await open_engine(database, busy_timeout=0.1)
    assert standing(database) == before
    lock.close()
    async with open_engine(database) as engine:
        assert await engine.verify_views() == []
