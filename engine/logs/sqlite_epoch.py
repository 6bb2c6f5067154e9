"""The epoch of a file: what is remembered of its rows is void once they change otherwise than by an append."""

import sqlite3

from msgspec import Struct

from engine.logs.sqlite_schema import schema_version, view_versions


class Epoch(Struct, frozen=True):
    """What the tables are, and how often something was taken out of them.

    `tables_made` is SQLite's own count, which a rebuild of the views moves on.
    """

    tables_made: int
    log_version: int
    view_versions: dict[str, int]
    removals: int


def read_epoch(connection: sqlite3.Connection) -> Epoch:
    """Return the file's epoch, as of the transaction that is open."""
    tables_made: int = connection.execute("PRAGMA schema_version").fetchone()[0]
    return Epoch(tables_made, schema_version(connection), view_versions(connection), removals(connection))


def removals(connection: sqlite3.Connection) -> int:
    """Return how often something was taken out of the log."""
    row = connection.execute("SELECT value FROM store WHERE key = 'removals'").fetchone()
    return 0 if row is None else int(row[0])


def note_removal(connection: sqlite3.Connection) -> None:
    """Make every rebuild and comparison that is under way start over, and other writers read anew, in all processes."""
    connection.execute(
        "INSERT INTO store VALUES ('removals', '1') ON CONFLICT (key) DO UPDATE SET value = CAST(value AS INTEGER) + 1"
    )
