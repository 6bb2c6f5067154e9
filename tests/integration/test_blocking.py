"""The engine for synchronous callers: threads, event loops, closing, pickling.

Tests with several processes are in `test_blocking_processes.py`.
"""

import asyncio
import gc
import os
import pickle
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, Run
from engine.blocking import BlockingEngine, shared_engine
from engine.errors import CannotOpen, EngineClosed, InvalidValue, NotADatabase, RunNotFound, WouldDeadlock
from engine.stores import BlockingRunLogStore


@pytest.fixture
def blocking_engine(database: Path) -> Iterator[BlockingEngine]:
    with BlockingEngine(database) as engine:
        yield engine


async def create(engine: Engine) -> Run:
    return await engine.create_run("r", exist_ok=True)


async def position(engine: Engine) -> int:
    return await engine.last_position()


def our_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "anabranch-engine"]


def test_a_call_returns_what_its_work_returns(blocking_engine: BlockingEngine) -> None:
    """A call passes the open engine to its work and returns the work's result."""
    assert blocking_engine.call(create).run_id == "r"
    assert blocking_engine.call(position) == 1


def test_a_call_raises_what_its_work_raises(blocking_engine: BlockingEngine) -> None:
    """A call raises its work's error unchanged, and the engine stays usable."""
    with pytest.raises(RunNotFound):
        blocking_engine.call(lambda engine: engine.run("unknown"))
    assert blocking_engine.call(position) == 0


def test_work_that_returns_nothing_awaitable_is_refused(blocking_engine: BlockingEngine) -> None:
    """Work that returns something not awaitable, such as an iterator of events, raises InvalidValue with advice."""
    works: list[Any] = [lambda _: 3, lambda engine: engine.events()]
    for work in works:
        with pytest.raises(InvalidValue, match="not awaitable; pass a function that returns an awaitable"):
            blocking_engine.call(work)
    assert blocking_engine.call(position) == 0


def test_an_engine_without_a_thread_fails_by_name(
    blocking_engine: BlockingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the system has no thread left for the engine, a call raises CannotOpen, and a later one tries again."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")  # what Python raises then

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(CannotOpen, match="can't start new thread"):
        blocking_engine.call(position)
    monkeypatch.undo()
    assert blocking_engine.call(position) == 0


class Stop(BaseException):
    """A host's own exception for ending its work."""


@pytest.mark.parametrize("end", [SystemExit(3), Stop()], ids=["an exit", "a host's own"])
def test_work_that_exits_ends_its_own_call_alone(blocking_engine: BlockingEngine, end: BaseException) -> None:
    """A `BaseException` raised by work reaches that call's caller only; other threads' calls and the engine go on."""
    begun, go = threading.Event(), asyncio.Event()

    async def wait(engine: Engine) -> str:
        begun.set()
        await go.wait()
        return (await engine.create_run("other")).run_id

    async def leave(engine: Engine) -> None:
        await engine.create_run("r")
        go.set()
        raise end

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(blocking_engine.call, wait)
        begun.wait()
        threads = set(our_threads())
        with pytest.raises(type(end)) as raised:
            blocking_engine.call(leave)
        assert raised.value is end
        assert waiting.result() == "other"
    assert blocking_engine.call(position) == 2
    assert set(our_threads()) == threads


def test_nothing_is_opened_before_the_first_call(database: Path) -> None:
    """An engine that is never called creates no file and no thread."""
    before = our_threads()
    with BlockingEngine(database):
        assert our_threads() == before
    assert not database.exists()


def test_bad_options_are_refused_at_once(database: Path) -> None:
    """`BlockingEngine` refuses an option that `open_engine` would refuse, before it opens anything."""
    with pytest.raises(InvalidValue):
        BlockingEngine(database, durability="none")  # type: ignore[arg-type]


def test_a_file_that_cannot_be_opened_can_be_tried_again(database: Path) -> None:
    """A failed opening leaves no thread, and the next call tries to open the file again."""
    database.write_text("not a database, but long enough to be looked at as one" * 100)
    with BlockingEngine(database) as engine:
        before = our_threads()
        with pytest.raises(NotADatabase):
            engine.call(position)
        assert our_threads() == before
        database.unlink()
        assert engine.call(position) == 0


def test_many_threads_may_call_at_once(blocking_engine: BlockingEngine) -> None:
    """Calls of many threads share one engine, the first calls included, and none is lost."""
    shared = set[int]()

    async def set_one(engine: Engine, index: int) -> None:
        shared.add(id(engine))
        run = await engine.create_run("r", exist_ok=True)
        await run.set_parameters({f"p{index}": index})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda index: blocking_engine.call(lambda engine: set_one(engine, index)), range(64)))
    assert len(shared) == 1
    assert len(blocking_engine.call(parameters)) == 64


async def parameters(engine: Engine) -> dict[str, object]:
    return {**await (await engine.run("r")).parameters()}


async def test_it_may_be_called_from_a_running_event_loop(blocking_engine: BlockingEngine) -> None:
    """A thread that runs an event loop can make blocking calls, and its loop goes on afterwards."""
    assert blocking_engine.call(create).run_id == "r"
    await asyncio.sleep(0)
    assert blocking_engine.call(position) == 1


def test_a_call_from_its_own_thread_would_deadlock(blocking_engine: BlockingEngine) -> None:
    """Work that calls or closes the engine running it raises WouldDeadlock, and the engine stays usable."""

    async def call_back(_engine: Engine) -> None:
        blocking_engine.call(position)

    async def close(_engine: Engine) -> None:
        blocking_engine.close()

    for work in (call_back, close):
        with pytest.raises(WouldDeadlock):
            blocking_engine.call(work)
    assert blocking_engine.call(position) == 0


