"""The epoch of a file: it changes when rows change other than by an append, which invalidates all caches."""

import sqlite3

from msgspec import Struct

from engine.logs.sqlite_schema import schema_version, view_versions


class Epoch(Struct, frozen=True):
    """The versions of the tables, and the number of removals.

    `tables_made` is SQLite's schema counter, which a rebuild of the views increments.
    """

    tables_made: int
    log_version: int
    view_versions: dict[str, int]
    removals: int


def read_epoch(connection: sqlite3.Connection) -> Epoch:
    """Return the file's epoch as of the open transaction."""
    tables_made: int = connection.execute("PRAGMA schema_version").fetchone()[0]
    return Epoch(tables_made, schema_version(connection), view_versions(connection), removals(connection))


def removals(connection: sqlite3.Connection) -> int:
    """Return how many erasures, deletions and compactions the file has had."""
    row = connection.execute("SELECT value FROM store WHERE key = 'removals'").fetchone()
    return 0 if row is None else int(row[0])


def note_removal(connection: sqlite3.Connection) -> None:
    """Count a removal, which makes running rebuilds and comparisons start over and other writers drop their caches."""
    connection.execute(
        "INSERT INTO store VALUES ('removals', '1') ON CONFLICT (key) DO UPDATE SET value = CAST(value AS INTEGER) + 1"
    )
