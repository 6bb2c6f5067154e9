"""What a sync that failed leaves in doubt, and the mark that outlives the process.

The kernel reports a failed sync once, and takes the pages for clean from then on: they are read as they were written,
and never reach the disk (https://wiki.postgresql.org/wiki/Fsync_Errors). A commit whose sync failed is not
acknowledged; but whoever recovers the write-ahead log later, in the same kernel, finds it whole. What he writes behind
it, and what he copies of it into the database file, would be torn by the next power cut. So nothing is written any
more, and a mark beside the database has whoever opens it next write the whole log once more, sync it, and verify the
store, before anything else is done.

The mark needs no sync: a power cut ends the doubt, for what is read after it is what is on the disk.
"""

import contextlib
import errno
import os
import sqlite3
from pathlib import Path

from engine.errors import ReadFailed
from engine.logs.file_system import sync_folder
from engine.logs.own_files import UNSYNCED, beside
from engine.logs.sqlite_errors import code_of

_BLOCK_BYTES = 2**20
_NOT_OPENED = frozenset({errno.EACCES, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_FAILED = frozenset({sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC})


def is_failed_sync(error: sqlite3.Error) -> bool:
    """Say whether SQLite was told that a sync failed."""
    return code_of(error) in _FAILED


def sync_folder_of(database: Path) -> None:
    """Make the names of a database's files durable, and fail as SQLite would, which does this too and tells nobody."""
    try:
        sync_folder(database.parent)
    except OSError as error:
        if error.errno in _NOT_OPENED:  # no sync was asked for, and none has failed
            raise ReadFailed(database, f"its folder cannot be opened to be synced: {error.strerror}") from error
        failed = sqlite3.OperationalError(f"the folder cannot be synced: {error.strerror or error}")
        failed.sqlite_errorcode = sqlite3.SQLITE_IOERR_DIR_FSYNC
        raise failed from error


def write_again(log: Path) -> None:
    """Write a write-ahead log over itself, and sync it. Only under the lock that writers queue for.

    A power cut meanwhile must leave each sector as it was or as it is written, which is the same.

    Raises:
        OSError: the disk still does not take it.
    """
    with contextlib.suppress(FileNotFoundError), log.open("r+b", buffering=0) as file:
        while block := file.read(_BLOCK_BYTES):
            file.seek(-len(block), os.SEEK_CUR)
            file.write(block)
        os.fsync(file)
    sync_folder(log.parent)


class SyncFailureMark:
    """The file that says that a sync of `database` has failed. Whoever removes it takes the store as it is."""

    def __init__(self, database: Path) -> None:
        self.path = beside(database, UNSYNCED)

    def is_set(self) -> bool:
        try:
            return not self.path.stat().st_size  # what holds something is somebody else's file of that name
        except FileNotFoundError:
            return False

    def set(self) -> None:
        """Leave the mark, where the disk still takes a file."""
        with contextlib.suppress(OSError):
            self.path.touch(mode=0o600)

    def clear(self) -> None:
        if self.is_set():
            self.path.unlink(missing_ok=True)
