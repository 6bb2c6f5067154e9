"""The write transaction of a connection, as a context manager."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run a block in a transaction with SQLite's write lock: commit at its end, roll back if it raises.

    The connection must be in autocommit mode.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # after some I/O errors SQLite has rolled back already
            connection.execute("ROLLBACK")
        raise
