"""What the engine needs of the SQLite library that this process uses."""

import sqlite3
from functools import cache
from pathlib import Path
from typing import Final

from engine.errors import CannotOpen
from engine.logs.forking import connect

SQLITE_VERSION_MIN: Final = (3, 37, 0)  # the first with STRICT tables


def check_library(path: Path) -> None:
    """Raise `CannotOpen` if the library is too old, or lacks the JSON functions, which are optional in SQLite 3.37.

    Call it inside `inside_sqlite`.
    """
    if sqlite3.sqlite_version_info < SQLITE_VERSION_MIN:
        needed = ".".join(map(str, SQLITE_VERSION_MIN))
        raise CannotOpen(path, f"SQLite {sqlite3.sqlite_version} is too old; {needed} or later is needed")
    if not _has_json():
        raise CannotOpen(path, f"SQLite {sqlite3.sqlite_version} was built without its JSON functions")


@cache
def _has_json() -> bool:
    connection = connect(":memory:")
    try:
        connection.execute("SELECT value FROM json_each('[]')")
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return True
