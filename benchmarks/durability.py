"""What SQLite's settings guarantee for a write that has returned, in words short enough for a table."""

import sqlite3
from typing import Final

NO_SYNC: Final = "no fsync"

_LEVELS: Final = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}
_FULL: Final = 2


def in_words(journal_mode: str, synchronous: int) -> str:
    """Return what `PRAGMA journal_mode` and `PRAGMA synchronous` guarantee."""
    setting = f"{journal_mode.upper()}, synchronous={_LEVELS.get(synchronous, synchronous)}"
    if synchronous >= _FULL:
        return f"fsync per commit ({setting})"
    if synchronous and journal_mode.lower() == "wal":
        return f"fsync per checkpoint ({setting})"
    return f"fsync per commit, except of the directory ({setting})" if synchronous else f"{NO_SYNC} ({setting})"


def of_connection(connection: sqlite3.Connection) -> str:
    """Return what the settings of a connection that writes guarantee."""
    journal_mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    synchronous = connection.execute("PRAGMA synchronous").fetchone()[0]
    return in_words(journal_mode, synchronous)
