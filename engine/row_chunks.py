"""Rows of events in chunks that are bounded by what they hold: an event may be a megabyte, so that a thousand are not
few. Nothing says how large the next one is before it is fetched; what comes with it is a few rows at most.
"""

import sqlite3
from typing import Any, Final, NamedTuple

CHUNK_BYTES_MAX: Final = 4 * 1024 * 1024
_FETCHED_TOGETHER: Final = 8


class Chunk(NamedTuple):
    """`is_last`: there are no more; of a chunk that was cut short nobody has looked whether there are."""

    rows: list[tuple[Any, ...]]
    is_last: bool


def fetch_chunk(cursor: sqlite3.Cursor, rows_max: int) -> Chunk:
    """Return the next rows, up to `rows_max`, fewer once their payloads come to `CHUNK_BYTES_MAX` bytes.

    A payload, or nothing, is the last column.
    """
    rows: list[tuple[Any, ...]] = []
    size = 0
    while size < CHUNK_BYTES_MAX and len(rows) < rows_max:
        asked = min(_FETCHED_TOGETHER, rows_max - len(rows))
        fetched = cursor.fetchmany(asked)
        rows += fetched
        if len(fetched) < asked:
            return Chunk(rows, is_last=True)
        size += sum([len(row[-1] or b"") for row in fetched])
    return Chunk(rows, is_last=False)
