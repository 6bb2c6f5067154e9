"""A process that fault tests start, talk to and kill: `python -m tests.faults.worker TASK ARGUMENT…`.

It prints a line for each thing that it has done, once that is durable.
"""

import asyncio
import fcntl
import os
import resource
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from engine import Branch, Engine, open_engine
from engine.errors import RunExists
from engine.logs import sqlite
from engine.logs.connections import ThreadConnection
from engine.logs.file_lock import FileLock
from tests.faults.acknowledged import say
from tests.faults.doomed import (
    fork_then_write,
    rebuild_until_killed,
    stop_in_a_rebuild,
    stop_in_a_write,
    write_until_change,
    write_until_killed,
)


async def write_branches(path: str, name: str, branches: str, operations: str) -> None:
    """Fork branches off run `r` and set a parameter many times on each, concurrently; print how long it took."""
    begun = time.perf_counter()
    async with open_engine(path) as engine, asyncio.TaskGroup() as tasks:
        run = await engine.run("r")
        for index in range(int(branches)):
            branch = await run.fork(f"{name}.{index}")
            tasks.create_task(_write(branch, int(operations)))
    say(time.perf_counter() - begun)


async def _write(branch: Branch, operations: int) -> None:
    for value in range(operations):
        await branch.set_parameters({"value": value, f"p{value % 10}": branch.name})


async def create_run(path: str, run_id: str) -> None:
    """Create a run and print whether it was created or existed."""
    async with open_engine(path) as engine:
        try:
            await engine.create_run(run_id)
        except RunExists:
            say("RunExists")
        else:
            say("created")


async def hold_lock(path: str) -> None:
    """Hold the write lock of a database until stdin closes."""
    with open(path + "-lock", "a+b") as lock:  # noqa: PTH123 - the worker gets the path as text
        fcntl.flock(lock, fcntl.LOCK_EX)
        say("held")
        sys.stdin.read()


async def hold_transaction(path: str) -> None:
    """Hold SQLite's own write lock until stdin closes, like a program that does not know the engine's lock."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    say("held")
    sys.stdin.read()
    connection.execute("ROLLBACK")
    connection.close()


async def rebuild_once(path: str) -> None:
    """Rebuild the views and print the number of events, and the peak memory before and after, in KiB."""
    async with open_engine(path) as engine:
        await engine.last_position()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        events = await engine.rebuild()
        say(events, before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


async def checkpoint(path: str) -> None:
    """Fill the write-ahead log until a commit checkpoints, compact, write again, and close as the last engine."""
    async with open_engine(path) as engine:
        run = await engine.create_run("r", exist_ok=True)
        for number in range(12):
            await run.set_parameters({"big": "x" * 500_000, "number": number})
        await engine.compact()
        await run.set_parameters({"last": True})


async def checkpoint_on_closing_without_the_lock(path: str) -> None:
    """Close an engine without taking the lock."""

    async def close(connection: ThreadConnection, path: Path, lock: FileLock, busy_timeout: float) -> None:
        await connection.close()
        lock.close()

    sqlite._close = close
    async with open_engine(path) as engine:
        await engine.create_run("r", exist_ok=True)


async def leave_in_the_log(path: str, statement: str) -> None:
    """Create a run, run an SQL statement and exit without closing, so that both stay in the write-ahead log."""
    engine = await open_engine(path)
    await engine.create_run("r")
    sqlite3.connect(path, isolation_level=None).execute(statement)
    os._exit(0)


async def stamp(path: str, count: str) -> None:
    """Set the time of the write as a parameter, once for each line on stdin."""
    async with open_engine(path) as engine:
        run = await engine.run("r")
        for _ in range(int(count)):
            sys.stdin.readline()
            await run.set_parameters({"at": time.monotonic()})
            say("written")


async def forget_to_close(path: str) -> None:
    """End without closing the engine."""
    engine = await open_engine(path)
    await _use(engine)
    _KEPT.append(engine)


async def _use(engine: Engine) -> None:
    run = await engine.create_run("unclosed", parameters={"a": 1})
    await run.parameters()


_KEPT: list[Engine] = []

_TASKS: dict[str, Callable[..., Awaitable[None]]] = {
    task.__name__: task
    for task in (
        write_branches,
        write_until_killed,
        write_until_change,
        stop_in_a_write,
        stop_in_a_rebuild,
        fork_then_write,
        create_run,
        hold_lock,
        hold_transaction,
        rebuild_until_killed,
        rebuild_once,
        checkpoint,
        checkpoint_on_closing_without_the_lock,
        leave_in_the_log,
        stamp,
        forget_to_close,
    )
}


async def _main() -> None:
    await _TASKS[sys.argv[1]](*sys.argv[2:])


if __name__ == "__main__":
    asyncio.run(_main())
