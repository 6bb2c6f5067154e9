"""A view table as the fold sees it: rows by key, kept in memory while a batch is made and written together.

This is Fowler's identity map and unit of work: a row that changes ten times in a batch is written once, and a row that
was just written need not be read again.
"""

import sqlite3
from collections.abc import Collection, Iterator
from typing import Any, Generic, TypeVar

from msgspec import Struct, structs

Row = TypeVar("Row", bound=Struct)

_CACHED_ROWS_MAX = 20_000
_CACHED_CHARACTERS_MAX = 8 * 1024 * 1024


class Table(Generic[Row]):
    """Rows of type `row`, whose fields are the table's columns in order; `key` names the primary key's columns."""

    def __init__(self, connection: sqlite3.Connection, name: str, row: type[Row], key: tuple[str, ...]) -> None:
        columns = row.__struct_fields__
        where = " AND ".join(f"{column} = ?" for column in key)
        marks = ", ".join("?" * len(columns))
        self.name = name
        self._connection = connection
        self._row = row
        # Names and columns are constants of this package: nothing of a caller's comes into the text.
        self._select = f"SELECT {', '.join(columns)} FROM {name} WHERE {where}"
        self._upsert = f"INSERT OR REPLACE INTO {name} ({', '.join(columns)}) VALUES ({marks})"
        self._delete = f"DELETE FROM {name} WHERE {where}"
        self._rows: dict[tuple[Any, ...], Row | None] = {}
        self._dirty: set[tuple[Any, ...]] = set()
        self._characters = 0

    def get(self, *key: Any) -> Row | None:
        """Return the row as it stands, written or not."""
        try:
            return self._rows[key]
        except KeyError:
            found = self._connection.execute(self._select, key).fetchone()
            row = self._rows[key] = None if found is None else self._row(*found)
            self._characters += _characters(found or ())
            return row

    def put(self, key: tuple[Any, ...], row: Row) -> None:
        """Make `row` what stands at `key`."""
        self._rows[key] = row
        self._dirty.add(key)

    def remove(self, *key: Any) -> None:
        """Take the row at `key` away."""
        self._rows[key] = None
        self._dirty.add(key)

    def flush(self) -> None:
        """Write what has changed."""
        if self._dirty:
            gone = [key for key in self._dirty if self._rows[key] is None]
            if gone:
                self._connection.executemany(self._delete, gone)
            self._connection.executemany(self._upsert, self._changed())
            self._dirty.clear()
        if len(self._rows) > _CACHED_ROWS_MAX or self._characters > _CACHED_CHARACTERS_MAX:
            self.forget()

    def clear(self, stream_ids: Collection[int]) -> None:
        """Take the rows of some streams out of the table, and every row out of memory."""
        self.forget()
        self._connection.executemany(
            f"DELETE FROM {self.name} WHERE stream_id = ?", [(stream_id,) for stream_id in stream_ids]
        )

    def forget(self) -> None:
        """Drop every row from memory, changed ones too."""
        self._rows.clear()
        self._dirty.clear()
        self._characters = 0

    def _changed(self) -> Iterator[tuple[Any, ...]]:
        for key in self._dirty:
            row = self._rows[key]
            if row is not None:
                columns = structs.astuple(row)
                self._characters += _characters(columns)
                yield columns


def _characters(columns: tuple[Any, ...]) -> int:
    # A row may hold a megabyte of JSON, so counting rows alone would bound nothing.
    return sum([len(column) for column in columns if type(column) is str])
