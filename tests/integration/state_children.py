"""Programs for the child processes of the state store tests.

Start: `python -m tests.integration.state_children NAME DATABASE`. Each program prints the id of every attempt that it
created, once that attempt is durable.
"""

import asyncio
import logging
import multiprocessing
import os
import sys
import threading
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from engine.stores import SQLiteStateStore

PROCESSES = 8
ATTEMPTS = 5


def create(store: SQLiteStateStore, begin: Barrier | None = None) -> None:
    """Create attempts at one task; with a barrier, all processes start at the same moment."""
    if begin is not None:
        begin.wait()
    for _ in range(ATTEMPTS):
        say(store.create_attempt("r", "a", operator_key=str(os.getpid())))


def say(attempt_id: str) -> None:
    os.write(1, f"{attempt_id}\n".encode())  # one write call: lines of several processes do not mix


def at_once(database: Path, method: str) -> None:
    """Create attempts in many processes, each of which receives the open store."""
    context: Any = multiprocessing.get_context(method)
    with SQLiteStateStore(database) as store:
        begin = context.Barrier(PROCESSES)
        children = [context.Process(target=create, args=(store, begin)) for _ in range(PROCESSES)]
        for child in children:
            child.start()
        for child in children:
            child.join()
    sys.exit(max(abs(child.exitcode or 0) for child in children))


def forked(database: Path) -> None:
    at_once(database, "fork")


def spawned(database: Path) -> None:
    at_once(database, "spawn")


def raw_fork(database: Path) -> None:
    """Create attempts in parent and child at once after a plain `os.fork`; neither closes anything."""
    store = SQLiteStateStore(database)
    create(store)
    child = os.fork()
    create(store)
    if child:
        _, status = os.waitpid(child, 0)
        sys.exit(os.waitstatus_to_exitcode(status))


def exit_without_closing(database: Path) -> None:
    """Exit with the store open, after using it from the main thread, another thread and a running event loop."""
    store = SQLiteStateStore(database)
    create(store)
    thread = threading.Thread(target=create, args=(store,))
    thread.start()

    async def inside_a_loop() -> None:
        create(store)

    asyncio.run(inside_a_loop())
    thread.join()


def exit_inside_a_loop(database: Path) -> None:
    """Exit by an exception inside an event loop, with the store open."""

    async def leave() -> None:
        create(SQLiteStateStore(database))
        sys.exit(0)

    asyncio.run(leave())


if __name__ in ("__main__", "__mp_main__"):  # the latter in spawned children
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # in debug mode asyncio warns when the machine is busy
if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]))
