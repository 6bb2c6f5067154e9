"""The files that SQLite and the engine keep beside a database, named by a suffix to its name."""

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
    """Return the path of the file with that suffix beside a database."""
    return database.with_name(database.name + suffix)


def is_own_name(name: str, database: str) -> bool:
    """Whether a name is the database's own, or that of a file that SQLite or the engine keeps beside it."""
    return name.startswith(database) and _OWN_SUFFIX.fullmatch(name[len(database) :]) is not None


def is_scratch_name(name: str, database: str) -> bool:
    """Whether a name is that of a scratch file, in which a database's views are rebuilt or compared."""
    return name.startswith(database) and _SCRATCH_SUFFIX.fullmatch(name[len(database) :]) is not None


_SCRATCH_SUFFIX: Final = re.compile(rf"({REBUILD}|{COMPARE}[0-9a-f]{{16}})(-journal)?")
_OWN_SUFFIX: Final = re.compile(
    rf"|{WAL}|{SHARED_MEMORY}|-journal|{LOCK}|{UNSYNCED}|{REBUILD_LOCK}|{_SCRATCH_SUFFIX.pattern}"
)

WOULD_JOIN: Final = WAL, "-journal"
"""The suffixes of leftover files that SQLite would treat as part of a new database, and replay into it."""


def refuse_names_of_others(path: Path) -> None:
    """Raise `CannotOpen` if a path has the name of a file beside another database, which may remove it."""
    for place in (place for place, character in enumerate(path.name) if place and character == "-"):
        other = path.name[:place]
        if other != "." and is_own_name(path.name, other) and _is_store(path.parent / other):
            raise CannotOpen(path, f"its name is reserved for a file of the database {other} beside it")


def _is_store(path: Path) -> bool:
    """Whether a file was ever opened as a store. Reading it would release locks that this process may hold."""
    return path.is_file() and beside(path, LOCK).is_file()
