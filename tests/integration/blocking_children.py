"""Programs for the child processes of the blocking tests.

Start: `python -m tests.integration.blocking_children NAME DATABASE`.
"""

import atexit
import contextlib
import fcntl
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path

import anyio
import pytest

from engine import Engine, blocking
from engine.blocking import BlockingEngine, shared_engine
from engine.errors import EngineClosed
from engine.stores import BlockingRunLogStore

WRITES = 20


def write(store: BlockingRunLogStore, writer: str) -> None:
    """Write alternately to the root branch and to the writer's own branch."""
    for index in range(WRITES):
        store.set_parameters("r", {f"{writer}-{index}": index})
        store.set_parameters("r", {"index": index}, f"branch.{writer}")


def exit_without_closing(database: Path) -> None:
    """Exit with two engines left open: one of a store, and a shared one."""
    BlockingRunLogStore(database).set_parameters("r", {"x": 1})
    shared_engine(database).call(lambda engine: engine.last_position())


def call_after_the_engine_has_ended(database: Path) -> None:
    """Make a call in a handler that runs at exit after the engine's own, as one registered before its import does."""
    store = BlockingRunLogStore(database)
    store.set_parameters("r", {"x": 1})

    def late() -> None:
        with pytest.raises(EngineClosed):
            store.set_parameters("r", {"x": 2})

    atexit.unregister(blocking._stop_idle_at_exit)
    atexit.register(late)
    atexit.register(blocking._stop_idle_at_exit)


def thread_outlives_main(database: Path) -> None:
    """Let a non-daemon thread make calls after the main thread has ended."""
    store = BlockingRunLogStore(database)
    store.set_parameters("r", {"x": 0})

    def late() -> None:
        threading.main_thread().join()
        store.set_parameters("r", {"x": 1})
        BlockingRunLogStore(database).set_parameters("r", {"y": 1})

    threading.Thread(target=late).start()


def interrupt_call(database: Path) -> None:
    """Receive SIGINT in a call that never returns, then use the engine again and close it."""

    async def never(_: Engine) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await anyio.sleep_forever()

    with BlockingEngine(database) as engine:
        with contextlib.suppress(KeyboardInterrupt):
            engine.call(never)
        engine.call(lambda each: each.create_run("r"))


def serving() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "anabranch-engine"]


def interrupt_opening(database: Path) -> None:
    """Receive SIGINT while another holder of the lock delays the opening, then wait until no engine thread is left."""

    def interrupt() -> None:
        while not serving():
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    interrupting = threading.Thread(target=interrupt)
    with database.with_name(f"{database.name}-lock").open("xb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        interrupting.start()
        with contextlib.suppress(KeyboardInterrupt):
            BlockingEngine(database).call(lambda each: each.last_position())
            raise AssertionError("the file was opened while it was locked")
        interrupting.join()
    while serving():  # a thread interrupted before it has started cannot be joined yet
        time.sleep(0.001)


def raw_fork(database: Path) -> None:
    """Write in parent and child at once after a plain `os.fork`; the child exits like any script."""
    store = BlockingRunLogStore(database)
    write(store, "before")
    child = os.fork()
    write(store, "parent" if child else "child")
    if child:
        _, status = os.waitpid(child, 0)
        sys.exit(os.waitstatus_to_exitcode(status))


def fork_during_opening(database: Path) -> None:
    """Fork while another thread's first call waits for a lock to open the file; then call in parent and child."""
    engine = BlockingEngine(database)
    opening = threading.Thread(target=engine.call, args=(lambda each: each.create_run("r"),))
    with database.with_name(f"{database.name}-lock").open("xb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        opening.start()
        while not serving():
            time.sleep(0.001)
        child = os.fork()
    if not child:
        engine.call(lambda each: each.create_run("child"))
        return
    _, status = os.waitpid(child, 0)
    opening.join()
    engine.call(lambda each: each.create_run("parent"))
    sys.exit(os.waitstatus_to_exitcode(status))


def fork_during_a_call(database: Path) -> None:
    """Fork while another thread is in a call; then call and close in the child, and only then end the thread's call."""
    engine = BlockingEngine(database)
    begun, may_end = threading.Event(), threading.Event()

    async def held(opened: Engine) -> None:
        begun.set()
        await anyio.to_thread.run_sync(may_end.wait)
        await opened.create_run("r")

    calling = threading.Thread(target=engine.call, args=(held,))
    calling.start()
    begun.wait()
    child = os.fork()
    if not child:
        engine.call(lambda each: each.create_run("child"))
        engine.close()
        return
    _, status = os.waitpid(child, 0)
    may_end.set()
    calling.join()
    sys.exit(os.waitstatus_to_exitcode(status))


def fork_amid_threads(database: Path) -> None:
    """Fork while other threads are inside calls."""
    store = BlockingRunLogStore(database)
    store.set_parameters("r", {})
    busy = [threading.Thread(target=write, args=(store, f"thread{index}")) for index in range(3)]
    for thread in busy:
        thread.start()
    children = [multiprocessing.get_context("fork").Process(target=write, args=(store, f"p{i}")) for i in range(4)]
    for child in children:
        child.start()
    for thread in busy:
        thread.join()
    for child in children:
        child.join()
    sys.exit(max(abs(child.exitcode or 0) for child in children))


def pool(database: Path, method: str) -> None:
    """Write from the workers of a pool; each worker receives the open store by pickling."""
    store = BlockingRunLogStore(database)
    store.set_parameters("r", {})
    with multiprocessing.get_context(method).Pool(3) as workers:
        workers.starmap(write, [(store, f"task{index}") for index in range(6)])


def forked_pool(database: Path) -> None:
    pool(database, "fork")


def spawned_pool(database: Path) -> None:
    pool(database, "spawn")


def fork_of_a_fork(database: Path) -> None:
    """Use one engine in a process, in its forked child and in the child's forked child."""
    engine = BlockingEngine(database)
    engine.call(lambda opened: opened.create_run("r"))
    for _ in range(2):
        child = os.fork()
        if child:
            _, status = os.waitpid(child, 0)
            sys.exit(os.waitstatus_to_exitcode(status))
        engine.call(lambda opened: opened.last_position())


if __name__ in ("__main__", "__mp_main__"):  # the latter in spawned children
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # in debug mode asyncio warns when the machine is busy
if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]))
