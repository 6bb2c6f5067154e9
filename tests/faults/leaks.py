"""The threads, descriptors, tasks and locks of a process, to compare before and after."""

import asyncio
import fcntl
import gc
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

_JOIN_SECONDS_MAX = 10


def open_files(folder: Path) -> Counter[str]:
    """Return how often each file in `folder` is open in this process."""
    names = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            names.append(os.readlink(descriptor))  # noqa: PTH115 - a deleted file's name ends in " (deleted)"
        except OSError:
            continue  # the descriptor that listed the folder
    return Counter(name for name in names if name.startswith(str(folder)))


def locks_held(folder: Path) -> list[str]:
    """Return the names of the lock files in `folder` that are held."""
    held = []
    for path in filter(Path.is_file, folder.glob("*-lock")):
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held.append(path.name)
    return held


def assert_no_transaction(database: Path) -> None:
    """Assert that no connection holds SQLite's write lock on a database."""
    with closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")  # fails if another connection holds it
        connection.execute("ROLLBACK")


@asynccontextmanager
async def nothing_left(folder: Path) -> AsyncIterator[None]:
    """Assert that the block leaves no thread, task, open file or lock behind."""
    threads, tasks, files = set(threading.enumerate()), asyncio.all_tasks(), open_files(folder)
    yield
    gc.collect()
    for thread in set(threading.enumerate()) - threads:
        if not thread.name.startswith(("asyncio_", "uvloop_")):  # the event loop's own pool
            thread.join(_JOIN_SECONDS_MAX)
            assert not thread.is_alive(), thread
    assert asyncio.all_tasks() <= tasks
    assert open_files(folder) == files
    assert locks_held(folder) == []