def test_closing_ends_the_thread_and_refuses_what_comes_after(database: Path) -> None:
    """Closing ends the engine's thread, later calls raise EngineClosed, and a second close does nothing."""
    engine = BlockingEngine(database)
    before = our_threads()
    engine.call(create)
    engine.close()
    engine.close()
    assert our_threads() == before
    with pytest.raises(EngineClosed):
        engine.call(position)


def test_closing_waits_for_the_calls_under_way(database: Path) -> None:
    """`close` waits until a call that has begun is finished."""
    engine = BlockingEngine(database)
    begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def work(opened: Engine) -> Run:
        go_on = asyncio.Event()
        begun.set_result((asyncio.get_running_loop(), go_on))
        await go_on.wait()
        return await opened.create_run("r")

    with ThreadPoolExecutor(2) as pool:
        called = pool.submit(engine.call, work)
        either: list[Future[Any]] = [called, begun]
        wait(either, return_when=FIRST_COMPLETED)
        loop, go_on = begun.result(timeout=0)
        closed = pool.submit(engine.close)
        while not engine.closed:
            pass
        loop.call_soon_threadsafe(go_on.set)
        closed.result()
        assert called.result().run_id == "r"


def test_whoever_closes_waits_for_the_end(database: Path) -> None:
    """Each of several concurrent `close` calls returns only when the engine's thread has ended."""
    engine = BlockingEngine(database)
    before = our_threads()
    engine.call(create)
    left: list[object] = []

    def close() -> None:
        engine.close()
        left.append(our_threads())

    closers = [threading.Thread(target=close) for _ in range(3)]
    for closer in closers:
        closer.start()
    for closer in closers:
        closer.join()
    assert left == [before] * 3


class _Interrupt(BaseException):
    """The exception that a signal handler raises."""


def test_an_opening_that_is_interrupted_while_its_thread_starts_leaves_none(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupt while the engine's thread starts leaves no thread, and the next call opens the engine anew."""
    start, before = threading.Thread.start, our_threads()

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        if thread.name == "anabranch-engine":
            raise _Interrupt

    engine = BlockingEngine(database)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(_Interrupt):
            engine.call(create)
    while our_threads() != before:
        os.sched_yield()
    assert engine.call(position) == 0
    engine.close()


def test_an_engine_that_is_garbage_ends_its_thread(database: Path) -> None:
    """The thread of an engine that was never closed ends when the engine is garbage-collected."""
    engine = BlockingEngine(database)
    before = our_threads()
    engine.call(create)
    [thread] = [each for each in our_threads() if each not in before]
    del engine
    gc.collect()
    thread.join(timeout=30)
    assert not thread.is_alive()


def test_a_closed_engine_is_let_go_of(database: Path) -> None:
    """A closed engine that its owner lets go of is garbage: no list of the process keeps it."""
    blocking_engine = BlockingEngine(database)

    async def weakly(engine: Engine) -> weakref.ref[Engine]:
        return weakref.ref(engine)

    engine = blocking_engine.call(weakly)
    blocking_engine.close()
    del blocking_engine
    gc.collect()
    assert engine() is None


def test_a_pickled_engine_opens_its_file_where_it_arrives(blocking_engine: BlockingEngine) -> None:
    """An unpickled engine opens the same file by itself."""
    blocking_engine.call(create)
    with pickle.loads(pickle.dumps(blocking_engine)) as copy:
        assert copy.call(position) == 1


@pytest.mark.parametrize("named", ["runs.db", "sqlite:///runs.db"])
def test_a_relative_path_is_taken_from_where_the_engine_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    """A relative path or URL is resolved when the engine is created, so that a later `chdir` changes nothing."""
    monkeypatch.chdir(tmp_path)
    with BlockingEngine(named) as engine:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        engine.call(create)
    assert (tmp_path / "runs.db").exists()


def test_a_shared_engine_is_one_per_file(database: Path) -> None:
    """`shared_engine` returns one engine for all names of a file, and a new one after that is closed."""
    engine = shared_engine(database)
    assert shared_engine(str(database)) is engine
    assert shared_engine(f"sqlite:///{database}") is engine
    engine.close()
    with shared_engine(database) as another:
        assert another is not engine
        assert another.call(position) == 0


def test_a_blocking_store_is_closed_with_its_engine(database: Path) -> None:
    """A blocking store is a context manager; calls after it raise EngineClosed."""
    with BlockingRunLogStore(database) as store:
        store.set_parameters("r", {"x": 1})
    with pytest.raises(EngineClosed):
        store.get_parameters("r")


def test_a_blocking_store_says_what_its_methods_take() -> None:
    """A method of a blocking twin has the name, annotations and docstring of the async method."""
    assert BlockingRunLogStore.get_step_log.__name__ == "get_step_log"
    assert "internal_branch_name" in BlockingRunLogStore.get_step_log.__annotations__
    assert BlockingRunLogStore.get_step_log.__doc__


def test_callers_with_other_options_share_another_engine(database: Path) -> None:
    """`shared_engine` shares an engine only among callers with the same options."""
    with shared_engine(database) as one, shared_engine(database, event_bytes_max=1000) as another:
        assert shared_engine(database, event_bytes_max=1000) is another
        assert one is not another
