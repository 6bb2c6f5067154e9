"""A SQLite connection on its own thread: an aiosqlite connection that runs one whole job at a time.

Each public call of aiosqlite is a separate hop to the thread, so a task cancelled between two calls leaves a
transaction open. A job is a plain function that does all its work in one hop, so it cannot be interrupted half-way.
"""

import asyncio
import contextlib
import sqlite3
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import aiosqlite

from engine.cancellation import finish
from engine.logs.forking import inside_sqlite

Result = TypeVar("Result")

_ITER_CHUNK_SIZE = 64  # required by aiosqlite, but unused: cursors are never iterated from the event loop here


def release_cursors(error: BaseException) -> None:
    """Clear the frames of an error's tracebacks.

    A cursor in one of them would keep the file locked until it is garbage-collected, even if the connection is closed.
    """
    waiting, seen = [error], set[int]()
    while waiting:
        raised = waiting.pop()
        if id(raised) not in seen:
            seen.add(id(raised))
            traceback.clear_frames(raised.__traceback__)
            waiting += [each for each in (raised.__context__, raised.__cause__) if each is not None]


def _outcome(job: Callable[[], Result]) -> tuple[Result | None, BaseException | None]:
    try:
        return job(), None
    except BaseException as error:  # noqa: BLE001 - raised in the caller's task
        return None, error


def _settle(answer: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if answer.done():  # its caller was cancelled
        return
    if error is None:
        answer.set_result(result)
    else:
        answer.set_exception(error)


class ThreadNotStarted(sqlite3.OperationalError):
    """The system has no thread left for a connection, or the interpreter is exiting. Translated as SQLite's errors."""


class ThreadConnection:
    """A connection and its thread; created by `ThreadConnection.open`, closed by `close`."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    @property
    def raw(self) -> sqlite3.Connection:
        """The underlying connection, for jobs only."""
        return self._connection._conn  # noqa: SLF001 - aiosqlite does not expose it

    @classmethod
    async def open(cls, connector: Callable[[], sqlite3.Connection]) -> "ThreadConnection":
        """Run `connector` on a new thread.

        If the caller is cancelled, connecting still runs to its end and the connection is closed, so nothing leaks.

        Raises:
            ThreadNotStarted, and what `connector` raises
        """
        failures: list[Exception] = []

        def connect() -> sqlite3.Connection:
            with inside_sqlite():
                try:
                    return connector()
                except Exception as error:  # noqa: BLE001 - raised below
                    # aiosqlite does not join the thread after a failed connect, so return one that can be closed.
                    failures.append(error)
                    return sqlite3.connect(":memory:")

        connection = aiosqlite.Connection(connect, _ITER_CHUNK_SIZE)
        # An engine that was not closed must not keep the process alive; committed data is safe.
        thread = connection._thread  # noqa: SLF001 - as above
        thread.daemon = True
        try:
            opened = cls(await finish(connection))
        except RuntimeError as error:
            if thread.ident is not None:
                raise
            raise ThreadNotStarted(f"its thread cannot be started: {error}") from error
        except asyncio.CancelledError:
            await cls(connection).close()
            raise
        if failures:
            await opened.close()
            raise failures[0]
        return opened

    def run(self, job: Callable[[], Result]) -> asyncio.Future[Result]:
        """Run `job` on the thread, after those before it, even if nobody awaits the future of its result any more.

        The future is not a task, so code that cancels all tasks does not reach it.
        """

        def run() -> Result:
            with inside_sqlite():
                return job()

        return self.run_waiting(run)

    def run_waiting(self, job: Callable[[], Result]) -> asyncio.Future[Result]:
        """`run` a job that first waits for something, and then enters `inside_sqlite` itself."""
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        waiting = [job]  # the thread keeps its last function alive, which must not keep the job's objects alive

        def once() -> None:
            result, error = _outcome(waiting.pop())
            with contextlib.suppress(RuntimeError):  # the loop has been closed, so nobody awaits the answer
                answer.get_loop().call_soon_threadsafe(_settle, answer, result, error)

        _ = self.raw  # raises if the connection is closed
        self._connection._tx.put_nowait((None, once))  # noqa: SLF001 - `_execute` would end the thread with the loop
        return answer

    async def close(self, job: Callable[[], None] | None = None) -> None:
        """Run a last job, as `run_waiting` does, then close the connection and end the thread, even if cancelled."""
        await finish(self._close(job))

    async def _close(self, job: Callable[[], None] | None) -> None:
        try:
            if job is not None:
                await self.run_waiting(job)
            await self.run(self.raw.close)
        finally:
            await self._connection.close()
