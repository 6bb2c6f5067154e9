"""What child processes of the state store's tests run: `python -m tests.integration.state_children NAME DATABASE`.

Each prints the id of every attempt that it has created, once that is durable.
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
    """Create attempts at one task, all processes from the same moment on."""
    if begin is not None:
        begin.wait()
    for _ in range(ATTEMPTS):
        say(store.create_attempt("r", "a", operator_key=str(os.getpid())))


def say(attempt_id: str) -> None:
    os.write(1, f"{attempt_id}\n".encode())  # whole, beside what other processes write


def at_once(database: Path, method: str) -> None:
    """Create attempts in many processes, to which the open store is handed."""
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
    """Create in parent and child at once after a plain fork; neither closes anything."""
    store = SQLiteStateStore(database)
    create(store)
    child = os.fork()
    create(store)
    if child:
        _, status = os.waitpid(child, 0)
        sys.exit(os.waitstatus_to_exitcode(status))


def exit_without_closing(database: Path) -> None:
    """End with the store open, from the main thread, another one and a running loop."""
    store = SQLiteStateStore(database)
    create(store)
    thread = threading.Thread(target=create, args=(store,))
    thread.start()

    async def inside_a_loop() -> None:
        create(store)

    asyncio.run(inside_a_loop())
    thread.join()


def exit_inside_a_loop(database: Path) -> None:
    """End by an exception inside a loop, with the store open."""

    async def leave() -> None:
        create(SQLiteStateStore(database))
        sys.exit(0)

    asyncio.run(leave())


if __name__ in ("__main__", "__mp_main__"):  # the latter in spawned children
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # in its debug mode a busy machine is worth a warning
if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]))
