"""A process that takes the lock of a run's folder: `python -m tests.faults.lock_worker TASK DATABASE`.

It prints a line for each thing that it has done, and ends when its standard input closes.
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from engine import open_engine
from engine.errors import RunLocked
from engine.stores import RunLock, SQLiteStateStore, StateStore

TURNS = 20


def _say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def hold(database: Path) -> None:
    """Hold the lock of the blocking store."""
    with SQLiteStateStore(database).lock():
        _say("held")
        sys.stdin.read()


def hold_awaiting(database: Path) -> None:
    """Hold the lock of the async store."""

    async def hold() -> None:
        async with open_engine(database) as engine, StateStore(engine).lock():
            _say("held")
            await asyncio.to_thread(sys.stdin.read)

    asyncio.run(hold())


def hold_and_fork(database: Path) -> None:
    """Hold the lock, with a forked child that is asleep."""
    with SQLiteStateStore(database).lock():
        if os.fork() == 0:
            _say("held")
            sys.stdin.read()
            _say("woken")
            os._exit(0)
        sys.stdin.read()


def hold_and_spawn(database: Path) -> None:
    """Hold the lock, with a running program that inherited every descriptor it can."""
    with SQLiteStateStore(database).lock():
        program = "import sys; print('held', flush=True); sys.stdin.read(); print('woken')"
        subprocess.run([sys.executable, "-c", program], close_fds=False, check=False)


def race(database: Path) -> None:
    """Take the lock 20 times, and report if another process was inside meanwhile."""
    taken, inside = 0, database.with_name("inside")
    while taken < TURNS:
        try:
            with RunLock(database.parent):
                inside.touch(exist_ok=False)
                inside.unlink()
                taken += 1
        except RunLocked:
            continue
        except FileExistsError:
            _say("not alone")
            return
    _say("done")


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]))
