"""A view table as a fold uses it: rows by key, cached in memory during a batch and written together.

This is Fowler's identity map and unit of work: a row that changes ten times in a batch is written once, and a row that
was just written is not read again. Only differences are written: the changed columns of existing rows; for new rows,
the columns in which any of them holds a value, since binding a NULL costs Python's sqlite3 as much as two texts.

Rows keyed by their stream are read a stream at a time, so that absent rows are known too: most steps that a branch logs
are new, and each would cost a lookup.
"""

import sqlite3
from collections.abc import Collection
from itertools import compress
from operator import is_not
from typing import Any, Generic, TypeVar

from msgspec import Struct, structs

from engine.bulk_insert import insert_rows

Row = TypeVar("Row", bound=Struct)

_CACHED_ROWS_MAX = 4_000
_CACHED_CHARACTERS_MAX = 8 * 1024 * 1024
_STREAM_ROWS_MAX = 256  # streams with more rows are read row by row


class Table(Generic[Row]):
    """Rows of type `row`, whose fields are the table's columns in order; `key` names columns that identify a row.

    Every row type has a `stream_id`. Rows are changed in place, through `edit`; copy a row to keep its old state.
    """

    def __init__(self, connection: sqlite3.Connection, name: str, row: type[Row], key: tuple[str, ...]) -> None:
        self.name = name
        self._connection = connection
        self._row = row
        self._columns = row.__struct_fields__
        self._key = key
        # Table and column names are constants of this package; the SQL text holds no caller's input.
        self._where = " AND ".join(f"{column} = ?" for column in key)
        self._select = f"SELECT {', '.join(self._columns)} FROM {name}"
        self._keyed_by_stream = key[0] == "stream_id"
        self._stream_at = self._columns.index("stream_id")
        self._rows: dict[tuple[Any, ...], Row] = {}
        self._unwritten: dict[tuple[Any, ...], tuple[Any, ...] | None] = {}  # the row in the file, None for a new one
        self._complete_streams: set[int] = set()
        self._long_streams: set[int] = set()
        self._streams: set[int] = set()
        self._characters = 0

    def get(self, *key: Any) -> Row | None:
        """Return the current row, written or not."""
        row = self._rows.get(key)
        return self._load(key) if row is None else row

    def edit(self, *key: Any) -> Row | None:
        """Return the row for changes in place; the next flush writes the differences."""
        row = self._rows.get(key)
        if row is None and (row := self._load(key)) is None:
            return None
        if key not in self._unwritten:
            self._unwritten[key] = structs.astuple(row)
        return row

    def opened(self, stream_id: int) -> None:
        """Register a new stream, whose rows will all be put here."""
        self._complete_streams.add(stream_id)

    def add(self, key: tuple[Any, ...], row: Row) -> None:
        """Add a row under a key that has none."""
        self._rows[key] = row
        self._unwritten[key] = None

    def put(self, key: tuple[Any, ...], row: Row) -> None:
        """Add or replace the row at `key`."""
        if self.edit(*key) is None:
            self.add(key, row)
        else:
            self._rows[key] = row

    def remove(self, *key: Any) -> None:
        """Delete the row at `key` immediately, so that another can be added in its place."""
        self.flush()
        self._rows.pop(key, None)
        self._connection.execute(f"DELETE FROM {self.name} WHERE {self._where}", key)

    def flush(self) -> None:
        """Write the changes, and empty the cache if it exceeds its limits."""
        if self._unwritten:
            self._write()
        cached = len(self._rows) + len(self._complete_streams) + len(self._long_streams)
        if cached > _CACHED_ROWS_MAX or self._characters > _CACHED_CHARACTERS_MAX:
            self.forget()

    def clear(self, stream_ids: Collection[int]) -> None:
        """Delete the rows of some streams, and drop all rows from memory."""
        self.forget()
        self._connection.executemany(
            f"DELETE FROM {self.name} WHERE stream_id = ?", [(stream_id,) for stream_id in stream_ids]
        )

    def forget(self, stream_ids: Collection[int] | None = None) -> None:
        """Drop all rows from memory, including unwritten changes; with `stream_ids`, only if any row is of one of them.

        Pass `stream_ids` only between batches: the streams of unwritten rows are not known yet.
        """
        known = self._streams, self._complete_streams, self._long_streams
        if stream_ids is not None and all(streams.isdisjoint(stream_ids) for streams in known):
            return
        for cache in (self._rows, self._unwritten, *known):
            cache.clear()
        self._characters = 0

    def _load(self, key: tuple[Any, ...]) -> Row | None:
        """Look up a row that is not in memory."""
        if self._keyed_by_stream and key[0] in self._complete_streams:
            return None
        if self._keyed_by_stream and self._has_room_for(key[0]):
            self._read_stream(key[0])
            if key[0] in self._complete_streams:
                return self._rows.get(key)
        found = self._connection.execute(f"{self._select} WHERE {self._where}", key).fetchone()
        return None if found is None else self._keep(key, found)

    def _has_room_for(self, stream_id: int) -> bool:
        # Half of the cache, so that reading ahead does not evict the rows in use.
        return len(self._rows) < _CACHED_ROWS_MAX // 2 and stream_id not in self._long_streams

    def _read_stream(self, stream_id: int) -> None:
        # No variable for the cursor: after an interrupt, the traceback would keep it open, and the file locked.
        rows = f"{self._select} WHERE stream_id = ?"
        found = self._connection.execute(rows, (stream_id,)).fetchmany(_STREAM_ROWS_MAX + 1)
        if len(found) > _STREAM_ROWS_MAX:
            self._long_streams.add(stream_id)
            return
        self._complete_streams.add(stream_id)
        places = [self._columns.index(column) for column in self._key]
        for columns in found:
            key = tuple(columns[place] for place in places)
            if key not in self._rows:  # a row in memory may be newer
                self._keep(key, columns)

    def _keep(self, key: tuple[Any, ...], columns: tuple[Any, ...]) -> Row:
        row = self._rows[key] = self._row(*columns)
        self._streams.add(columns[self._stream_at])
        self._characters += _characters(columns)
        return row

    def _write(self) -> None:
        new, updates = [], dict[tuple[str, ...], list[tuple[Any, ...]]]()
        for key, before in self._unwritten.items():
            row = structs.astuple(self._rows[key])
            if before is None:
                new.append(row)
                continue
            changed = [*map(is_not, before, row)]
            values = tuple(compress(row, changed))
            updates.setdefault(tuple(compress(self._columns, changed)), []).append(values + key)
            self._characters += _characters(values)
        if new:
            self._insert(new)
        for columns, rows in updates.items():
            if columns:
                setting = ", ".join(f"{column} = ?" for column in columns)
                self._connection.executemany(f"UPDATE {self.name} SET {setting} WHERE {self._where}", rows)
        self._unwritten.clear()

    def _insert(self, rows: list[tuple[Any, ...]]) -> None:
        # Column by column: a few calls for the whole batch instead of a few for each row.
        columns = dict(zip(self._columns, zip(*rows, strict=True), strict=True))
        self._streams.update(columns["stream_id"])
        held = {name: column for name, column in columns.items() if _has_values(column)}
        self._characters += sum(map(_characters, held.values()))
        insert_rows(self._connection, self.name, tuple(held), list(zip(*held.values(), strict=True)))


def _characters(values: Collection[Any]) -> int:
    # A row may hold a megabyte of JSON, so limiting the number of rows is not enough.
    try:
        return sum(map(len, values))
    except TypeError:  # some are not text
        return sum([len(value) for value in values if type(value) is str])


def _has_values(column: tuple[Any, ...]) -> bool:
    return any(column) or column.count(None) < len(column)
