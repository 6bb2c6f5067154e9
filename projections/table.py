"""A view table as the fold sees it: rows by key, kept in memory while a batch is made and written together.

This is Fowler's identity map and unit of work: a row that changes ten times in a batch is written once, and a row that
was just written need not be read again. What is written is what is new: of a row that is there, the columns that
changed; of those that are not, the columns in which any holds something. Binding a NULL costs Python's sqlite3 as much
as two texts.

Rows that are keyed by their stream are read a stream at a time, so that it is also known which are not there: a branch
logs mostly steps that are new, and each would cost a look-up.
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
_STREAM_ROWS_MAX = 256  # rows of a stream that are read together; of a longer one, each by itself


class Table(Generic[Row]):
    """Rows of type `row`, whose fields are the table's columns in order; `key` names columns that tell its rows apart.

    Every row type has a `stream_id`. A row changes in place, for which `edit` hands it out: who wants it as it was
    keeps a copy.
    """

    def __init__(self, connection: sqlite3.Connection, name: str, row: type[Row], key: tuple[str, ...]) -> None:
        self.name = name
        self._connection = connection
        self._row = row
        self._columns = row.__struct_fields__
        self._key = key
        # Names and columns are constants of this package: nothing of a caller's comes into the text.
        self._where = " AND ".join(f"{column} = ?" for column in key)
        self._select = f"SELECT {', '.join(self._columns)} FROM {name}"
        self._keyed_by_stream = key[0] == "stream_id"
        self._stream_at = self._columns.index("stream_id")
        self._rows: dict[tuple[Any, ...], Row] = {}
        self._unwritten: dict[tuple[Any, ...], tuple[Any, ...] | None] = {}  # as in the file, None where it has none
        self._whole_streams: set[int] = set()
        self._long_streams: set[int] = set()
        self._streams: set[int] = set()
        self._characters = 0

    def get(self, *key: Any) -> Row | None:
        """Return the row as it stands, written or not."""
        row = self._rows.get(key)
        return self._missing(key) if row is None else row

    def edit(self, *key: Any) -> Row | None:
        """Return the row to be changed in place, before the next flush: that writes what then differs."""
        row = self._rows.get(key)
        if row is None and (row := self._missing(key)) is None:
            return None
        if key not in self._unwritten:
            self._unwritten[key] = structs.astuple(row)
        return row

    def opened(self, stream_id: int) -> None:
        """Note that a stream is new: it has no rows but those that will be put here."""
        self._whole_streams.add(stream_id)

    def add(self, key: tuple[Any, ...], row: Row) -> None:
        """Put a row where there is none."""
        self._rows[key] = row
        self._unwritten[key] = None

    def put(self, key: tuple[Any, ...], row: Row) -> None:
        """Make `row` what stands at `key`, whatever stood there."""
        if self.edit(*key) is None:
            self.add(key, row)
        else:
            self._rows[key] = row

    def remove(self, *key: Any) -> None:
        """Take the row at `key` away, now: another may be added at its place."""
        self.flush()
        self._rows.pop(key, None)
        self._connection.execute(f"DELETE FROM {self.name} WHERE {self._where}", key)

    def flush(self) -> None:
        """Write what has changed."""
        if self._unwritten:
            self._write()
        cached = len(self._rows) + len(self._whole_streams) + len(self._long_streams)
        if cached > _CACHED_ROWS_MAX or self._characters > _CACHED_CHARACTERS_MAX:
            self.forget()

    def clear(self, stream_ids: Collection[int]) -> None:
        """Take the rows of some streams out of the table, and every row out of memory."""
        self.forget()
        self._connection.executemany(
            f"DELETE FROM {self.name} WHERE stream_id = ?", [(stream_id,) for stream_id in stream_ids]
        )

    def forget(self, stream_ids: Collection[int] | None = None) -> None:
        """Drop every row from memory, changed ones too; or, between batches, only if any is of some streams.

        Between batches alone: of rows that are not written yet the streams are not noted.
        """
        if stream_ids is not None and self._knows_none_of(stream_ids):
            return
        for remembered in (
            self._rows,
            self._unwritten,
            self._whole_streams,
            self._long_streams,
            self._streams,
        ):
            remembered.clear()
        self._characters = 0

    def _knows_none_of(self, stream_ids: Collection[int]) -> bool:
        known = self._streams, self._whole_streams, self._long_streams
        return all(streams.isdisjoint(stream_ids) for streams in known)

    def _missing(self, key: tuple[Any, ...]) -> Row | None:
        """Return a row that is not in memory."""
        if self._keyed_by_stream and key[0] in self._whole_streams:
            return None
        if self._keyed_by_stream and self._has_room_for(key[0]):
            self._read_stream(key[0])
            if key[0] in self._whole_streams:
                return self._rows.get(key)
        found = self._connection.execute(f"{self._select} WHERE {self._where}", key).fetchone()
        return None if found is None else self._keep(key, found)

    def _has_room_for(self, stream_id: int) -> bool:
        # Half of the cache: what is read ahead must not be what makes it forget all that is in use.
        return len(self._rows) < _CACHED_ROWS_MAX // 2 and stream_id not in self._long_streams

    def _read_stream(self, stream_id: int) -> None:
        # The cursor has no name: were it interrupted, the error's traceback would keep it open, and the file locked.
        rows = f"{self._select} WHERE stream_id = ?"
        found = self._connection.execute(rows, (stream_id,)).fetchmany(_STREAM_ROWS_MAX + 1)
        if len(found) > _STREAM_ROWS_MAX:
            self._long_streams.add(stream_id)
            return
        self._whole_streams.add(stream_id)
        places = [self._columns.index(column) for column in self._key]
        for columns in found:
            key = tuple(columns[place] for place in places)
            if key not in self._rows:  # what is in memory may be newer
                self._keep(key, columns)

    def _keep(self, key: tuple[Any, ...], columns: tuple[Any, ...]) -> Row:
        row = self._rows[key] = self._row(*columns)
        self._streams.add(columns[self._stream_at])
        self._characters += _characters(columns)
        return row

    def _write(self) -> None:
        new, alike = [], dict[tuple[str, ...], list[tuple[Any, ...]]]()
        for key, before in self._unwritten.items():
            row = structs.astuple(self._rows[key])
            if before is None:
                new.append(row)
                continue
            changed = [*map(is_not, before, row)]
            values = tuple(compress(row, changed))
            alike.setdefault(tuple(compress(self._columns, changed)), []).append(values + key)
            self._characters += _characters(values)
        if new:
            self._insert(new)
        for columns, rows in alike.items():
            if columns:
                setting = ", ".join(f"{column} = ?" for column in columns)
                self._connection.executemany(f"UPDATE {self.name} SET {setting} WHERE {self._where}", rows)
        self._unwritten.clear()

    def _insert(self, rows: list[tuple[Any, ...]]) -> None:
        # Column by column, which is a few calls for the whole batch instead of a few for each row.
        columns = dict(zip(self._columns, zip(*rows, strict=True), strict=True))
        self._streams.update(columns["stream_id"])
        held = {name: column for name, column in columns.items() if _holds(column)}
        self._characters += sum(map(_characters, held.values()))
        insert_rows(self._connection, self.name, tuple(held), list(zip(*held.values(), strict=True)))


def _characters(values: Collection[Any]) -> int:
    # A row may hold a megabyte of JSON, so counting rows alone would bound nothing.
    try:
        return sum(map(len, values))
    except TypeError:  # some are no texts
        return sum([len(value) for value in values if type(value) is str])


def _holds(column: tuple[Any, ...]) -> bool:
    return any(column) or column.count(None) < len(column)
