"""Rows of events in chunks bounded by their size in bytes, since a single event may be a megabyte.

The size of a row is known only after it is fetched, so a chunk may exceed the bound by a few rows.
"""

import sqlite3
from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

CHUNK_BYTES_MAX: Final = 4 * 1024 * 1024
_FETCH_ROWS: Final = 8


class Chunk:
    """The next rows of a cursor, fetched during iteration: up to `rows_max`, or until their payloads (the last column,
    which may be NULL) exceed `CHUNK_BYTES_MAX`.

    After the iteration, `is_last` is True if the cursor is known to have no more rows. Otherwise `position` is the
    first column of the last row, from which another query can continue.
    """

    def __init__(self, cursor: sqlite3.Cursor, rows_max: int) -> None:
        self._cursor = cursor
        self._rows_max = rows_max
        self.is_last = False
        self.position = 0

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return chain.from_iterable(self._fetched())

    def _fetched(self) -> Iterator[list[tuple[Any, ...]]]:
        left, size = self._rows_max, 0
        while left and size < CHUNK_BYTES_MAX:
            asked = min(_FETCH_ROWS, left)
            rows = self._cursor.fetchmany(asked)
            yield rows
            if len(rows) < asked:
                self.is_last = True
                return
            self.position = rows[-1][0]
            left -= asked
            size += sum([len(row[-1] or b"") for row in rows])


def chunks(cursor: sqlite3.Cursor, rows_max: int) -> Iterator[Chunk]:
    """Yield a cursor's rows in chunks. Each chunk has to be exhausted before the next is requested."""
    while True:
        chunk = Chunk(cursor, rows_max)
        yield chunk
        if chunk.is_last:
            return
