"""What SQLite's settings mean for a write that has returned, in words that a table has room for."""

import sqlite3
from typing import Final

NO_SYNC: Final = "no fsync"

_LEVELS: Final = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}
_FULL: Final = 2


def in_words(journal_mode: str, synchronous: int) -> str:
    """Return what a connection's `PRAGMA journal_mode` and `PRAGMA synchronous` promise."""
    setting = f"{journal_mode.upper()}, synchronous={_LEVELS.get(synchronous, synchronous)}"
    if synchronous >= _FULL:
        return f"fsync per commit ({setting})"
    if synchronous and journal_mode.lower() == "wal":
        return f"fsync per checkpoint ({setting})"
    return f"fsync per commit, but for its directory ({setting})" if synchronous else f"{NO_SYNC} ({setting})"


def of_connection(connection: sqlite3.Connection) -> str:
    """Ask a connection that writes."""
    journal_mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    synchronous = connection.execute("PRAGMA synchronous").fetchone()[0]
    return in_words(journal_mode, synchronous)
