"""A view table in memory: rows by key, of which only what is new is written."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from msgspec import Struct

from projections import table
from projections.table import Table


class StepRow(Struct, gc=False):
    stream_id: int
    step: str
    status: str
    reason: str | None


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        made.execute(
            "CREATE TABLE steps (stream_id INTEGER, step TEXT, status TEXT, reason TEXT, UNIQUE (stream_id, step))"
        )
        yield made


@pytest.fixture
def steps(connection: sqlite3.Connection) -> Table[StepRow]:
    return Table(connection, "steps", StepRow, ("stream_id", "step"))


@pytest.fixture
def statements(connection: sqlite3.Connection) -> list[str]:
    """Every statement that is carried out from here on."""
    seen: list[str] = []
    connection.set_trace_callback(seen.append)
    return seen


def rows(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
    return connection.execute("SELECT * FROM steps ORDER BY stream_id, step").fetchall()


def test_a_row_that_changes_often_is_written_once(
    connection: sqlite3.Connection, steps: Table[StepRow], statements: list[str]
) -> None:
    """Changed in the batch that adds it, it is inserted as it stands; later, the columns that changed are updated."""
    steps.add((1, "a"), StepRow(1, "a", "CREATED", None))
    assert steps.change(1, "a", status="RUNNING")
    assert statements == []
    steps.flush()
    assert [statement.split("(")[0] for statement in statements] == ["INSERT INTO steps "]
    assert steps.change(1, "a", status="FAILED", reason="why")
    assert steps.change(1, "a", status="COMPLETED")
    steps.flush()
    assert statements[1].startswith("UPDATE steps SET status = 'COMPLETED', reason = 'why' WHERE")
    steps.flush()
    assert rows(connection) == [(1, "a", "COMPLETED", "why")]
    assert len(statements) == 3


def test_columns_changed_one_after_the_other_are_all_written(
    connection: sqlite3.Connection, steps: Table[StepRow]
) -> None:
    """A change does not take the place of another column's."""
    connection.execute("INSERT INTO steps VALUES (1, 'a', 'CREATED', NULL)")
    steps.change(1, "a", status="FAILED")
    steps.change(1, "a", reason="why")
    steps.flush()
    assert rows(connection) == [(1, "a", "FAILED", "why")]


def test_a_row_that_is_not_there_is_not_changed(connection: sqlite3.Connection, steps: Table[StepRow]) -> None:
    """The caller is told so."""
    assert not steps.change(1, "a", status="RUNNING")
    steps.flush()
    assert rows(connection) == []


def test_another_row_may_be_added_where_one_was_removed(connection: sqlite3.Connection, steps: Table[StepRow]) -> None:
    """In the same batch, too."""
    steps.add((1, "a"), StepRow(1, "a", "CREATED", "old"))
    steps.remove(1, "a")
    assert steps.get(1, "a") is None
    steps.add((1, "a"), StepRow(1, "a", "CREATED", None))
    steps.flush()
    assert rows(connection) == [(1, "a", "CREATED", None)]


def test_put_takes_the_place_of_whatever_stood_there(connection: sqlite3.Connection, steps: Table[StepRow]) -> None:
    """Read or not."""
    connection.execute("INSERT INTO steps VALUES (1, 'a', 'FAILED', 'why')")
    steps.put((1, "a"), StepRow(1, "a", "CREATED", None))
    steps.put((1, "b"), StepRow(1, "b", "CREATED", None))
    steps.flush()
    assert rows(connection) == [(1, "a", "CREATED", None), (1, "b", "CREATED", None)]


def test_the_rows_of_a_stream_are_looked_up_once(
    connection: sqlite3.Connection, steps: Table[StepRow], statements: list[str]
) -> None:
    """After that it is known which are not there; of a stream that is new, from the start."""
    connection.execute("INSERT INTO steps VALUES (1, 'a', 'CREATED', NULL)")
    statements.clear()
    assert steps.get(1, "a") == StepRow(1, "a", "CREATED", None)
    assert [steps.get(1, name) for name in "bcd"] == [None] * 3
    steps.opened(2)
    assert steps.get(2, "a") is None
    assert len(statements) == 1


def test_the_rows_of_a_long_stream_are_looked_up_one_by_one(
    connection: sqlite3.Connection, steps: Table[StepRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A miss is no answer there."""
    monkeypatch.setattr(table, "_STREAM_ROWS_MAX", 2)
    connection.executemany("INSERT INTO steps VALUES (1, ?, 'CREATED', NULL)", [(name,) for name in "abc"])
    assert steps.get(1, "b") is not None
    connection.execute("INSERT INTO steps VALUES (1, 'd', 'CREATED', NULL)")
    assert steps.get(1, "d") is not None


@pytest.mark.parametrize(("stream_ids", "seen"), [(None, "FAILED"), ({1}, "FAILED"), ({2}, "CREATED")])
def test_what_another_has_written_is_seen_once_it_is_forgotten(
    connection: sqlite3.Connection, steps: Table[StepRow], stream_ids: set[int] | None, seen: str
) -> None:
    """All of it, or a stream's; other streams are remembered as they were."""
    connection.execute("INSERT INTO steps VALUES (1, 'a', 'CREATED', NULL)")
    assert steps.get(1, "a") is not None
    connection.execute("UPDATE steps SET status = 'FAILED'")
    steps.forget(stream_ids)
    row = steps.get(1, "a")
    assert row is not None
    assert row.status == seen


def test_what_was_not_written_is_forgotten_with_the_rest(connection: sqlite3.Connection, steps: Table[StepRow]) -> None:
    """As after a rollback."""
    steps.add((1, "a"), StepRow(1, "a", "CREATED", None))
    steps.forget()
    steps.flush()
    assert rows(connection) == []


@pytest.mark.parametrize("limit", ["_CACHED_ROWS_MAX", "_CACHED_CHARACTERS_MAX"])
def test_memory_has_a_limit(
    connection: sqlite3.Connection, steps: Table[StepRow], monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """Past it, everything that is written is dropped from memory."""
    monkeypatch.setattr(table, limit, 5)
    for number in range(6):
        steps.add((1, f"step {number}"), StepRow(1, f"step {number}", "CREATED", None))
    steps.flush()
    connection.execute("UPDATE steps SET status = 'FAILED'")
    row = steps.get(1, "step 3")
    assert row is not None
    assert row.status == "FAILED"
