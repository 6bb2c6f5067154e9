"""The limit on the size of the write-ahead log.

SQLite checkpoints the log every thousand pages and then reuses it, unless a reader still needs an older snapshot: then
the log grows. One long read causes that, and so do overlapping short ones. So from half of the limit on, the writer now
and then waits for readers, longer the further the log exceeds the limit, and truncates it; and a read of the engine's
own that still blocks this at the limit is interrupted. Readers of other programs are waited for and logged, no more.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from engine.errors import ReadOvertaken
from engine.logger import get_logger
from engine.logs.own_files import WAL, beside
from engine.logs.sqlite_errors import code_of

WAL_BYTES_MAX: Final = 64 * 1024 * 1024
WAL_BYTES_RANGE: Final = (2**20, 2**40)

READ_SECONDS_MIN: Final = 1.0
"""A shorter read is never interrupted: it is not what prevents truncating the log."""

_INSTRUCTIONS_BETWEEN_CHECKS: Final = 20_000  # instructions of SQLite's virtual machine: about a millisecond
_ATTEMPTS_PER_LIMIT: Final = 8  # after a failed truncation, the log grows by 1/8 of the limit before the next attempt
_READERS_WAIT_MS: Final = 25  # up to the limit; beyond, it grows with the square of the log's size

_log = get_logger(__name__)


def truncate_log(connection: sqlite3.Connection, *, waiting_ms: int) -> bool:
    """Checkpoint and truncate the log; return whether no reader of an older snapshot prevented it."""
    (timeout,) = connection.execute("PRAGMA busy_timeout").fetchone()
    connection.execute(f"PRAGMA busy_timeout = {waiting_ms}")
    try:
        busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {timeout}")
    return not busy


class WalLimit:
    """The limit for one database: `keep` for its writer and `reading` for its readers, each on its own thread."""

    def __init__(self, database: Path, bytes_max: int) -> None:
        self._database = database
        self._path = str(beside(database, WAL))
        self._bytes_max = bytes_max
        self._next_attempt = bytes_max // 2
        self._is_warned = False

    def keep(self, connection: sqlite3.Connection) -> None:
        """Truncate the log if it has grown to half of its limit. For the writer, outside a transaction, under the lock.

        Raises:
            sqlite3.Error: committed data is not affected.
        """
        size = self._size()
        if size < self._next_attempt:
            return
        busy = not truncate_log(connection, waiting_ms=self._waiting_ms(size))
        size = self._size()
        later = size + max(size, self._bytes_max) // _ATTEMPTS_PER_LIMIT
        self._next_attempt = later if busy else self._bytes_max // 2
        self._warn(size, busy=busy)

    def _waiting_ms(self, size: int) -> int:
        # After that time, reads of our own have ended or been interrupted: only other programs still block.
        beyond = max(1.0, size / self._bytes_max)
        return int(min(_READERS_WAIT_MS * beyond**2, READ_SECONDS_MIN * 1000))

    def _warn(self, size: int, *, busy: bool) -> None:
        if busy and size > self._bytes_max and not self._is_warned:
            _log.warning(
                "the write-ahead log exceeds its limit: a reader holds an old snapshot of the file",
                path=str(self._database),
                wal_bytes=size,
                wal_bytes_max=self._bytes_max,
            )
        self._is_warned = busy and (self._is_warned or size > self._bytes_max)

    @contextmanager
    def reading(
        self, connection: sqlite3.Connection, is_given_up: Callable[[], bool] = lambda: False
    ) -> Iterator[None]:
        """Interrupt the block's reads once they have blocked truncation until the log reached its limit.

        They are interrupted, too, once `is_given_up` returns true.

        Raises:
            ReadOvertaken
        """
        begun, size = time.monotonic(), self._size()

        def must_interrupt() -> bool:
            if is_given_up():
                return True
            if time.monotonic() - begun < READ_SECONDS_MIN:
                return False
            return self._size() > max(size, self._bytes_max)

        connection.set_progress_handler(must_interrupt, _INSTRUCTIONS_BETWEEN_CHECKS)
        try:
            yield
        except sqlite3.OperationalError as error:
            if code_of(error) != sqlite3.SQLITE_INTERRUPT or is_given_up():
                raise
            raise ReadOvertaken(self._database, time.monotonic() - begun, self._bytes_max) from error
        finally:
            connection.set_progress_handler(None, 0)

    def _size(self) -> int:
        try:
            return os.stat(self._path).st_size  # noqa: PTH116 - called for each commit: a path object would be slower
        except OSError:  # missing or inaccessible, which must not fail a commit
            return 0
