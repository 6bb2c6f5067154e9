"""A view table's rows in memory: what is written of them, and when they are read again."""

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import Struct

from projections import table
from projections.table import Table


class Note(Struct):
    stream_id: int
    name: str
    text: str | None
    count: int | None


class Notes:
    """A table keyed by stream and name, on a connection that records its statements."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.execute(
            "CREATE TABLE notes (stream_id INTEGER, name TEXT, text TEXT, count INTEGER, PRIMARY KEY (stream_id, name))"
        )
        self.table = Table(self.connection, "notes", Note, ("stream_id", "name"))
        self.said: list[str] = []
        self.connection.set_trace_callback(self.said.append)

    def insert(self, *rows: tuple[Any, ...]) -> None:
        """Insert rows directly, as another process would."""
        self.connection.executemany("INSERT INTO notes VALUES (?, ?, ?, ?)", rows)
        self.said.clear()

    def add(self, stream_id: int, name: str, text: str | None = None, count: int | None = None) -> None:
        self.table.add((stream_id, name), Note(stream_id, name, text, count))

    def change(self, stream_id: int, name: str, **columns: Any) -> None:
        """Change an existing row."""
        row = self.table.edit(stream_id, name)
        assert row is not None
        for column, value in columns.items():
            setattr(row, column, value)

    def written(self) -> list[tuple[Any, ...]]:
        return self.connection.execute("SELECT * FROM notes ORDER BY stream_id, name").fetchall()

    def reads(self) -> list[str]:
        """Return the SELECT statements since the last call."""
        found = [statement for statement in self.said if statement.startswith("SELECT")]
        self.said.clear()
        return found

    def writes(self) -> list[str]:
        """Flush, and return the statements executed."""
        self.said.clear()
        self.table.flush()
        return self.said[:]


@pytest.fixture
def notes() -> Iterator[Notes]:
    made = Notes()
    yield made
    made.connection.close()


def test_a_new_row_is_written_without_its_nulls(notes: Notes) -> None:
    """A new row is inserted without its NULL columns."""
    notes.add(1, "a", "x")
    (statement,) = notes.writes()
    assert statement == "INSERT INTO notes (stream_id, name, text) VALUES (1, 'a', 'x')"
    assert notes.written() == [(1, "a", "x", None)]


def test_a_change_of_nothing_writes_nothing(notes: Notes) -> None:
    """A row that was not changed, or was changed back, is not written."""
    notes.insert((1, "a", "x", 1), (1, "b", "x", 1))
    text = notes.table.get(1, "a")
    assert text is not None
    notes.change(1, "a")
    notes.change(1, "b", text="y")
    notes.change(1, "b", text=text.text)
    assert notes.writes() == []


def test_a_row_that_changes_many_times_is_written_once_with_what_changed(notes: Notes) -> None:
    """A row changed several times is updated once, in its changed columns only."""
    notes.insert((1, "a", "x", 1))
    for count in (2, 3):
        notes.change(1, "a", count=count)
    assert notes.writes() == ["UPDATE notes SET count = 3 WHERE stream_id = 1 AND name = 'a'"]
    assert notes.written() == [(1, "a", "x", 3)]


def test_changes_of_different_columns_are_written_together(notes: Notes) -> None:
    """Changes of several columns of a row are written by one statement."""
    notes.insert((1, "a", "x", 1))
    notes.change(1, "a", count=None)
    notes.change(1, "a", text="y")
    assert len(notes.writes()) == 1
    assert notes.written() == [(1, "a", "y", None)]


def test_a_new_row_that_changes_is_only_inserted(notes: Notes) -> None:
    """A new row that changes before the flush is inserted once with its final values."""
    notes.add(1, "a", "x")
    notes.change(1, "a", text=None, count=2)
    assert len(notes.writes()) == 1
    assert notes.written() == [(1, "a", None, 2)]


def test_nothing_is_written_twice(notes: Notes) -> None:
    """A flush writes only what changed since the last one."""
    notes.add(1, "a", "x")
    notes.table.flush()
    notes.change(1, "a", text="y")
    notes.table.flush()
    assert notes.writes() == []


def test_a_row_that_is_not_there_is_not_changed(notes: Notes) -> None:
    """Editing a missing row returns None and writes nothing."""
    assert notes.table.edit(1, "a") is None
    assert notes.writes() == []


@pytest.mark.parametrize("there", ["written", "new", "changed", "absent"])
def test_what_is_put_stands_whatever_stood_there(notes: Notes, there: str) -> None:
    """`put` replaces a written, new, changed or absent row completely."""
    if there != "absent":
        notes.add(1, "a", "x", 1)
    if there in {"written", "changed"}:
        notes.table.flush()
    if there == "changed":
        notes.change(1, "a", count=5)
    notes.table.put((1, "a"), Note(1, "a", None, 7))
    notes.table.flush()
    assert notes.table.get(1, "a") == Note(1, "a", None, 7)
    assert notes.written() == [(1, "a", None, 7)]


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_a_row_is_removed_and_added_again_in_one_batch(notes: Notes, *, written: bool, whole: bool) -> None:
    """A removed row is gone at once, and a row added again under its key keeps nothing of it."""
    if whole:
        notes.table.opened(1)
    notes.add(1, "a", "x", 1)
    notes.add(1, "b", "z")
    if written:
        notes.table.flush()
    notes.change(1, "b", count=2)
    notes.table.remove(1, "a")
    assert notes.table.get(1, "a") is None
    notes.add(1, "a", "y")
    notes.table.flush()
    assert notes.written() == [(1, "a", "y", None), (1, "b", "z", 2)]


@pytest.mark.parametrize("state", ["new", "changed"])
def test_a_row_that_is_removed_before_it_is_written_stays_away(notes: Notes, state: str) -> None:
    """A row that is removed before the flush is not written."""
    if state == "new":
        notes.add(1, "a", "x")
    else:
        notes.insert((1, "a", "x", 1))
        notes.change(1, "a", text="y")
    notes.table.remove(1, "a")
    assert notes.writes() == []
    assert notes.written() == []


def test_the_rows_of_a_stream_are_read_together_and_then_known(notes: Notes) -> None:
    """All rows of a stream are read at once; later hits and misses need no read."""
    notes.insert((1, "a", "x", 1), (1, "b", "y", 2), (2, "a", "z", 3))
    assert notes.table.get(1, "a") == Note(1, "a", "x", 1)
    assert len(notes.reads()) == 1
    assert notes.table.get(1, "b") == Note(1, "b", "y", 2)
    assert notes.table.get(1, "c") is None
    assert notes.reads() == []


def test_of_a_stream_that_was_opened_nothing_is_read(notes: Notes) -> None:
    """The rows of a newly opened stream are never read from the file."""
    notes.table.opened(1)
    notes.add(1, "a", "x")
    assert notes.table.get(1, "b") is None
    notes.table.flush()
    assert notes.table.get(1, "a") == Note(1, "a", "x", None)
    assert notes.reads() == []


def test_reading_a_stream_leaves_alone_what_is_newer_in_memory(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a stream keeps changed and new rows in memory."""
    monkeypatch.setattr(table, "_STREAM_ROWS_MAX", 0)
    notes.insert((1, "a", "x", 1))
    notes.change(1, "a", text="y")
    notes.add(1, "b", "new")
    monkeypatch.setattr(table, "_STREAM_ROWS_MAX", 256)
    notes.table._long_streams.clear()
    assert notes.table.get(1, "c") is None
    assert notes.table.get(1, "a") == Note(1, "a", "y", 1)
    assert notes.table.get(1, "b") == Note(1, "b", "new", None)


