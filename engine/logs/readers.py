"""A pool of read-only connections, each with its own thread, so that readers block neither writer nor event loop."""

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from engine.errors import EngineClosed, ReadOvertaken, StoreReplaced
from engine.logs.connections import ThreadConnection, release_cursors
from engine.logs.file_system import is_named
from engine.logs.forking import connect
from engine.logs.sqlite_errors import reading
from engine.logs.wal_limit import WalLimit
from engine.owner import Owner

Result = TypeVar("Result")


def connect_read_only(path: Path, *, immutable: bool = False) -> sqlite3.Connection:
    """Return a connection that cannot write.

    Args:
        immutable: promise that nothing writes to the file; SQLite then creates no files beside it.
    """
    options = "?mode=ro&immutable=1" if immutable else "?mode=ro"
    return connect(f"file:{quote(os.fsencode(path))}{options}", uri=True)


@contextlib.contextmanager
def kept_open(path: Path) -> Iterator[None]:
    """Keep a database open, inside `inside_sqlite`, so that a connection closed meanwhile is not the last one.

    The last connection to close checkpoints and deletes the write-ahead log. If the file cannot be opened here, that
    happens under SQLite's exclusive lock, while no other connection exists.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(sqlite3.Error):
            connection = stack.enter_context(contextlib.closing(connect_read_only(path)))
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # SQLite opens the file only now
        yield


class Readers:
    """Up to `size` connections to one file, opened on demand.

    Args:
        immutable: see `connect_read_only`.
    """

    def __init__(
        self, path: Path, file: os.stat_result, size: int, limit: WalLimit, *, immutable: bool = False
    ) -> None:
        self._path = path
        self._file = file
        self._size = size
        self._limit = limit
        self._immutable = immutable
        self._free = asyncio.Semaphore(size)
        self._idle: list[ThreadConnection] = []
        self._spent: list[ThreadConnection] = []
        self._all: list[ThreadConnection] = []
        self._closed = False
        self._owner = Owner()

    async def run(self, job: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run `job` on a connection's thread, inside one snapshot of the database.

        If the caller is cancelled, the job is interrupted, and its connection is freed once it has ended.

        Raises:
            ReadFailed, ReadOvertaken, StoreReplaced, EngineClosed, WrongProcess, WrongEventLoop, and what the job
                raises.
        """
        self._owner.check()
        with reading(self._path):
            connection, given_up = await self._take(), threading.Event()
            ended = connection.run(lambda: self._read(connection.raw, job, given_up))
            ended.add_done_callback(partial(self._give_back, connection, given_up))
            try:
                return await asyncio.shield(ended)
            except asyncio.CancelledError:
                given_up.set()
                raise

    async def _take(self) -> ThreadConnection:
        await self._free.acquire()
        try:
            self._check_open()
            return self._idle.pop() if self._idle else await self._open()
        except BaseException:
            self._free.release()
            raise

    def _check_open(self) -> None:
        if self._closed:
            raise EngineClosed

    def _give_back(self, connection: ThreadConnection, given_up: threading.Event, ended: asyncio.Future[Any]) -> None:
        # After an interruption between two rows, a statement that is reused cannot be interrupted again (SQLite 3.40).
        error = ended.exception()  # always retrieved, because a cancelled caller does not
        is_spent = given_up.is_set() or isinstance(error, ReadOvertaken)
        (self._spent if is_spent else self._idle).append(connection)
        self._free.release()

    def _read(
        self, connection: sqlite3.Connection, job: Callable[[sqlite3.Connection], Result], given_up: threading.Event
    ) -> Result:
        with self._limit.reading(connection, given_up.is_set):
            return in_snapshot(connection, job)

    async def close(self) -> None:
        """Close every connection once its job has ended."""
        self._closed = True
        for _ in range(self._size):
            await self._free.acquire()  # let callers that wait or are opening a connection leave first
        for _ in range(self._size):
            self._free.release()
        while self._all:
            await self._all.pop().close()

    async def _open(self) -> ThreadConnection:
        while self._spent:
            self._all.remove(spent := self._spent.pop())
            await spent.close()
        connection = await ThreadConnection.open(partial(connect_read_only, self._path, immutable=self._immutable))
        if self._closed or not is_named(self._path, self._file):
            await connection.close()
            raise EngineClosed if self._closed else StoreReplaced(self._path)
        self._all.append(connection)
        return connection


def in_snapshot(connection: sqlite3.Connection, job: Callable[[sqlite3.Connection], Result]) -> Result:
    """Run `job` in one read transaction, on the connection's thread."""
    connection.execute("BEGIN")
    try:
        return job(connection)
    except BaseException as error:
        release_cursors(error)  # else the snapshot stays open for later reads as long as the error is referenced
        raise
    finally:
        if connection.in_transaction:  # after some errors SQLite has rolled back already
            connection.execute("COMMIT")
