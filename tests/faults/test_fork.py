"""Forked children never use what their parent opened, and may open the same file themselves."""

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from engine import Engine, Run, open_engine
from engine.errors import WrongProcess
from engine.logs.forking import inside_sqlite
from tests.faults.children import ForkedChild, finished, next_line, start_worker
from tests.uses import USES

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # forking is what is tested


@pytest.mark.parametrize("use", USES)
async def test_a_forked_child_cannot_use_its_parents_engine(engine: Engine, use: str) -> None:
    """Any use of the parent's engine in a forked child raises WrongProcess; the parent's own use goes on."""
    run = await engine.create_run("r", parameters={"a": 1})
    await run.parameters()

    async def child() -> None:
        await USES[use](engine, run)

    assert await ForkedChild(child).outcome() == "WrongProcess"
    assert (await run.set_parameters({"a": 3})).stream_version == 3
    assert (await run.parameters())["a"].value == 3


async def test_the_error_names_both_processes(engine: Engine) -> None:
    """WrongProcess carries the process that opened the engine and the one that used it."""

    async def child() -> tuple[bool, bool]:
        try:
            await engine.last_position()
        except WrongProcess as error:
            return error.opened_in == os.getppid(), error.used_in == os.getpid()
        return False, False

    assert await ForkedChild(child).outcome() == "(True, True)"


async def test_a_child_without_an_event_loop_is_refused(engine: Engine) -> None:
    """A use of the parent's engine raises WrongProcess in a forked child that runs no event loop, too."""

    async def child() -> None:
        await asyncio.to_thread(engine.last_position().send, None)

    assert await ForkedChild(child).outcome() == "WrongProcess"


async def _write_with_an_engine_of_its_own(database: Path, name: str) -> str:
    async with open_engine(database, busy_timeout=10) as engine:
        branch = await (await engine.run("r")).fork(name)
        await branch.set_parameters({"by": name})
        return str(len([recorded async for recorded in engine.events(run_id="r", branch=name)]))


async def test_a_forked_child_may_open_the_file_itself(database: Path, engine: Engine) -> None:
    """A parent and its forked child write beside each other, each through its own engine."""
    run = await engine.create_run("r")
    child = ForkedChild(lambda: _write_with_an_engine_of_its_own(database, "child"))
    await (await run.fork("parent")).set_parameters({"by": "parent"})
    assert await child.outcome() == "2"
    assert set(await run.children()) == {"child", "parent"}
    assert await engine.verify_views() == []


async def test_what_a_child_writes_outlives_its_parents_closing(database: Path) -> None:
    """What a child writes outlives its parent's close. SQLite deletes the write-ahead log when the last process closes
    the file, which must not happen under a child.
    """
    go_on, parent_closed = os.pipe()

    async def child() -> int:
        async with open_engine(database, busy_timeout=10) as engine:
            run = await engine.run("r")
            os.close(parent_closed)
            os.read(go_on, 1)
            for value in range(20):
                await run.set_parameters({"late": value})
            return await engine.last_position()

    async with open_engine(database) as engine:
        await engine.create_run("r", parameters={"a": 1})
        forked = ForkedChild(child)
    os.close(parent_closed)
    assert await forked.outcome() == "22"
    os.close(go_on)
    async with open_engine(database) as engine:
        assert await engine.last_position() == 22


async def _write(run: Run, name: str, stop: asyncio.Event) -> None:
    branch = await run.fork(name)
    while not stop.is_set():
        await branch.set_parameters({"x": 1})
        await branch.parameters()


@pytest.mark.parametrize("forks", [8, pytest.param(100, marks=pytest.mark.slow)])
async def test_a_fork_in_the_middle_of_writing_disturbs_nobody(database: Path, engine: Engine, forks: int) -> None:
    """Children forked at any moment of their parent's writes and reads can open the file and write."""
    run = await engine.create_run("r")
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for index in range(8):
            tasks.create_task(_write(run, f"parent.{index}", stop))
        for index in range(forks):
            await (await run.fork(f"mark.{index}")).set_parameters({"x": 1})
            name = f"child.{index}"
            child = ForkedChild(lambda name=name: _write_with_an_engine_of_its_own(database, name))  # type: ignore[misc]
            assert await child.outcome() == "2"
        stop.set()
    assert await engine.verify_views() == []


