"""Which database file a command uses.

`--db PATH`, else the environment variable `ANABRANCH_DB`, else `anabranch.db` in the current folder. Only the demo
makes a file; every other command refuses one that is missing or empty.
"""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from engine import Engine, open_engine
from engine.errors import CannotOpen

DEFAULT_DATABASE: Final = Path("anabranch.db")


class DatabaseNotFound(CannotOpen):
    """There is no database to read; a `CannotOpen` of the command line's own."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "there is no such database (--db or ANABRANCH_DB names it; `anabranch demo` makes one)")


@contextlib.asynccontextmanager
async def existing(path: Path) -> AsyncIterator[Engine]:
    """Open a database that is there already.

    Raises:
        DatabaseNotFound, and what `open_engine` raises
    """
    _check_there(path)
    async with open_engine(path) as engine:
        yield engine


def _check_there(path: Path) -> None:
    if not path.exists() or (path.is_file() and path.stat().st_size == 0):
        raise DatabaseNotFound(path)
