"""The damage that SQLite finds in a file: in the log's tables, in the pages of the whole file, and in the schema."""

import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from engine.errors import NotADatabase
from engine.logs.sqlite_errors import is_damage
from engine.logs.sqlite_schema import LOG_TABLES

_SHARED_PAGE: Final = re.compile(r"reelist|2nd reference|invalid page number", re.IGNORECASE)
_NO_DAMAGE: Final = re.compile(
    r"\*\*\* in database main \*\*\*|Page \d+(?: is|:) never used"
)  # SQLite 3.40's words, and 3.43's


def damage_in_log(connection: sqlite3.Connection) -> list[str]:
    """Return the damage that SQLite finds in the log's tables and their indexes.

    The views' tables, which are compared with the events, are left out: SQLite 3.40 reports NULLs in intact tables
    without row ids.
    """
    found = [
        str(problem)
        for table in LOG_TABLES
        for (problem,) in connection.execute(f"PRAGMA integrity_check({table})").fetchall()
    ]
    return [problem for problem in found if problem != "ok"]


def damage_in_pages(connection: sqlite3.Connection) -> list[str]:
    """Return the damage that SQLite finds in the whole file, except unused pages.

    This includes a page that two tables share, which no check of a single table detects.
    """
    found: list[str] = []
    try:
        found.extend(str(text) for (text,) in connection.execute("PRAGMA quick_check"))
    except sqlite3.DatabaseError as error:  # raised after the problems of the pages
        if is_damage(error):  # and not an unknown collation in a foreign table
            found.append(str(error))
    problems = [problem for text in found for problem in text.splitlines()]
    return [each for each in problems if each != "ok" and not _NO_DAMAGE.fullmatch(each)]


def first_shared_page(problems: Sequence[str]) -> str | None:
    """Return the first problem of `damage_in_pages` by which a page in use is shared or counted as free, or None.

    The next write could then overwrite existing data.
    """
    return next((each for each in problems if _SHARED_PAGE.search(each)), None)


def check_roots(connection: sqlite3.Connection, path: Path) -> None:
    """Raise `NotADatabase` if two tables or indexes begin on one page: writing to one would overwrite the other."""
    row = connection.execute(
        "SELECT group_concat(name) FROM sqlite_schema WHERE rootpage > 0 GROUP BY rootpage HAVING count(*) > 1 LIMIT 1"
    ).fetchone()
    if row is not None:
        raise NotADatabase(path, f"its schema is damaged: {row[0]} begin on the same page")
