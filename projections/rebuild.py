"""Views from events alone: folded into scratch tables, which then replace the live ones or are compared with them."""

import sqlite3
from collections.abc import Callable, Iterable
from operator import itemgetter

from engine.events import RecordedEvent
from engine.ports import Stream, ViewDifference
from engine.projectors import Projectors
from projections.partitions import SQL_VIEWS

MakeProjectors = Callable[[sqlite3.Connection], Projectors]


class ViewRebuilder:
    """`engine.ports.Rebuilder` for the projectors that `make_projectors` makes on a connection."""

    def __init__(self, make_projectors: MakeProjectors) -> None:
        self._make_projectors = make_projectors
        self._scratch: sqlite3.Connection | None = None
        self._projectors = Projectors()

    def create(self, scratch: sqlite3.Connection) -> None:
        """Make the tables in a database of their own, which `scratch` is connected to in autocommit mode."""
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
        """Take the live tables out of the schema, and their pages from nobody: they are unused until a compaction.

        DROP TABLE would read every page and give it back, also one that is damaged or another table's.
        """
        connection.execute("PRAGMA writable_schema = ON")  # https://sqlite.org/pragma.html#pragma_writable_schema
        try:
            # A view has no pages; while there is one, SQLite 3.40 may leave out of a check which pages are free.
            names = [*(table for projector in self._projectors.all for table in projector.tables()), *SQL_VIEWS]
            connection.executemany("DELETE FROM main.sqlite_schema WHERE tbl_name = ?", [(name,) for name in names])
        finally:
            connection.execute("PRAGMA writable_schema = RESET")  # off, and the schema is read anew

    def replace(self, connection: sqlite3.Connection, scratch_name: str, position: int) -> None:
        """Make the live tables what the scratch tables are, inside the caller's transaction on `connection`.

        `scratch_name` is what the scratch database is attached as.
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

        What SQLite finds wrong with the live ones counts as missing: an index that does not lead to its rows, which no
        comparison of rows shows. A trigger counts as unexpected, and so does an SQL view that is defined otherwise.
        """
        found = []
        for table in (table for projector in self._projectors.all for table in projector.tables()):
            due, live = f"{scratch_name}.{table}", f"main.{table}"
            there = _columns(connection, "main", table)
            if there == _columns(connection, scratch_name, table):
                columns = _compared(connection, scratch_name, table)
                missing = _count_except(connection, columns, due, live)
                # As many as are due, and none of these missing, are those: rows have keys.
                whole = not missing and _count(connection, live) == _count(connection, due)
                unexpected = 0 if whole else _count_except(connection, columns, live, due)
                missing += _damages(connection, table)
            else:  # another table under its name
                missing, unexpected = _count(connection, due), _count(connection, live) if there else 0
            unexpected += len(_definitions(connection, "main", table, "trigger"))
            if missing or unexpected:
                found.append(ViewDifference(table, missing, unexpected))
        for view in SQL_VIEWS:
            wanted, defined = (_definitions(connection, schema, view, "view") for schema in (scratch_name, "main"))
            if wanted != defined:
                found.append(ViewDifference(view, len(wanted - defined), len(defined - wanted)))
        return found


def _definitions(connection: sqlite3.Connection, schema: str, name: str, kind: str) -> set[str]:
    """Return how the triggers of a table, or a view, are defined."""
    defined = f"SELECT sql FROM {schema}.sqlite_schema WHERE tbl_name = ? AND type = ?"
    return {sql for (sql,) in connection.execute(defined, (name, kind))}


def _columns(connection: sqlite3.Connection, schema: str, table: str) -> list[str]:
    return [name for _, name, *_ in connection.execute(f"PRAGMA {schema}.table_info({table})")]


def _compared(connection: sqlite3.Connection, schema: str, table: str) -> str:
    """Return what two rows have to agree in: EXCEPT takes 4 and 4.0 for one, where a column may hold either.

    The key's columns stand in front: rows come about in their order, and so they are quickly put in order.
    """
    columns = [
        (name, kind, key) for _, name, kind, _, _, key in connection.execute(f"PRAGMA {schema}.table_info({table})")
    ]
    keys = [name for name, _, key in sorted(columns, key=itemgetter(2)) if key]
    return ", ".join([*keys, "*", *(f"typeof({name})" for name, kind, _ in columns if kind == "ANY")])


def _count(connection: sqlite3.Connection, table: str) -> int:
    number: int = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    return number


def _damages(connection: sqlite3.Connection, table: str) -> int:
    said = [text for (text,) in connection.execute(f"PRAGMA main.integrity_check({table})")]
    return 0 if said == ["ok"] else len(said)


def _count_except(connection: sqlite3.Connection, columns: str, left: str, right: str) -> int:
    statement = f"SELECT count(*) FROM (SELECT {columns} FROM {left} EXCEPT SELECT {columns} FROM {right})"
    count: int = connection.execute(statement).fetchone()[0]
    return count
