"""The files that SQLite and the engine keep beside a database, whose names are its own with a suffix."""

import re
from pathlib import Path
from typing import Final

from engine.errors import CannotOpen

WAL: Final = "-wal"
SHARED_MEMORY: Final = "-shm"
LOCK: Final = "-lock"
UNSYNCED: Final = "-unsynced"
REBUILD: Final = "-rebuild"
REBUILD_LOCK: Final = "-rebuild-lock"
COMPARE: Final = "-compare-"


def beside(database: Path, suffix: str) -> Path:
    """Return the file of that suffix beside a database."""
    return database.with_name(database.name + suffix)


def is_own_name(name: str, database: str) -> bool:
    """Whether a name is that of a database, or of a file that SQLite or the engine keeps beside it."""
    return name.startswith(database) and _OWN_SUFFIX.fullmatch(name[len(database) :]) is not None


def is_scratch_name(name: str, database: str) -> bool:
    """Whether a name is that of a file in which views of a database are made anew."""
    return name.startswith(database) and _SCRATCH_SUFFIX.fullmatch(name[len(database) :]) is not None


_SCRATCH_SUFFIX: Final = re.compile(rf"({REBUILD}|{COMPARE}[0-9a-f]{{16}})(-journal)?")
_OWN_SUFFIX: Final = re.compile(
    rf"|{WAL}|{SHARED_MEMORY}|-journal|{LOCK}|{UNSYNCED}|{REBUILD_LOCK}|{_SCRATCH_SUFFIX.pattern}"
)

WOULD_JOIN: Final = WAL, "-journal"
"""What SQLite would take for a part of a database by whose name it begins, and write into it."""


def refuse_names_of_others(path: Path) -> None:
    """Raise `CannotOpen` for a path whose name is one of a file beside another database: that one would remove it."""
    for place in (place for place, character in enumerate(path.name) if place and character == "-"):
        other = path.name[:place]
        if other != "." and is_own_name(path.name, other) and _is_store(path.parent / other):
            raise CannotOpen(path, f"its name is that of a file which belongs to the database {other} beside it")


def _is_store(path: Path) -> bool:
    """Whether a file was opened as a store. It is not looked into: that would end locks that the process may have."""
    return path.is_file() and beside(path, LOCK).is_file()
