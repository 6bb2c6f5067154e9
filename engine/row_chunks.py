"""Rows of events in chunks that are bounded by what they hold: an event may be a megabyte, so that a thousand are not
few. Nothing says how large the next one is before it is fetched; what comes with it is a few rows at most.
"""

import sqlite3
from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

CHUNK_BYTES_MAX: Final = 4 * 1024 * 1024
_FETCHED_TOGETHER: Final = 8


class Chunk:
    """The next rows of a cursor, fetched as they are gone through: up to `rows_max`, fewer once their payloads come to
    `CHUNK_BYTES_MAX` bytes. A payload, or nothing, is the last column.

    When they have been gone through, `is_last` says whether there are no more, as far as is known without looking for
    one. Where there may be, `position` is the first column of the last row, for who reads on from there.
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
            asked = min(_FETCHED_TOGETHER, left)
            rows = self._cursor.fetchmany(asked)
            yield rows
            if len(rows) < asked:
                self.is_last = True
                return
            self.position = rows[-1][0]
            left -= asked
            size += sum([len(row[-1] or b"") for row in rows])


def chunks(cursor: sqlite3.Cursor, rows_max: int) -> Iterator[Chunk]:
    """Yield all that a cursor has, chunk by chunk. Each is to be gone through before the next is asked for."""
    while True:
        chunk = Chunk(cursor, rows_max)
        yield chunk
        if chunk.is_last:
            return
