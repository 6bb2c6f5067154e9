"""The embedded event log: one SQLite file in WAL mode, written by any number of processes.

One aiosqlite connection writes, and a batch is one job on its thread; readers have their own read-only connections.
Writers of all processes queue for a lock file beside the database (`file_lock.py`). Checkpoints happen only inside a
commit, directly after one, or at the last close, and so only under that lock: SQLite before 3.51.3 can corrupt a
database that several processes checkpoint at once. The exception is an engine that is never closed: when it is
garbage-collected and no other connection exists, SQLite checkpoints under its own exclusive lock.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from engine.commands import Request
from engine.errors import (
    AnabranchError,
    CannotOpen,
    EngineClosed,
    FolderNotWritable,
    NotADatabase,
    StoreReadOnly,
    StoreReplaced,
    SyncFailed,
)
from engine.events import RecordedEvent
from engine.logger import get_logger
from engine.logs.connections import ThreadConnection, ThreadNotStarted, release_cursors
from engine.logs.file_lock import FileLock
from engine.logs.file_system import READ_ONLY_ADVICE, is_named, resolved
from engine.logs.forking import inside_sqlite
from engine.logs.job_queue import CLOSING_SECONDS_MAX, JobQueue, LockedJob
from engine.logs.own_files import LOCK, beside
from engine.logs.readers import Readers, kept_open
from engine.logs.sqlite_append import Appender, MakeViews
from engine.logs.sqlite_errors import as_row_damaged, translate, translate_opening
from engine.logs.sqlite_idempotency import has_recorded
from engine.logs.sqlite_opening import Settings, Setup
from engine.logs.sqlite_read import last_position, read_events
from engine.logs.sqlite_read_only import check_up_to_date, connect_immutable
from engine.logs.sync_failures import SyncFailureMark, is_failed_sync, sync_folder_of
from engine.logs.wal_limit import WalLimit
from engine.owner import Owner
from engine.ports import Answer, Capabilities, EventFilter, Recorded

Result = TypeVar("Result")

BATCH_REQUESTS_MAX = 4096
READERS_MAX = 4

_log = get_logger(__name__)


class SqliteEventLog:
    """`engine.ports.EventLog` on one SQLite file. Created by `open_sqlite_log`.

    Args:
        lock: the lock that writers queue for; None for a read-only file.
    """

    def __init__(
        self, path: Path, connection: ThreadConnection, lock: FileLock | None, appender: Appender, settings: Settings
    ) -> None:
        self.path = path
        self.capabilities = Capabilities(settings.event_bytes_max, BATCH_REQUESTS_MAX, dense_order=True)
        self._file = path.stat()
        self.wal_limit = WalLimit(path, settings.wal_bytes_max)
        self.is_read_only = lock is None
        self.readers = Readers(path, self._file, READERS_MAX, self.wal_limit, immutable=self.is_read_only)
        self.appender = appender
        self._connection = connection
        self._lock = lock
        self._queue = None if lock is None else JobQueue(connection, lock, path, settings.busy_timeout)
        self._busy_timeout = settings.busy_timeout
        self._callbacks: list[Callable[[], None]] = []
        self._owner = Owner()
        self._closed = False
        self._is_released = False
        self._folder_synced = False
        self._mark = SyncFailureMark(path)
        self._doubt = "before it was opened" if self._mark.is_set() else None
        if self._file.st_nlink > 1:
            _log.warning(
                "the database has more than one hard link: opening it by another name shares neither lock nor log",
                path=str(path),
                names=self._file.st_nlink,
            )

    def append(self, requests: Sequence[Request]) -> asyncio.Future[list[Answer]]:
        """Record a batch as one transaction; see `engine.ports.EventLog`."""
        queue = self._writable_queue()
        queued, recording = queue.put(lambda: self._run_job(lambda _: self._append_batch(requests)))
        recording.add_done_callback(partial(self._appended, queue, queued))
        return recording

    def _append_batch(self, requests: Sequence[Request]) -> list[Answer]:
        return [self._translate_answer(answer) for answer in self.appender.append(requests)]

    def _appended(
        self, queue: JobQueue, queued: LockedJob[list[Answer]], recording: asyncio.Future[list[Answer]]
    ) -> None:
        if recording.cancelled():
            queue.withdraw(queued)
        elif recording.exception() is None:
            for callback in self._callbacks:
                callback()

    async def exclusively(
        self, job: Callable[[sqlite3.Connection], Result], *, stop: Callable[[], None] | None = None
    ) -> Result:
        """Run `job` on the writing connection's thread while holding the cross-process lock.

        Cancelling the caller withdraws a job that has not begun; otherwise the caller waits for the job to end.

        Args:
            stop: called when a cancelled caller begins to wait, to make the job end early.

        Raises:
            StoreUnavailable, OutcomeUnknown, EngineClosed, WrongProcess, WrongEventLoop
        """
        return await self._writable_queue().run(lambda: self._run_job(job), stop)

    def _writable_queue(self) -> JobQueue:
        """Return the queue of writing jobs, if the log may be written to.

        Raises:
            SyncFailed, and those of `check_writable`
        """
        self.check_writable()
        if self._doubt is not None:
            raise SyncFailed(self.path, self._doubt)
        assert self._queue is not None, "writable"
        return self._queue

    def check_writable(self) -> None:
        """Raise `StoreReadOnly`, or as `check_open` does, unless files beside the log may be created."""
        self.check_open()
        if self.is_read_only:
            raise StoreReadOnly(self.path)

    def _run_job(self, job: Callable[[sqlite3.Connection], Result]) -> Result:
        if not is_named(self.path, self._file):  # SQLite would go on writing to a file that has lost its name
            raise StoreReplaced(self.path)
        try:
            if not self._folder_synced:  # by now the write-ahead log exists, and it stays until `close`
                sync_folder_of(self.path)
                self._folder_synced = True
            result = job(self._connection.raw)
        except BaseException as error:
            release_cursors(error)  # else the job's snapshot stays open as long as the error is referenced
            if isinstance(error, sqlite3.Error):
                raise self._write_failed(error) from error
            raise
        try:
            self.wal_limit.keep(self._connection.raw)
        except sqlite3.Error as error:  # not raised: the job is committed, so it must be acknowledged
            self._write_failed(error)
        return result

    async def read(
        self, events: EventFilter, after: int, until: int | None, limit: int
    ) -> tuple[list[RecordedEvent], int]:
        return await self.readers.run(lambda connection: read_events(connection, events, after, until, limit))

    async def last_position(self) -> int:
        return await self.readers.run(last_position)

    async def has_recorded(self, run_id: str, idempotency_key: str) -> bool:
        return await self.readers.run(lambda connection: has_recorded(connection, run_id, idempotency_key))

    def _translate_answer(self, answer: Answer) -> Answer:
        if isinstance(answer, Recorded):
            return answer
        release_cursors(answer)  # as in `_run_job`; an answer is returned, not raised
        return self._write_failed(answer) if isinstance(answer, sqlite3.Error) else as_row_damaged(answer, self.path)

    def _write_failed(self, error: sqlite3.Error) -> AnabranchError:
        """Log a failed write and return the engine's error; after a failed sync, disable writing."""
        cause = str(error)
        _log.info("write failed", path=str(self.path), error=cause)
        if is_failed_sync(error):
            self._doubt = cause
            _log.error("a sync failed: writing is disabled until reopening", path=str(self.path), cause=cause)
            self._mark.set()
        return translate(error, self.path, busy_timeout=self._busy_timeout)

    @property
    def is_in_doubt(self) -> bool:
        """Whether writing is disabled because a sync failed."""
        return self._doubt is not None

    def settle(self, problem: str | None) -> None:
        """Enable writing after a failed sync, unless verification found a problem."""
        if problem is None:
            self._mark.clear()
        self._doubt = problem

    def on_append(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def check_open(self) -> None:
        """Raise `WrongProcess`, `WrongEventLoop` or `EngineClosed` unless the log can be used."""
        self._owner.check()
        if self._closed:
            raise EngineClosed

    async def close(self) -> None:
        """Close every connection and the lock file, once pending work has ended.

        Raises:
            StoreBusy: a withdrawn write is still blocked on the lock, which cannot be interrupted. The writing
                connection stays open until a later call, or until it is garbage-collected.
        """
        self._owner.check()
        self._closed = True
        if not self._is_released:
            await self.readers.close()
            if self._queue is None or self._lock is None:
                await self._connection.close()
            else:
                await self._queue.end()
                await _close(self._connection, self.path, self._lock, self._busy_timeout)
            self._is_released = True


async def open_sqlite_log(path: Path, make_views: MakeViews, settings: Settings) -> tuple[SqliteEventLog, list[str]]:
    """Open `path`, creating or migrating it; also return the names of the views that have to be rebuilt.

    Raises:
        CannotOpen, StoreUnavailable: the file is unchanged.
    """
    path = resolved(path)  # so that all paths to a file share its lock and its write-ahead log
    with _opening(path, settings.busy_timeout):
        if settings.read_only:
            return await _open_to_read(path, make_views, settings), []
        return await _open_to_write(path, make_views, settings)


async def _open_to_write(path: Path, make_views: MakeViews, settings: Settings) -> tuple[SqliteEventLog, list[str]]:
    set_up = Setup(path, settings)
    connection = await ThreadConnection.open(set_up.connect)
    lock = await _open_lock(connection, path)
    try:
        if SyncFailureMark(path).is_set():
            await connection.run_waiting(lambda: set_up.write_log_again(lock))
        appender = Appender(connection.raw, make_views, event_bytes_max=settings.event_bytes_max)
        stale = await connection.run_waiting(lambda: set_up.prepare(connection.raw, lock, appender))
    except BaseException as error:
        release_cursors(error)
        await _close(connection, path, lock, settings.busy_timeout)
        if isinstance(error, sqlite3.Error) and is_failed_sync(error):
            SyncFailureMark(path).set()
        raise
    return SqliteEventLog(path, connection, lock, appender, settings), stale


async def _open_to_read(path: Path, make_views: MakeViews, settings: Settings) -> SqliteEventLog:
    connection = await ThreadConnection.open(lambda: connect_immutable(path))
    try:
        appender = Appender(connection.raw, make_views, event_bytes_max=settings.event_bytes_max)
        await connection.run(lambda: check_up_to_date(connection.raw, path, appender.projectors))
    except BaseException as error:
        release_cursors(error)
        await connection.close()
        raise
    return SqliteEventLog(path, connection, None, appender, settings)


@contextlib.contextmanager
def _opening(path: Path, busy_timeout: float) -> Iterator[None]:
    """Raise the engine's error for an error of sqlite3 while opening."""
    try:
        yield
    except ThreadNotStarted as error:
        raise CannotOpen(path, str(error)) from error
    except sqlite3.Error as error:
        raise translate_opening(error, path, busy_timeout=busy_timeout) from error
    except UnicodeDecodeError as error:  # raised by sqlite3 for names in a damaged schema
        raise NotADatabase(path, f"its schema is damaged: {error}") from error


async def _open_lock(connection: ThreadConnection, path: Path) -> FileLock:
    try:
        return FileLock(beside(path, LOCK))
    except OSError as error:
        await connection.close()
        raise FolderNotWritable(path, f"its lock file: {error.strerror or error}; {READ_ONLY_ADVICE}") from error


async def _close(connection: ThreadConnection, path: Path, lock: FileLock, busy_timeout: float) -> None:
    def close_under_lock() -> None:
        # The last connection to close checkpoints, which must happen under the lock. If another process keeps the lock,
        # perhaps without having the file open, a second connection ensures that this one is not the last.
        with (
            lock.tried_for(min(busy_timeout, CLOSING_SECONDS_MAX)) as held,
            inside_sqlite(),
            contextlib.nullcontext() if held else kept_open(path),
        ):
            connection.raw.close()

    try:
        await connection.close(close_under_lock)
    finally:
        lock.close()