async def test_a_sleeping_child_does_not_keep_its_dead_parents_lock(database: Path, engine: Engine) -> None:
    """The lock is free once its holder is dead, even when a forked child inherited the descriptor."""
    run = await engine.create_run("r")
    for attempt in range(5):
        worker = await start_worker("fork_then_write", database, f"w{attempt}")
        while not (await next_line(worker)).startswith("child"):
            pass
        worker.kill()
        assert (await asyncio.wait_for(run.set_parameters({"n": attempt}), 10)).events
        assert worker.stdin is not None
        worker.stdin.close()
        await worker.communicate()


async def test_a_worker_that_forks_nothing_succeeds(database: Path, engine: Engine) -> None:
    """A spawned process opens the file itself and writes."""
    run = await engine.create_run("r")
    await finished(await start_worker("write_branches", database, "spawned", 1, 3))
    assert (await (await run.branch("spawned.0")).head()).stream_version == 4


def _forked(work: Callable[[], object]) -> int:
    """Fork a child that does some work, and return its exit code; an alarm ends a child that hangs."""
    process_id = os.fork()
    if process_id == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process_id, 0)[1])


def _wait_for_forks(threads: Iterable[threading.Thread]) -> None:
    """Wait until all threads fork, and one of them waits for others to leave SQLite.

    More of them wait, unless another module has a lock that only one thread may hold during its fork.
    """
    threads = list(threads)
    while not (
        all(_is_in("_forked", each) for each in threads) and any(_is_in("before_fork", each) for each in threads)
    ):
        os.sched_yield()


def _is_in(function: str, thread: threading.Thread) -> bool:
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None and frame.f_code.co_name != function:
        frame = frame.f_back
    return frame is not None


def _use_sqlite() -> None:
    with inside_sqlite():
        pass


def test_threads_may_fork_at_the_same_time() -> None:
    """Threads may fork at the same time: each child can use SQLite, whichever other thread was about to fork."""
    codes: list[int] = []
    threads = [threading.Thread(target=lambda: codes.append(_forked(_use_sqlite))) for _ in range(3)]
    with inside_sqlite():
        for thread in threads:
            thread.start()
        _wait_for_forks(threads)
    for thread in threads:
        thread.join()
    assert codes == [0, 0, 0]
    _use_sqlite()


class _Interrupted(Exception):
    """Raised by a signal's handler."""


@pytest.mark.parametrize("error", [KeyboardInterrupt, _Interrupted])
def test_a_fork_that_a_signal_interrupts_waits_all_the_same(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fork waits until no thread is inside SQLite even if a signal's handler raises, since Python forks all the same;
    afterwards SQLite can be used, and the error is raised if it is a KeyboardInterrupt, else reported.
    """
    reported: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: reported.append(told.exc_type))
    inside, go_on = threading.Event(), threading.Event()

    def stay() -> None:
        with inside_sqlite():
            inside.set()
            go_on.wait()

    def handler(*_: object) -> None:
        raise error

    codes: list[int] = []
    main = threading.main_thread()

    def interrupt() -> None:
        _wait_for_forks([main])
        signal.pthread_kill(main.ident or 0, signal.SIGUSR1)
        go_on.set()

    def fork() -> None:
        codes.append(_forked(_use_sqlite))
        while error is KeyboardInterrupt:  # the error comes as soon as the fork is over
            os.sched_yield()

    before = signal.signal(signal.SIGUSR1, handler)
    others = [threading.Thread(target=stay), threading.Thread(target=interrupt)]
    try:
        others[0].start()
        inside.wait()
        others[1].start()
        with pytest.raises(KeyboardInterrupt) if error is KeyboardInterrupt else contextlib.nullcontext():
            fork()
    finally:
        signal.signal(signal.SIGUSR1, before)
        for thread in others:
            thread.join()
    assert codes == [0] or (error is KeyboardInterrupt and not codes), "the error may come before the code is noted"
    assert reported == ([] if error is KeyboardInterrupt else [error])
    _use_sqlite()
