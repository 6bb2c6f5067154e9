"""The engine for synchronous callers, on its own event loop in its own thread, one per process.

A `BlockingEngine` opens its file on the first call in each process: a forked child opens the file again and leaves the
inherited engine alone, and an unpickled copy opens the file in the process that unpickled it. Any thread may call it; a
call from a thread that runs an event loop blocks that loop.

Closing it is optional. Its threads are daemons, so they never keep a process alive, and every call that has returned is
durable. An engine is closed when it is garbage collected, and at interpreter exit.
"""

import asyncio
import atexit
import functools
import inspect
import os
import threading
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeAlias, TypeVar

import anyio
import anyio._backends._asyncio  # not lazily in a thread: a fork during that import would leave the child half of it
from anyio.from_thread import BlockingPortal
from typing_extensions import Unpack, override

from engine.composition import OpenOptions, as_path, open_engine
from engine.errors import CannotOpen, EngineClosed, InvalidValue, WouldDeadlock
from engine.handles.engine import Engine

Result = TypeVar("Result")

_Opened: TypeAlias = tuple[Engine, BlockingPortal, Callable[[], object]]


class BlockingEngine:
    """A synchronous engine. Picklable; as a context manager it closes itself.

    Args:
        path: of a SQLite file, or a URL; a relative path is resolved against the current folder at once.
        options: those of `open_engine`.
    """

    def __init__(self, path: str | Path, **options: Unpack[OpenOptions]) -> None:
        _ = open_engine(path, **options)  # validates the options now, without opening the file
        self._path = absolute(path)
        self._options = options
        self._prepare()

    def _prepare(self) -> None:
        self._changed = threading.Condition()
        self._calls: set[_Call[Any]] = set()
        self._engine_thread: _EngineThread | None = None
        self._closed = False
        _ALL.add(self)

    @override
    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._path!r}>"

    @override
    def __getstate__(self) -> dict[str, Any]:
        return {"_path": self._path, "_options": self._options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether `close` was called in this process, or in its parent before the fork."""
        return self._closed

    def call(self, work: Callable[[Engine], Awaitable[Result]]) -> Result:
        """Run `work` with the open engine on its event loop, and return what it returns.

        Raises:
            InvalidValue: `work` is not a function, or did not return an awaitable.
            CannotOpen, StoreUnavailable: the file cannot be opened; the next call tries again.
            EngineClosed: `close` was called, or the interpreter is exiting and has closed the engine.
            WouldDeadlock: the calling thread is the one that runs the engine's event loop.
        """
        if not callable(work):
            raise InvalidValue("work", work, f"is {type(work).__name__}, not a function of the engine")
        call = _Call(work)
        try:  # a KeyboardInterrupt may arrive at any moment
            return self._begin(call).call(call)
        finally:
            self._end(call)

    def close(self) -> None:
        """Wait for running calls, then close the engine and end its thread.

        Raises:
            WouldDeadlock: called from work that the engine runs.
        """
        with self._changed:
            self._check_not_own_thread()
            self._closed = True
            engine_thread = self._engine_thread
            if engine_thread is not None:
                self._changed.wait_for(lambda: not self._calls)
        if engine_thread is not None:
            engine_thread.stop()
            self._engine_thread = None  # only after the wait: if that is interrupted, another `close` waits again

    def forget_after_fork(self) -> None:
        """Reset in a forked child, with a new lock: a thread of the parent may have held the old one."""
        self._changed = threading.Condition()
        self._calls = set()
        self._engine_thread = None

    def _begin(self, call: "_Call[Any]") -> "_EngineThread":
        with self._changed:
            self._check_not_own_thread()
            if self._closed or (self._engine_thread is not None and self._engine_thread.is_stopping):
                raise EngineClosed
            if self._engine_thread is None:
                self._engine_thread = _EngineThread(self._path, self._options, self._calls)
                # Not at exit: `_stop_idle_at_exit` also waits for the end.
                weakref.finalize(self, self._engine_thread.stop_soon).atexit = False
            self._calls.add(call)
            return self._engine_thread

    def _end(self, call: "_Call[Any]") -> None:
        with self._changed:
            self._calls.discard(call)
            self._changed.notify_all()

    def _check_not_own_thread(self) -> None:
        if self._engine_thread is not None and self._engine_thread.thread is threading.current_thread():
            raise WouldDeadlock


class _EngineThread:
    """An open engine and the thread that runs its event loop. `calls` are the running calls."""

    def __init__(self, path: str, options: OpenOptions, calls: "set[_Call[Any]]") -> None:
        opened: Future[_Opened] = Future()
        self.calls = calls
        self.is_stopping = False
        self.thread = threading.Thread(
            target=self._run, args=(path, options, opened), name="anabranch-engine", daemon=True
        )
        try:
            self.thread.start()
            self._engine, self._portal, self._stop = opened.result()
        except Exception as error:
            if self.thread.ident is None:  # out of threads, or the interpreter is exiting
                raise CannotOpen(Path(path), f"its thread cannot be started: {error}") from error
            self.thread.join()
            raise
        except BaseException:  # interrupted: close the engine as soon as it is open
            opened.add_done_callback(_close_unused)
            raise
        _ENGINE_THREADS.add(self)

    def call(self, call: "_Call[Result]") -> Result:
        """Run a call's work; return its result or raise its error."""
        try:
            results, ended = self._portal.start_task_soon(call.run, self._engine).result()
        finally:
            if not call.is_done:  # the caller was interrupted, perhaps before it had a future to wait for
                self._portal.start_task_soon(call.abandon)
        if ended is not None:
            raise ended
        return results[0]

    def stop(self) -> None:
        """Close the engine and wait for the thread to end."""
        self.stop_soon()
        self.thread.join()

    def stop_soon(self) -> None:
        """Ask the thread to close the engine, once; callable from any thread, ignored in a forked child."""
        if self in _ENGINE_THREADS and not self.is_stopping:
            self.is_stopping = True
            self._stop()

    def _run(self, path: str, options: OpenOptions, opened: "Future[_Opened]") -> None:
        try:
            anyio.run(_serve, path, options, opened)
        except BaseException as error:
            if opened.done():
                raise
            if isinstance(error, OSError):  # out of file descriptors, for example
                error = CannotOpen(Path(path), f"its event loop cannot be created: {error.strerror or error}")
            opened.set_exception(error)
        finally:
            _ENGINE_THREADS.discard(self)


def _close_unused(opened: "Future[_Opened]") -> None:
    if opened.exception() is None:
        _, _, stop = opened.result()
        stop()


class _Call(Generic[Result]):
    """Work for the engine's event loop, whose caller waits for it unless interrupted."""

    def __init__(self, work: Callable[[Engine], Awaitable[Result]]) -> None:
        self._work = work
        self._task: asyncio.Task[Any] | None = None
        self.is_done = False

    async def run(self, engine: Engine) -> tuple[list[Result], BaseException | None]:
        """Run the work; return its result, or its `BaseException`.

        A `BaseException` raised here would end the event loop, and with it the calls of other threads.
        """
        self._task = asyncio.current_task()
        try:
            return [await _awaitable(self._work(engine))], None
        except (Exception, asyncio.CancelledError):
            raise
        except BaseException as ended:  # noqa: BLE001 - its caller raises it
            return [], ended
        finally:
            self.is_done = True

    def abandon(self) -> None:
        """Cancel the work if it has started; runs on the event loop."""
        if self._task is not None:
            self._task.cancel()


def _awaitable(answer: Awaitable[Result]) -> Awaitable[Result]:
    if not inspect.isawaitable(answer):
        raise InvalidValue("work", answer, "is its result and not awaitable; pass a function that returns an awaitable")
    return answer


async def _serve(path: str, options: OpenOptions, opened: "Future[_Opened]") -> None:
    stopping = asyncio.Event()
    stop = functools.partial(asyncio.get_running_loop().call_soon_threadsafe, stopping.set)
    async with open_engine(path, **options) as engine, BlockingPortal() as portal:
        opened.set_result((engine, portal, stop))
        await stopping.wait()


def shared_engine(path: str | Path, **options: Unpack[OpenOptions]) -> BlockingEngine:
    """Return the engine that all callers of this process share for a file; it is closed when the process ends.

    For short-lived callers, such as a store that is unpickled for every task of a pool. Callers with different options
    of `open_engine` share a different engine.
    """
    key = absolute(path), tuple(sorted(options.items()))
    with _registry.lock:
        engine = _registry.engines.get(key)
        if engine is None or engine.closed:
            engine = _registry.engines[key] = BlockingEngine(path, **options)
        return engine


def absolute(path: str | Path) -> str:
    """Return a path or a URL as an absolute path, resolved against the current folder.

    Raises:
        InvalidValue: it is neither.
    """
    return str(as_path(path).absolute())


class _Registry:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.engines: dict[tuple[str, tuple[tuple[str, Any], ...]], BlockingEngine] = {}


_ALL: Final[weakref.WeakSet[BlockingEngine]] = weakref.WeakSet()
_registry: Final = _Registry()

_ENGINE_THREADS: Final[set[_EngineThread]] = set()

# A forked child neither uses nor garbage-collects what it inherits: collecting an event loop or connection closes it.
_INHERITED: Final[list[_EngineThread]] = []


def _after_fork_in_child() -> None:
    _INHERITED.extend(_ENGINE_THREADS)
    _ENGINE_THREADS.clear()
    _registry.lock = threading.Lock()
    for engine in list(_ALL):
        engine.forget_after_fork()


def _stop_idle_at_exit() -> None:
    for engine_thread in list(_ENGINE_THREADS):
        if not engine_thread.calls:  # a daemon thread may be in the middle of a call of any length
            engine_thread.stop()


os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_stop_idle_at_exit)
