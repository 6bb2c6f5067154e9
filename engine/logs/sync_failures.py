"""Handling a failed sync, with a mark beside the database that outlives the process.

The kernel reports a failed sync once and then treats the pages as clean: reads return them, but they never reach the
disk (https://wiki.postgresql.org/wiki/Fsync_Errors). The commit is not acknowledged, but a later recovery of the
write-ahead log under the same kernel finds it intact. The next power cut would then corrupt commits that follow it in
the log, and pages copied from it into the database file. So writing is disabled, and the mark makes the next opening
rewrite the whole log, sync it and verify the store before anything else.

The mark itself needs no sync: after a power cut, reads return what is on the disk.
"""

import contextlib
import errno
import os
import sqlite3
from pathlib import Path

from engine.errors import ReadFailed
from engine.logs.file_system import sync_descriptor, sync_folder
from engine.logs.own_files import UNSYNCED, beside
from engine.logs.sqlite_errors import code_of

_BLOCK_BYTES = 2**20
_NOT_OPENED = frozenset({errno.EACCES, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_FAILED = frozenset({sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC})


def is_failed_sync(error: sqlite3.Error) -> bool:
    """Whether an error of SQLite reports a failed sync."""
    return code_of(error) in _FAILED


def sync_folder_of(database: Path) -> None:
    """Sync a database's folder; raise a failure as SQLite's error (SQLite syncs it, too, but ignores failures)."""
    try:
        sync_folder(database.parent)
    except OSError as error:
        if error.errno in _NOT_OPENED:  # no sync was attempted
            raise ReadFailed(database, f"its folder cannot be opened for syncing: {error.strerror}") from error
        failed = sqlite3.OperationalError(f"the folder cannot be synced: {error.strerror or error}")
        failed.sqlite_errorcode = sqlite3.SQLITE_IOERR_DIR_FSYNC
        raise failed from error


def write_again(log: Path) -> None:
    """Overwrite a write-ahead log with its own content and sync it. Only under the lock that writers queue for.

    Assumes that a power cut leaves each sector with either its old or its new content.

    Raises:
        OSError: writing or syncing fails again.
    """
    with contextlib.suppress(FileNotFoundError), log.open("r+b", buffering=0) as file:
        while block := file.read(_BLOCK_BYTES):
            file.seek(-len(block), os.SEEK_CUR)
            file.write(block)
        sync_descriptor(file.fileno())
    sync_folder(log.parent)


class SyncFailureMark:
    """The empty file that marks a failed sync of `database`."""

    def __init__(self, database: Path) -> None:
        self.path = beside(database, UNSYNCED)

    def is_set(self) -> bool:
        try:
            return not self.path.stat().st_size  # a file with content is not a mark
        except FileNotFoundError:
            return False

    def set(self) -> None:
        """Create the mark, if the disk still allows it."""
        with contextlib.suppress(OSError):
            self.path.touch(mode=0o600)

    def clear(self) -> None:
        if self.is_set():
            self.path.unlink(missing_ok=True)
