"""Bulk inserts of many rows with few statements."""

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.bulk_insert import insert_rows


@given(st.lists(st.tuples(st.integers(0, 9), st.text("ab", max_size=3)), max_size=150))
def test_every_row_is_inserted_in_its_place(rows: list[tuple[int, str]]) -> None:
    """Any number of rows is inserted completely and in order."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (a INTEGER, b TEXT)")
        insert_rows(connection, "t", ("a", "b"), rows)
        assert connection.execute("SELECT a, b FROM t ORDER BY rowid").fetchall() == rows


def test_a_row_that_is_refused_raises() -> None:
    """A row that violates a constraint raises IntegrityError."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (a INTEGER UNIQUE)")
        with pytest.raises(sqlite3.IntegrityError):
            insert_rows(connection, "t", ("a",), [(number % 40,) for number in range(41)])
