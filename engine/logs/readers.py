"""Read-only connections, each with its own thread: no reader waits for the writer, nor the event loop for a reader."""

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
from engine.logs.connections import ThreadConnection, let_go_of_cursors
from engine.logs.file_system import is_named
from engine.logs.forking import connect
from engine.logs.sqlite_errors import reading
from engine.logs.wal_limit import WalLimit
from engine.owner import Owner

Result = TypeVar("Result")


def connect_read_only(path: Path, *, immutable: bool = False) -> sqlite3.Connection:
    """Return a connection that cannot write.

    Args:
        immutable: of a file that nobody has open: nothing is made beside it, which SQLite does also in order to read.
    """
    options = "?mode=ro&immutable=1" if immutable else "?mode=ro"
    return connect(f"file:{quote(os.fsencode(path))}{options}", uri=True)


@contextlib.contextmanager
def kept_open(path: Path) -> Iterator[None]:
    """Keep a database open, inside `inside_sqlite`, so that a connection that closes meanwhile is not the last.

    The last one that can write checkpoints, and deletes the write-ahead log. Where the file cannot be opened once more,
    it does so under SQLite's own exclusive lock all the same: nobody else is in the file then.
    """
    with contextlib.ExitStack() as until_then:
        with contextlib.suppress(sqlite3.Error):
            connection = until_then.enter_context(contextlib.closing(connect_read_only(path)))
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # it holds nothing before that
        yield


class Readers:
    """Up to `size` connections to one file, opened when they are first needed.

    Args:
        immutable: nobody writes to the file: see `connect_read_only`.
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

        What it reads ends early when the caller is cancelled, and only then is its connection somebody else's.

        Raises:
            ReadFailed, ReadOvertaken, StoreReplaced, EngineClosed, WrongProcess, WrongEventLoop, and what the job
                raises.
        """
        self._owner.check()
        with reading(self._path):
            connection, given_up = await self._take(), threading.Event()
            ended = connection.start(lambda: self._read(connection.raw, job, given_up))
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
        # A statement that was ended between two rows, and is used again, cannot be ended once more (SQLite 3.40).
        error = ended.exception()  # asked for in any case: who gives up does not
        is_spent = given_up.is_set() or isinstance(error, ReadOvertaken)
        (self._spent if is_spent else self._idle).append(connection)
        self._free.release()

    def _read(
        self,
        connection: sqlite3.Connection,
        job: Callable[[sqlite3.Connection], Result],
        given_up: threading.Event,
    ) -> Result:
        with self._limit.reading(connection, given_up.is_set):
            return in_snapshot(connection, job)

    async def close(self) -> None:
        """Close every connection, once what runs on it has ended."""
        self._closed = True
        for _ in range(self._size):
            await self._free.acquire()  # whoever waits, or is opening a connection, leaves first
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
    """Run `job` on what the database says at one moment, on the connection's thread."""
    connection.execute("BEGIN")
    try:
        return job(connection)
    except BaseException as error:
        let_go_of_cursors(error)  # else later reads see this very snapshot for as long as somebody keeps the error
        raise
    finally:
        if connection.in_transaction:  # else SQLite has rolled back, over the error that is under way
            connection.execute("COMMIT")