def test_of_a_long_stream_each_row_is_read_by_itself(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of a long stream are read one by one, and a miss is read each time."""
    monkeypatch.setattr(table, "_STREAM_ROWS_MAX", 1)
    notes.insert((1, "a", "x", 1), (1, "b", "y", 2))
    assert notes.table.get(1, "a") == Note(1, "a", "x", 1)
    assert len(notes.reads()) == 2
    assert notes.table.get(1, "a") == Note(1, "a", "x", 1)
    assert notes.reads() == []
    for _ in range(2):
        assert notes.table.get(1, "c") is None
    assert len(notes.reads()) == 2


def test_forgetting_some_streams_makes_them_be_read_anew(notes: Notes) -> None:
    """A forgotten stream is read again and shows rows that another process changed, added or deleted."""
    notes.insert((1, "a", "x", 1), (1, "b", "y", 2))
    assert notes.table.get(1, "c") is None
    notes.connection.execute("UPDATE notes SET text = 'theirs' WHERE name = 'a'")
    notes.connection.execute("DELETE FROM notes WHERE name = 'b'")
    notes.insert((1, "c", "new", 3))
    notes.table.forget({1})
    assert notes.table.get(1, "a") == Note(1, "a", "theirs", 1)
    assert notes.table.get(1, "b") is None
    assert notes.table.get(1, "c") == Note(1, "c", "new", 3)


@pytest.mark.parametrize("known", ["opened", "empty", "written", "long"])
def test_a_stream_is_forgotten_however_it_came_to_be_known(
    notes: Notes, monkeypatch: pytest.MonkeyPatch, known: str
) -> None:
    """A stream can be forgotten whether it was opened, found empty, written or long."""
    if known == "opened":
        notes.table.opened(1)
    elif known == "empty":
        assert notes.table.get(1, "a") is None
    elif known == "written":
        notes.add(1, "b", "x")
        notes.table.flush()
    else:
        monkeypatch.setattr(table, "_STREAM_ROWS_MAX", 0)
        notes.insert((1, "b", "x", 1))
        assert notes.table.get(1, "b") is not None
    notes.insert((1, "a", "theirs", 1))
    notes.table.forget({1})
    assert notes.table.get(1, "a") == Note(1, "a", "theirs", 1)


@pytest.mark.parametrize("written_by_us", [True, False])
def test_a_row_that_is_known_by_itself_is_forgotten_with_its_stream(notes: Notes, *, written_by_us: bool) -> None:
    """In a table keyed by name, a row that was read or written is forgotten with its stream."""
    by_name = Table(notes.connection, "notes", Note, ("name",))
    if written_by_us:
        by_name.add(("a",), Note(1, "a", "x", 1))
        by_name.flush()
    else:
        notes.insert((1, "a", "x", 1))
    assert by_name.get("a") == Note(1, "a", "x", 1)
    notes.connection.execute("UPDATE notes SET text = 'theirs'")
    by_name.forget({1})
    assert by_name.get("a") == Note(1, "a", "theirs", 1)


def test_forgetting_streams_that_nothing_is_known_of_keeps_the_others(notes: Notes) -> None:
    """Forgetting other streams leaves a known stream in memory."""
    notes.insert((1, "a", "x", 1))
    notes.table.get(1, "a")
    notes.reads()
    notes.table.forget({2, 3})
    assert notes.table.get(1, "a") == Note(1, "a", "x", 1)
    assert notes.table.get(1, "b") is None
    assert notes.reads() == []


def test_forgetting_all_drops_what_is_not_written(notes: Notes) -> None:
    """Forgetting all drops unwritten changes, as after a rollback."""
    notes.insert((1, "a", "x", 1))
    notes.change(1, "a", text="y")
    notes.add(1, "b", "new")
    notes.table.forget()
    assert notes.writes() == []
    assert notes.table.get(1, "a") == Note(1, "a", "x", 1)
    assert notes.table.get(1, "b") is None


def test_clearing_streams_takes_their_rows_out_of_the_table(notes: Notes) -> None:
    """Clearing a stream deletes its rows from the table and leaves those of other streams."""
    notes.insert((1, "a", "x", 1), (2, "a", "y", 2))
    notes.table.get(1, "a")
    notes.table.clear([1])
    assert notes.table.get(1, "a") is None
    assert notes.written() == [(2, "a", "y", 2)]


@pytest.mark.parametrize("limit", ["_CACHED_ROWS_MAX", "_CACHED_CHARACTERS_MAX"])
def test_what_is_beyond_the_limits_is_written_and_then_forgotten(
    notes: Notes, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """Beyond the limit of rows or characters, rows are written, forgotten, and read again when needed."""
    monkeypatch.setattr(table, limit, 2)
    for name in ("a", "b", "c"):
        notes.add(1, name, "text")
    notes.table.flush()
    assert notes.table._rows == {}
    assert notes.table.get(1, "b") == Note(1, "b", "text", None)


def test_streams_that_are_known_to_be_empty_count_against_the_limit(
    notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streams known to be empty count towards the limit of rows."""
    monkeypatch.setattr(table, "_CACHED_ROWS_MAX", 10)
    for stream_id in range(11):
        notes.table.opened(stream_id)
    notes.table.flush()
    assert not notes.table._complete_streams


def test_a_row_that_grows_counts_against_the_limit(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that grows counts towards the limit of characters; the count restarts once all is forgotten."""
    notes.insert((1, "a", "x", 1))
    monkeypatch.setattr(table, "_CACHED_CHARACTERS_MAX", 100)
    notes.change(1, "a", text="y" * 101)
    notes.table.flush()
    assert notes.table._rows == {}
    monkeypatch.setattr(table, "_CACHED_CHARACTERS_MAX", 200)
    notes.change(1, "a", count=2)
    notes.table.flush()
    assert notes.table._rows != {}


def test_a_table_that_is_not_keyed_by_its_stream_looks_up_each_miss(notes: Notes) -> None:
    """A table that is not keyed by stream reads the file for each miss."""
    by_name = Table(notes.connection, "notes", Note, ("name",))
    by_name.opened(2)
    assert by_name.get("b") is None
    notes.insert((2, "b", "y", 2))
    assert by_name.get("b") == Note(2, "b", "y", 2)
