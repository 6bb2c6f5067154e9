"""The engine for synchronous callers: an event loop of its own, in a thread of its own, per process.

A `BlockingEngine` opens its file when it is first called, once in every process that calls it: a forked child opens it
anew and leaves what it inherited alone, and an unpickled copy opens it where it arrived. It may be called from any
thread, also from one that runs an event loop, which then waits.

Nobody has to close it. Its threads are daemons, so they never keep a process from ending, and every call that has
returned is durable; at the exit of the interpreter, what is still open is closed.
"""

import atexit
import os
import threading
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import anyio
from anyio.from_thread import BlockingPortal
from typing_extensions import override

from engine.composition import open_engine
from engine.engine import Engine
from engine.errors import EngineClosed, WouldDeadlock

Result = TypeVar("Result")


class BlockingEngine:
    """An engine that is called and waited for. A context manager that closes it; picklable.

    Args:
        path: of a SQLite file, or a URL; a relative path is taken from the folder that is current now.
        options: those of `open_engine`.
    """

    def __init__(self, path: str | Path, **options: Any) -> None:
        _ = open_engine(path, **options)  # refuses bad options here and now, and opens nothing
        self._path = absolute(path)
        self._options = options
        self._prepare()

    def _prepare(self) -> None:
        self._changed = threading.Condition()
        self._serving: _Serving | None = None
        self._calls = 0
        self._closed = False
        _ALL.add(self)

    @override
    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._path!a}>"

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
        """Whether `close` was called in this process or before the fork that made it."""
        return self._closed

    def call(self, work: Callable[[Engine], Awaitable[Result]]) -> Result:
        """Run `work` with the open engine on its event loop, and return what it returns.

        Raises:
            CannotOpen, StoreBusy: the file cannot be opened; the next call tries again.
            EngineClosed: `close` was called.
            WouldDeadlock: the calling thread is the very one that would have to do the work.
        """
        serving = self._begin_call()
        try:
            return serving.call(work)
        finally:
            self._end_call()

    def close(self) -> None:
        """Close the engine and end its thread, once the calls under way have returned.

        Raises:
            WouldDeadlock: called from work that the engine itself runs.
        """
        with self._changed:
            self._refuse_own_thread()
            self._closed = True
            self._changed.wait_for(lambda: not self._calls)
            serving, self._serving = self._serving, None
        if serving is not None:
            serving.stop()

    def close_at_exit(self) -> None:
        """Close the engine, unless a daemon thread is in the middle of a call: nothing is lost then either."""
        if not self._calls:
            self.close()

    def forget_after_fork(self) -> None:
        """Begin anew in a forked child, with a lock that no thread of the parent holds."""
        if self._serving is not None:
            _INHERITED.append(self._serving)
        self._changed = threading.Condition()
        self._serving = None
        self._calls = 0

    def _begin_call(self) -> "_Serving":
        with self._changed:
            self._refuse_own_thread()
            if self._closed:
                raise EngineClosed
            if self._serving is None:
                self._serving = _Serving(self._path, self._options)
            self._calls += 1
            return self._serving

    def _end_call(self) -> None:
        with self._changed:
            self._calls -= 1
            self._changed.notify_all()

    def _refuse_own_thread(self) -> None:
        if self._serving is not None and self._serving.thread is threading.current_thread():
            raise WouldDeadlock


class _Serving:
    """An open engine and the thread that runs its event loop."""

    def __init__(self, path: str, options: dict[str, Any]) -> None:
        opened: Future[tuple[BlockingPortal, Engine]] = Future()
        self.thread = threading.Thread(
            target=anyio.run, args=(_serve, path, options, opened), name="anabranch-engine", daemon=True
        )
        self.thread.start()
        try:
            self._portal, self._engine = opened.result()
        except Exception:
            self.thread.join()
            raise

    def call(self, work: Callable[[Engine], Awaitable[Result]]) -> Result:
        return self._portal.start_task_soon(work, self._engine).result()

    def stop(self) -> None:
        self._portal.call(self._portal.stop)
        self.thread.join()


async def _serve(path: str, options: dict[str, Any], opened: "Future[tuple[BlockingPortal, Engine]]") -> None:
    try:
        async with open_engine(path, **options) as engine, BlockingPortal() as portal:
            opened.set_result((portal, engine))
            await portal.sleep_until_stopped()
    except BaseException as error:
        if opened.done():
            raise
        opened.set_exception(error)


def shared_engine(path: str | Path, **options: Any) -> BlockingEngine:
    """Return the one engine that all callers of this process share on a file; it is closed when the process ends.

    For callers that come and go, such as a store that is unpickled for every task of a pool. Callers with other
    options of `open_engine` share another engine.
    """
    key = absolute(path), tuple(sorted(options.items()))
    with _registry.lock:
        engine = _registry.engines.get(key)
        if engine is None or engine.closed:
            engine = _registry.engines[key] = BlockingEngine(path, **options)
        return engine


def absolute(path: str | Path) -> str:
    """Return where a path leads from the current folder; a URL as it is."""
    return path if isinstance(path, str) and "://" in path else str(Path(path).absolute())


class _Registry:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.engines: dict[tuple[str, tuple[tuple[str, Any], ...]], BlockingEngine] = {}


_ALL: Final[weakref.WeakSet[BlockingEngine]] = weakref.WeakSet()
_registry: Final = _Registry()

# What a child inherits by a fork is neither used nor collected: collecting an event loop or a connection closes it.
_INHERITED: Final[list[_Serving]] = []


def _after_fork_in_child() -> None:
    _registry.lock = threading.Lock()
    for engine in list(_ALL):
        engine.forget_after_fork()


def _close_all() -> None:
    for engine in list(_ALL):
        engine.close_at_exit()


os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_close_all)
