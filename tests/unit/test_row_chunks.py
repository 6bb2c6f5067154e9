"""Chunks of rows, limited by number and by bytes."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import row_chunks
from engine.row_chunks import chunks


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    """Set a byte limit that a few rows reach."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_chunks, "CHUNK_BYTES_MAX", 100)
        yield


@given(st.lists(st.none() | st.binary(max_size=60), max_size=60), st.integers(1, 30))
def test_every_row_comes_once_and_the_last_chunk_says_so(payloads: list[bytes | None], rows_max: int) -> None:
    """Chunks give every row once and in order; each keeps to the row limit and nearly to the byte limit."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE events (position INTEGER PRIMARY KEY, payload BLOB)")
        connection.executemany("INSERT INTO events (payload) VALUES (?)", [(payload,) for payload in payloads])
        cursor = connection.execute("SELECT position, payload FROM events ORDER BY position")
        found = list[bytes | None]()
        for chunk in chunks(cursor, rows_max):
            rows = list(chunk)
            assert len(rows) <= rows_max
            assert chunk.is_last or chunk.position == rows[-1][0]
            assert sum(len(payload or b"") for _, payload in rows[:-8]) < 100
            found += [payload for _, payload in rows]
        assert found == payloads
        assert chunk.is_last
