"""A lock held by another process: calls raise StoreBusy after the busy timeout, and succeed once it is free."""

import asyncio
import contextlib
import fcntl
import gc
import io
import sqlite3
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from engine import Run, open_engine
from engine.errors import StoreBusy
from engine.logs.file_lock import FileLock
from tests.faults.children import next_line, start_worker
from tests.faults.leaks import nothing_left, open_files


@pytest.mark.parametrize("task", ["hold_lock", "hold_transaction"])
async def test_a_lock_that_another_process_holds_makes_a_write_fail_by_name(database: Path, task: str) -> None:
    """A write that waits longer than the busy timeout raises StoreBusy and is never recorded; reads go on."""
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
    """An up-to-date file can be opened and read while another process holds the lock or a transaction."""
    async with open_engine(database) as engine:
        await engine.create_run("r")
    holder = await start_worker(task, database)
    assert await next_line(holder) == "held"
    async with open_engine(database, busy_timeout=0.2) as engine:
        assert [run.run_id for run in await engine.runs()] == ["r"]
    await holder.communicate(b"")


@pytest.mark.parametrize("task", ["hold_lock", "hold_transaction"])
async def test_a_lock_that_another_process_holds_makes_migrating_fail_by_name(database: Path, task: str) -> None:
    """Opening a file that needs a migration raises StoreBusy after the busy timeout, and leaves no file open."""
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
    """Closing does not wait indefinitely for a lock held by another process."""
    async with nothing_left(database.parent):
        engine = await open_engine(database, busy_timeout=0.2)
        await engine.create_run("r")
        holder = FileLock(Path(f"{database}-lock"))
        assert holder.try_acquire()
        await asyncio.wait_for(engine.close(), 10)
        holder.close()


async def test_the_lock_of_a_process_can_be_taken_by_hand(database: Path) -> None:
    """The write lock is a plain `flock` on the `-lock` file beside the database, which other tools can take."""
    async with open_engine(database, busy_timeout=0.1) as engine:
        with Path(f"{database}-lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(StoreBusy):
                await engine.create_run("r")
        await engine.create_run("r")


async def test_closing_says_so_when_a_write_still_waits_for_the_lock(database: Path) -> None:
    """Closing while a write waits for the lock raises StoreBusy; once the lock is free, closing again succeeds."""
    async with nothing_left(database.parent):
        engine = await open_engine(database, busy_timeout=0.1)
        run = await engine.create_run("r")
        holder = FileLock(Path(f"{database}-lock"))
        assert holder.try_acquire()
        with pytest.raises(StoreBusy):
            await run.set_parameters({"a": 1})
        with pytest.raises(StoreBusy, match=r"within 0\.5 s"):
            await engine.close()
        holder.close()
        await engine.close()
    async with open_engine(database) as engine:
        assert await engine.last_position() == 1


@pytest.mark.parametrize("call", ["erase", "delete", "compact", "import", "pin", "set_parameters"])
async def test_what_is_cancelled_before_its_turn_is_not_done(database: Path, call: str) -> None:
    """A call cancelled while it waits for another process's lock is never executed."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    async with open_engine(database) as engine:
        run = await engine.create_run("r", parameters={"a": 1}, status="COMPLETED")
        exported = b"".join([line async for line in engine.export_runs(["r"])])
        await engine.create_run("other")
        calls: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
            "erase": lambda: engine.erase("r", None, 2, "asked for"),
            "delete": lambda: engine.delete_run("r", reason="too old"),
            "compact": engine.compact,
            "import": lambda: engine.import_runs(io.BytesIO(exported)),
            "pin": lambda: engine.pin("r"),
            "set_parameters": lambda: run.set_parameters({"a": 2}),
        }
        before = database.read_bytes(), await engine.last_position()
        holder = FileLock(Path(f"{database}-lock"))
        assert holder.try_acquire()
        task = asyncio.create_task(calls[call]())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        holder.close()
        await (await engine.run("other")).set_parameters({"behind": 1})
        assert (await run.parameters())["a"].value == 1
        assert (database.read_bytes(), await engine.last_position()) == (before[0], before[1] + 1)
        gc.collect()
        assert complaints == []


async def test_a_write_that_was_cancelled_takes_no_neighbour_with_it(database: Path) -> None:
    """Of two writes that wait for the lock together, cancelling one leaves the other to be recorded.

    The cancelled write had begun, and is recorded, too.
    """
    async with open_engine(database) as engine:
        run = await engine.create_run("r")
        holder = FileLock(Path(f"{database}-lock"))
        assert holder.try_acquire()
        gone, kept = (asyncio.create_task(run.set_parameters({name: 1})) for name in ("gone", "kept"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait({gone})
        holder.close()
        await kept
        assert gone.cancelled()
        assert set(await run.parameters()) == {"gone", "kept"}


async def test_an_error_is_not_replaced_by_a_close_that_has_to_wait(database: Path) -> None:
    """An error raised in the block propagates, with a note that the engine could not be closed."""
    holder = FileLock(Path(f"{database}-lock"))
    engines = []

    async def fail() -> None:
        async with open_engine(database, busy_timeout=0.1) as engine:
            engines.append(engine)
            await engine.create_run("r")
            assert holder.try_acquire()
            with pytest.raises(StoreBusy):
                await engine.create_run("other")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        await fail()
    assert "and the engine could not be closed: the write lock" in caught.value.__notes__[0]
    holder.close()
    await engines[0].close()


async def test_a_write_waits_for_what_its_own_engine_is_at(database: Path) -> None:
    """A write waits for its own engine's import longer than the busy timeout, which is for other processes."""
    async with open_engine(database) as engine:
        await engine.create_run("r")
        exported = b"".join([line async for line in engine.export_runs()])
    async with open_engine(database.with_name("other.db"), busy_timeout=0.05) as engine:
        waiting: list[asyncio.Task[Run]] = []

        class Slow(io.BytesIO):
            """A file that is read only after a write has waited longer than the busy timeout."""

            @override
            def readline(self, size: int | None = -1, /) -> bytes:
                if not waiting:
                    asyncio.run_coroutine_threadsafe(begin(), loop).result()
                return super().readline(size)

        async def begin() -> None:
            waiting.append(asyncio.create_task(engine.create_run("behind")))
            await asyncio.wait(waiting, timeout=0.2)

        loop = asyncio.get_running_loop()
        await engine.import_runs(Slow(exported))
        assert (await waiting[0]).run_id == "behind"
