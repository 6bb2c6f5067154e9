"""A lock that somebody else holds: calls fail by name within the busy timeout, and go on once it is free."""

import asyncio
import contextlib
import fcntl
import sqlite3
from pathlib import Path

import pytest

from engine import open_engine
from engine.errors import StoreBusy
from engine.logs.file_lock import FileLock
from tests.faults.children import next_line, start_worker
from tests.faults.leaks import nothing_left, open_files


@pytest.mark.parametrize("task", ["hold_lock", "hold_transaction"])
async def test_a_lock_that_another_process_holds_makes_a_write_fail_by_name(database: Path, task: str) -> None:
    """Within the busy timeout the write raises StoreBusy; nothing is recorded, then or later; reads go on."""
    async with open_engine(database, busy_timeout=0.2) as engine:
        run = await engine.create_run("r", parameters={"a": 1})
        holder = await start_worker(task, database)
        assert await next_line(holder) == "held"
        with pytest.raises(StoreBusy) as caught:
            await run.set_parameters({"a": 2})
        assert (caught.value.path, caught.value.waited_seconds) == (database, 0.2)
        assert (await run.parameters())["a"].value == 1
        await holder.communicate(b"")
        await run.set_parameters({"b": 1})
        assert [recorded.position async for recorded in engine.events()] == [1, 2, 3]
        assert (await run.parameters())["a"].value == 1


@pytest.mark.parametrize("task", ["hold_lock", "hold_transaction"])
async def test_who_only_reads_waits_for_no_writer(database: Path, task: str) -> None:
    """A file that is up to date is opened and read while another process holds the lock, or is in a transaction."""
    async with open_engine(database) as engine:
        await engine.create_run("r")
    holder = await start_worker(task, database)
    assert await next_line(holder) == "held"
    async with open_engine(database, busy_timeout=0.2) as engine:
        assert [run.run_id for run in await engine.runs()] == ["r"]
    await holder.communicate(b"")


@pytest.mark.parametrize("task", ["hold_lock", "hold_transaction"])
async def test_a_lock_that_another_process_holds_makes_migrating_fail_by_name(database: Path, task: str) -> None:
    """Opening a file that has to be written first waits no longer than the busy timeout, and leaves nothing behind."""
    async with open_engine(database) as engine:
        await engine.create_run("r")
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE view_checkpoints SET version = 0")
        connection.commit()
    holder = await start_worker(task, database)
    assert await next_line(holder) == "held"
    before = open_files(database.parent)
    with pytest.raises(StoreBusy):
        async with open_engine(database, busy_timeout=0.2):
            pass
    assert open_files(database.parent) == before
    await holder.communicate(b"")
    async with open_engine(database) as engine:
        await engine.run("r")


async def test_a_held_lock_does_not_hold_up_closing_without_end(database: Path) -> None:
    """Closing needs the lock only for the last checkpoint, and whoever holds it will make that."""
    async with nothing_left(database.parent):
        engine = await open_engine(database, busy_timeout=0.2)
        await engine.create_run("r")
        holder = FileLock(Path(f"{database}-lock"))
        assert holder.try_acquire()
        await asyncio.wait_for(engine.close(), 10)
        holder.close()


async def test_the_lock_of_a_process_can_be_taken_by_hand(database: Path) -> None:
    """The lock is plain `flock` on the file beside the database, for tools that need the writers to stand still."""
    async with open_engine(database, busy_timeout=0.1) as engine:
        with Path(f"{database}-lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(StoreBusy):
                await engine.create_run("r")
        await engine.create_run("r")


async def test_closing_says_so_when_a_write_still_waits_for_the_lock(database: Path) -> None:
    """It does not hang with whoever holds the lock; once the lock is free, closing again lets go of all."""
    async with nothing_left(database.parent):
        engine = await open_engine(database, busy_timeout=0.1)
        run = await engine.create_run("r")
        holder = FileLock(Path(f"{database}-lock"))
        assert holder.try_acquire()
        with pytest.raises(StoreBusy):
            await run.set_parameters({"a": 1})
        with pytest.raises(StoreBusy):
            await engine.close()
        holder.close()
        await engine.close()
    async with open_engine(database) as engine:
        assert await engine.last_position() == 1
