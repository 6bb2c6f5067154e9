"""Multi-row inserts: in Python's sqlite3, stepping and resetting a statement costs as much as binding five columns."""

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final

_ROWS_OF_A_STATEMENT: Final = (32, 8, 1)  # 32 rows of 21 columns stay below 999 variables, the limit of older SQLites


def insert_rows(
    connection: sqlite3.Connection, table: str, columns: tuple[str, ...], rows: Sequence[Sequence[Any]]
) -> None:
    """Insert rows in order. `table` and `columns` are put into the SQL text unescaped: pass constants only."""
    start = 0
    for size in _ROWS_OF_A_STATEMENT:
        until = len(rows) - (len(rows) - start) % size
        if start < until:
            together = [list(chain.from_iterable(rows[at : at + size])) for at in range(start, until, size)]
            connection.executemany(_statement(table, columns, size), together)
            start = until


@lru_cache(maxsize=256)
def _statement(table: str, columns: tuple[str, ...], size: int) -> str:
    row = f"({', '.join('?' * len(columns))})"
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([row] * size)}"  # noqa: S608 - see insert_rows
