"""How large the write-ahead log may grow.

SQLite copies it into the database at every thousand pages and begins it anew, unless somebody still reads an older
state: then it only grows. One long read does that, and so do short ones that overlap. So once it is half as large as
it may be, the writer waits a moment for those who read, now and then, to empty it, and longer the further it is beyond
the limit; and a read of ours that is still in the way when the limit is reached is ended. Readers of other programs are
waited for and written of, no more.
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
"""A read that takes less is never ended: it is not what keeps the log from being emptied."""

_LOOKED_AT_EVERY: Final = 20_000  # steps of SQLite's virtual machine: about a millisecond
_ATTEMPTS_A_LIMIT: Final = 8  # so much of the limit is written between one attempt to empty it and the next
_READERS_WAITED_FOR_MS: Final = 25  # up to the limit; four times as long where the log is twice as large

_log = get_logger(__name__)


def empty_log(connection: sqlite3.Connection, *, waiting_ms: int) -> bool:
    """Move all into the file, and cut the log to nothing; say whether no reader of an older state was in the way."""
    (timeout,) = connection.execute("PRAGMA busy_timeout").fetchone()
    connection.execute(f"PRAGMA busy_timeout = {waiting_ms}")
    try:
        busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {timeout}")
    return not busy


class WalLimit:
    """The limit for one database: `keep` for its writer, `reading` for its readers, each on a thread of its own."""

    def __init__(self, database: Path, bytes_max: int) -> None:
        self._database = database
        self._path = str(beside(database, WAL))
        self._bytes_max = bytes_max
        self._next_attempt = bytes_max // 2
        self._told = False

    def keep(self, connection: sqlite3.Connection) -> None:
        """Empty the log if it has grown to half of its limit. For the writer, outside a transaction, under the lock.

        Raises:
            sqlite3.Error: what was committed is as safe as before.
        """
        size = self._size()
        if size < self._next_attempt:
            return
        busy = not empty_log(connection, waiting_ms=self._waiting_ms(size))
        size = self._size()
        later = size + max(size, self._bytes_max) // _ATTEMPTS_A_LIMIT
        self._next_attempt = later if busy else self._bytes_max // 2
        self._tell(size, busy=busy)

    def _waiting_ms(self, size: int) -> int:
        # By then every read of ours has ended, or has been: only those of other programs are still in the way.
        beyond = max(1.0, size / self._bytes_max)
        return int(min(_READERS_WAITED_FOR_MS * beyond**2, READ_SECONDS_MIN * 1000))

    def _tell(self, size: int, *, busy: bool) -> None:
        if busy and size > self._bytes_max and not self._told:
            _log.warning(
                "somebody reads an old state of the file, so that its write-ahead log grows",
                path=str(self._database),
                wal_bytes=size,
                wal_bytes_max=self._bytes_max,
            )
        self._told = busy and (self._told or size > self._bytes_max)

    @contextmanager
    def reading(
        self, connection: sqlite3.Connection, is_given_up: Callable[[], bool] = lambda: False
    ) -> Iterator[None]:
        """End what the block reads once that has kept the log from being emptied until it reached its limit.

        It ends, too, when nobody waits for it any more.

        Raises:
            ReadOvertaken
        """
        begun, size = time.monotonic(), self._size()

        def is_to_end() -> bool:
            if is_given_up():
                return True
            if time.monotonic() - begun < READ_SECONDS_MIN:
                return False
            return self._size() > max(size, self._bytes_max)

        connection.set_progress_handler(is_to_end, _LOOKED_AT_EVERY)
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
            return os.stat(self._path).st_size  # noqa: PTH116 - a path object for each commit takes longer than the call
        except OSError:  # it is not there, or the folder lets nobody look: what was committed is acknowledged
            return 0
