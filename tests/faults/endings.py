"""Processes whose event loop ends while they write: `python -m tests.faults.endings ENDING DATABASE`.

Each acknowledges a write as a line `branch value`, and prints `over` when it has only to exit.
"""

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from itertools import count
from pathlib import Path
from typing import Any, Final, NoReturn

from engine import Engine, Run, open_engine
from engine.errors import EngineClosed, StoreBusy
from engine.logs.file_lock import FileLock
from engine.logs.own_files import beside
from engine.stores import BlockingRunLogStore
from tests.faults.acknowledged import say
from tests.faults.cancelling import pass_turns

_BRANCHES: Final = 4
_WRITES: Final = 25


class _Failure(Exception):
    """Ends a task group."""


async def _write(run: Run, name: str) -> None:
    branch = await run.fork(name)
    for value in count():
        await branch.set_parameters({"value": value})
        say(name, value)


def _begin(run: Run) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(_write(run, f"b{index}")) for index in range(_BRANCHES)]


async def _write_a_while(run: Run) -> None:
    for value in range(_WRITES):
        await run.set_parameters({"main": value})
    await pass_turns(6)  # the other branches' writes are being committed now


_KEPT: list[Engine] = []


async def _unclosed(path: Path) -> None:
    """The main coroutine returns: `asyncio.run` cancels the writers, and nobody closes the engine."""
    engine = await open_engine(path)
    _KEPT.append(engine)
    run = await engine.run("r")
    _begin(run)
    await _write_a_while(run)


async def _closed_while_written(path: Path) -> None:
    """The engine closes while others write."""
    async with open_engine(path) as engine:
        run = await engine.run("r")
        writing = _begin(run)
        await _write_a_while(run)
    assert {type(end) for end in await asyncio.gather(*writing, return_exceptions=True)} == {EngineClosed}


async def _ended_by(path: Path, end: Callable[[asyncio.Task[Any]], object]) -> None:
    """Write in a task group; in the middle of it, call `end` with the task that entered the group."""
    main = asyncio.current_task()
    assert main is not None
    async with open_engine(path) as engine, asyncio.TaskGroup() as tasks:
        run = await engine.run("r")
        for index in range(_BRANCHES):
            tasks.create_task(_write(run, f"b{index}"))
        await _write_a_while(run)
        tasks.create_task(_call(end, main))


async def _call(end: Callable[[asyncio.Task[Any]], object], main: asyncio.Task[Any]) -> None:
    end(main)


def _fail(_main: asyncio.Task[Any]) -> NoReturn:
    raise _Failure


def _terminate(main: asyncio.Task[Any]) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, main.cancel)
    os.kill(os.getpid(), signal.SIGTERM)


async def _waiting_for_the_lock(path: Path, *, close: bool) -> None:
    """The main task ends while a write waits for a lock that is never released."""
    lock = FileLock(beside(path, "-lock"))
    engine = await open_engine(path, busy_timeout=0.3 if close else 86_400)
    _KEPT.append(engine)
    run = await engine.run("r")
    assert lock.try_acquire()
    writing = asyncio.create_task(run.set_parameters({"never": 1}))
    await asyncio.sleep(0.01)  # the process must end whether the write waits by now or not
    if close:
        with contextlib.suppress(StoreBusy):
            await engine.close()
        await asyncio.gather(writing, return_exceptions=True)


def _run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def _run_suppressing(main: Coroutine[Any, Any, None], *expected: type[BaseException]) -> None:
    try:
        asyncio.run(main)
    except BaseException as error:
        if not (isinstance(error, expected) or _holds(error, expected)):
            raise


def _holds(error: BaseException, expected: tuple[type[BaseException], ...]) -> bool:
    return isinstance(error, BaseExceptionGroup) and error.split(expected)[1] is None


def _stop(path: Path) -> None:
    """A loop is stopped and closed while tasks write, which nobody cancels."""
    loop = asyncio.new_event_loop()
    loop.create_task(_unclosed(path)).add_done_callback(lambda _: loop.stop())
    loop.run_forever()
    loop.close()


def _again(path: Path) -> None:
    """After a loop that left its engine open, a second loop opens the file, writes and closes it."""

    async def write() -> None:
        async with open_engine(path) as engine:
            await _write_a_while(await engine.run("r"))

    asyncio.run(_unclosed(path))
    asyncio.run(write())


def _in_a_thread(path: Path) -> None:
    """The main thread ends while a loop writes in a daemon thread."""
    written = threading.Event()

    async def write() -> None:
        async with open_engine(path) as engine:
            run = await engine.run("r")
            _begin(run)
            await _write_a_while(run)
            written.set()
            await asyncio.Event().wait()

    threading.Thread(target=lambda: asyncio.run(write()), daemon=True).start()
    written.wait()


def _blocking(path: Path) -> None:
    """Daemon threads write to a blocking store that nobody closes."""
    store = BlockingRunLogStore(path)
    _STORES.append(store)
    acknowledged = threading.Barrier(_BRANCHES + 1)

    def write(name: str) -> None:
        for value in count():
            store.set_parameters("r", {"value": value}, name)
            say(name, value)
            if value == _WRITES:
                acknowledged.wait()

    for index in range(_BRANCHES):
        threading.Thread(target=write, args=(f"b{index}",), daemon=True).start()
    acknowledged.wait()


_STORES: list[BlockingRunLogStore] = []

ENDINGS: Final[dict[str, Callable[[Path], None]]] = {
    "unclosed": lambda path: _run(_unclosed(path)),
    "closed while written": lambda path: _run(_closed_while_written(path)),
    "cancelled main": lambda path: _run_suppressing(_ended_by(path, asyncio.Task.cancel), asyncio.CancelledError),
    "failed group": lambda path: _run_suppressing(_ended_by(path, _fail), _Failure),
    "sys.exit": lambda path: _run(_ended_by(path, lambda _: sys.exit(7))),
    "SIGINT": lambda path: _run(_ended_by(path, lambda _: os.kill(os.getpid(), signal.SIGINT))),
    "SIGTERM": lambda path: _run(_ended_by(path, lambda _: os.kill(os.getpid(), signal.SIGTERM))),
    "handled SIGTERM": lambda path: _run_suppressing(_ended_by(path, _terminate), asyncio.CancelledError),
    "stopped loop": _stop,
    "another loop": _again,
    "in a thread": _in_a_thread,
    "blocking": _blocking,
    "waiting": lambda path: _run(_waiting_for_the_lock(path, close=False)),
    "closed while waiting": lambda path: _run(_waiting_for_the_lock(path, close=True)),
}

if __name__ == "__main__":
    ENDINGS[sys.argv[1]](Path(sys.argv[2]))
    say("over")
