"""Rebuilding views: events are folded into scratch tables, which replace the live ones or are compared with them."""

import sqlite3
from collections.abc import Callable, Iterable
from operator import itemgetter

from engine.events import RecordedEvent
from engine.ports import Stream, ViewDifference
from engine.projectors import Projectors
from projections.partition_tables import SQL_VIEWS

MakeProjectors = Callable[[sqlite3.Connection], Projectors]


class ViewRebuilder:
    """`engine.ports.Rebuilder` for the projectors that `make_projectors` makes on a connection."""

    def __init__(self, make_projectors: MakeProjectors) -> None:
        self._make_projectors = make_projectors
        self._scratch: sqlite3.Connection | None = None
        self._projectors = Projectors()

    def create(self, scratch: sqlite3.Connection) -> None:
        """Create the tables in a scratch database, to which `scratch` is connected in autocommit mode."""
        self._scratch = scratch
        self._projectors = self._make_projectors(scratch)
        for projector in self._projectors.all:
            projector.create_tables()

    def fold(self, events: Iterable[tuple[Stream, RecordedEvent]]) -> None:
        """Fold a chunk of the log, in one transaction of the scratch database."""
        assert self._scratch is not None, "create comes first"
        self._scratch.execute("BEGIN")
        for stream, recorded in events:
            self._projectors.apply(stream, recorded)
        self._projectors.flush()
        self._scratch.execute("COMMIT")

    def disown(self, connection: sqlite3.Connection) -> None:
        """Remove the live tables from the schema without freeing their pages, which stay unused until a compaction.

        DROP TABLE would read and free every page, including one that is damaged or belongs to another table.
        """
        connection.execute("PRAGMA writable_schema = ON")  # https://sqlite.org/pragma.html#pragma_writable_schema
        try:
            # A view has no pages, but while there is one, SQLite 3.40 may skip free pages in its integrity check.
            names = [*self._projectors.tables(), *SQL_VIEWS]
            connection.executemany("DELETE FROM main.sqlite_schema WHERE tbl_name = ?", [(name,) for name in names])
        finally:
            connection.execute("PRAGMA writable_schema = RESET")  # switches it off and reloads the schema

    def replace(self, connection: sqlite3.Connection, scratch_name: str, position: int) -> None:
        """Replace the live tables by the scratch tables, inside the caller's transaction on `connection`.

        `scratch_name` is the schema name under which the scratch database is attached.
        """
        for projector in self._make_projectors(connection).all:
            projector.drop_tables()
            projector.create_tables()
            for table in projector.tables():
                connection.execute(f"DELETE FROM main.{table}")
                connection.execute(f"INSERT INTO main.{table} SELECT * FROM {scratch_name}.{table}")
            connection.execute(
                "INSERT OR REPLACE INTO view_checkpoints VALUES (?, ?, ?)",
                (projector.name, projector.version, position),
            )

    def differences(self, connection: sqlite3.Connection, scratch_name: str) -> list[ViewDifference]:
        """Compare the live tables with the scratch tables, row by row and byte by byte.

        Errors that SQLite's integrity check finds in the live tables count as missing rows: comparing rows does not
        reveal a broken index. A trigger, or an SQL view with another definition, counts as unexpected.
        """
        tables = [_table_difference(connection, scratch_name, table) for table in self._projectors.tables()]
        views = [_view_difference(connection, scratch_name, view) for view in SQL_VIEWS]
        return [each for each in (*tables, *views) if each.missing or each.unexpected]


def _table_difference(connection: sqlite3.Connection, scratch_name: str, table: str) -> ViewDifference:
    due, live = f"{scratch_name}.{table}", f"main.{table}"
    there = _columns(connection, "main", table)
    if there == _columns(connection, scratch_name, table):
        columns = _comparison_columns(connection, scratch_name, table)
        missing = _count_except(connection, columns, due, live)
        # Rows are unique, so with none missing and an equal count there are no unexpected ones.
        whole = not missing and _count(connection, live) == _count(connection, due)
        unexpected = 0 if whole else _count_except(connection, columns, live, due)
        missing += _integrity_errors(connection, table)
    else:  # another table with that name, or none
        missing, unexpected = _count(connection, due), _count(connection, live) if there else 0
    unexpected += len(_definitions(connection, "main", table, "trigger"))
    return ViewDifference(table, missing, unexpected)


def _view_difference(connection: sqlite3.Connection, scratch_name: str, view: str) -> ViewDifference:
    expected, actual = (_definitions(connection, schema, view, "view") for schema in (scratch_name, "main"))
    return ViewDifference(view, len(expected - actual), len(actual - expected))


def _definitions(connection: sqlite3.Connection, schema: str, name: str, kind: str) -> set[str]:
    """Return the SQL definitions of a view, or of a table's triggers."""
    defined = f"SELECT sql FROM {schema}.sqlite_schema WHERE tbl_name = ? AND type = ?"
    return {sql for (sql,) in connection.execute(defined, (name, kind))}


def _columns(connection: sqlite3.Connection, schema: str, table: str) -> list[str]:
    return [name for _, name, *_ in connection.execute(f"PRAGMA {schema}.table_info({table})")]


def _comparison_columns(connection: sqlite3.Connection, schema: str, table: str) -> str:
    """Return the columns to compare: with `typeof` for ANY columns, because EXCEPT treats 4 and 4.0 as equal.

    The key columns come first: rows are read roughly in their order, so SQLite sorts them quickly.
    """
    columns = [
        (name, kind, key) for _, name, kind, _, _, key in connection.execute(f"PRAGMA {schema}.table_info({table})")
    ]
    keys = [name for name, _, key in sorted(columns, key=itemgetter(2)) if key]
    return ", ".join([*keys, "*", *(f"typeof({name})" for name, kind, _ in columns if kind == "ANY")])


def _count(connection: sqlite3.Connection, table: str) -> int:
    number: int = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    return number


def _integrity_errors(connection: sqlite3.Connection, table: str) -> int:
    said = [text for (text,) in connection.execute(f"PRAGMA main.integrity_check({table})")]
    return 0 if said == ["ok"] else len(said)


def _count_except(connection: sqlite3.Connection, columns: str, left: str, right: str) -> int:
    statement = f"SELECT count(*) FROM (SELECT {columns} FROM {left} EXCEPT SELECT {columns} FROM {right})"
    count: int = connection.execute(statement).fetchone()[0]
    return count
