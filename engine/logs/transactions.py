"""One transaction of a writing connection: committed when its block ends, taken back when that fails."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Hold SQLite's write lock for a block, which begins with what is committed by then. The connection autocommits."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite itself has rolled back after some errors of the disk
            connection.execute("ROLLBACK")
        raise
