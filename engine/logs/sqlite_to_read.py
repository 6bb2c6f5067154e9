"""Opening a SQLite log to be read only: nothing is made beside the file, and nothing in it changes.

SQLite is told that the file is immutable (https://www.sqlite.org/uri.html#uriimmutable): it takes no locks and looks
for no write-ahead log. So what was written last must be in the file, and nobody may write to it meanwhile.
"""

import sqlite3
from pathlib import Path

from engine.errors import CannotOpen
from engine.logs.own_files import WAL, beside
from engine.logs.readers import connect_read_only, in_snapshot
from engine.logs.sqlite_schema import SCHEMA_VERSION, check_ours, check_roots, schema_version, view_versions
from engine.logs.sync_failures import SyncFailureMark
from engine.projectors import Projectors

_OPEN_IT_ELSEWHERE = "open it, or a copy of all its files, where it may be written"


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Return a connection to a file that nobody writes to.

    Raises:
        CannotOpen: there is none, or not all that was written is in it.
    """
    if not path.is_file():
        raise CannotOpen(path, "there is no such file, and it is only to be read")
    log = beside(path, WAL)
    left = log.stat().st_size if log.exists() else 0
    if left:
        cause = f"its write-ahead log of {left} bytes may hold what was written last, and somebody may have it open"
        raise CannotOpen(path, f"{cause}: {_OPEN_IT_ELSEWHERE}")
    if SyncFailureMark(path).is_set():
        raise CannotOpen(path, f"a sync of it failed: {_OPEN_IT_ELSEWHERE}")
    return connect_read_only(path, immutable=True)


def check_up_to_date(connection: sqlite3.Connection, path: Path, projectors: Projectors) -> None:
    """Raise unless the file can be read as it is.

    Raises:
        CannotOpen: it is none of ours, or of another version than this one's.
    """

    def check(snapshot: sqlite3.Connection) -> None:
        check_roots(snapshot, path)
        check_ours(snapshot, path, [table for projector in projectors.all for table in projector.tables()])
        if schema_version(snapshot) != SCHEMA_VERSION or view_versions(snapshot) != projectors.versions():
            raise CannotOpen(path, f"it is empty, or of an earlier version: {_OPEN_IT_ELSEWHERE}")

    in_snapshot(connection, check)
