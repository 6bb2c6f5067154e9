"""Opening a SQLite log read-only: no file is created beside it, and the file itself is not changed.

SQLite is told that the file is immutable (https://www.sqlite.org/uri.html#uriimmutable): it takes no locks and ignores
the write-ahead log. So every commit must be in the file, and nothing may write to it meanwhile.
"""

import sqlite3
from pathlib import Path

from engine.errors import CannotOpen
from engine.logs.own_files import WAL, beside
from engine.logs.readers import connect_read_only, in_snapshot
from engine.logs.sqlite_damage import check_roots
from engine.logs.sqlite_library import check_library
from engine.logs.sqlite_schema import SCHEMA_VERSION, check_ours, schema_version, view_versions
from engine.logs.sync_failures import SyncFailureMark
from engine.projectors import Projectors

_OPEN_IT_ELSEWHERE = "open it, or a copy of all its files, where it is writable"


def connect_immutable(path: Path) -> sqlite3.Connection:
    """Return a connection to a file that nothing writes to.

    Raises:
        CannotOpen: the file does not exist or is inaccessible, or may lack commits that are only in the write-ahead
            log; or this process's SQLite lacks something.
    """
    check_library(path)
    try:
        _check_complete(path)
    except OSError as error:
        raise CannotOpen(path, str(error.strerror or error)) from error
    return connect_read_only(path, immutable=True)


def _check_complete(path: Path) -> None:
    if not path.is_file():
        raise CannotOpen(path, "there is no such file, and opening it read-only does not create it")
    try:
        left = beside(path, WAL).stat().st_size
    except FileNotFoundError:
        left = 0
    if left:
        cause = f"its write-ahead log of {left} bytes may hold the latest commits, and it may be in use"
        raise CannotOpen(path, f"{cause}: {_OPEN_IT_ELSEWHERE}")
    if SyncFailureMark(path).is_set():
        raise CannotOpen(path, f"a sync of it failed: {_OPEN_IT_ELSEWHERE}")


def check_up_to_date(connection: sqlite3.Connection, path: Path, projectors: Projectors) -> None:
    """Raise unless the file can be read without changing it.

    Raises:
        CannotOpen: it is foreign, or its tables have another version than this code's.
    """

    def check(snapshot: sqlite3.Connection) -> None:
        check_roots(snapshot, path)
        check_ours(snapshot, path, projectors.tables())
        if schema_version(snapshot) != SCHEMA_VERSION or view_versions(snapshot) != projectors.versions():
            raise CannotOpen(path, f"it is empty, or of an earlier version: {_OPEN_IT_ELSEWHERE}")

    in_snapshot(connection, check)
