"""The tables of a state store, renamed while their rows become events, and the queries that read them."""

import sqlite3
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from engine.logs.state_store import COLUMNS, columns_of, tables_of

_PREFIX: Final = "state_store_"


def _on_old_tables(statement: str) -> str:
    """Return a statement with its table names in braces replaced by the names that they have while set aside."""
    return statement.format(**{table: _PREFIX + table for table in COLUMNS})


def _columns(table: str, alias: str) -> str:
    return ", ".join(f"{alias}.{column}" for column in COLUMNS[table])


_HAS_RUN = "run_id IN (SELECT run_id FROM {runs}) AS has_run"
_SAME_TASK = "{tasks} AS task ON task.task_id = row.task_id AND task.run_id = row.run_id"

ROWS: Final = {
    "runs": _on_old_tables(f"SELECT {_columns('runs', 'row')} FROM {{runs}} AS row ORDER BY rowid"),
    "tasks": _on_old_tables(
        f"SELECT {_columns('tasks', 'row')}, row.{_HAS_RUN}, 1 AS has_task FROM {{tasks}} AS row ORDER BY row.rowid"
    ),
    # In insertion order, but never a later attempt of a task before an earlier one.
    "task_attempts": _on_old_tables(
        f"SELECT {_columns('task_attempts', 'row')}, row.{_HAS_RUN}, task.task_id IS NOT NULL AS has_task,"
        " coalesce(task.current_attempt_id = row.attempt_id, 0) AS is_current,"
        " task.current_attempt_id IS NULL AS no_current"
        f" FROM {{task_attempts}} AS row LEFT JOIN {_SAME_TASK} ORDER BY"
        " max(row.rowid) OVER (PARTITION BY row.run_id, row.task_id ORDER BY row.attempt_index), row.attempt_index"
    ),
    "external_runs": _on_old_tables(
        f"SELECT {_columns('external_runs', 'row')}, row.{_HAS_RUN}, task.task_id IS NOT NULL AS has_task,"
        " run.created_at AS run_created_at, NOT EXISTS (SELECT 1 FROM {task_attempts} AS attempt"
        " WHERE attempt.task_id = row.task_id AND attempt.run_id = row.run_id) AS untried"
        f" FROM {{external_runs}} AS row LEFT JOIN {_SAME_TASK} LEFT JOIN {{runs}} AS run ON run.run_id = row.run_id"
        " ORDER BY row.rowid"
    ),
}
"""The query of each table, in the order in which the tables become events. The first column identifies the row."""

_LOST_RUNS = _on_old_tables(
    "SELECT run_id FROM {tasks} UNION SELECT run_id FROM {task_attempts} UNION SELECT run_id FROM {external_runs}"
    " EXCEPT SELECT run_id FROM {runs}"
)
_LOST_TASKS = _on_old_tables(
    "SELECT DISTINCT task_id FROM (SELECT run_id, task_id FROM {task_attempts}"
    " UNION SELECT run_id, task_id FROM {external_runs} EXCEPT SELECT run_id, task_id FROM {tasks})"
)
_LOST_CURRENT = _on_old_tables(
    "SELECT old.task_id FROM {tasks} AS old JOIN main.tasks AS new ON new.task_id = old.task_id"
    " AND new.run_id = old.run_id WHERE old.current_attempt_id != coalesce(new.current_attempt_id, '')"
)


class OldTables:
    """The tables of the state store that `connection` has open. Call every method in the caller's transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._found = {table: columns_of(connection, table) for table in tables_of(connection) & COLUMNS.keys()}

    def unknown_columns(self) -> list[str]:
        """Return the columns that belong to no known version, each prefixed with its table."""
        return [
            f"{table}.{column}" for table, found in self._found.items() for column in sorted(found - {*COLUMNS[table]})
        ]

    def set_aside(self) -> None:
        """Rename the tables, and add the tables and columns that the file's version lacks, empty."""
        # Else SQLite would rewrite views that somebody has added, to read the renamed tables.
        self._connection.execute("PRAGMA legacy_alter_table = ON")
        for table in self._found:
            self._connection.execute(f"ALTER TABLE main.{table} RENAME TO {_PREFIX}{table}")
        self._connection.execute("PRAGMA legacy_alter_table = OFF")
        for table, columns in COLUMNS.items():
            self._complete(table, columns)

    def _complete(self, table: str, columns: tuple[str, ...]) -> None:
        if table not in self._found:
            self._connection.execute(f"CREATE TABLE {_PREFIX}{table} ({', '.join(columns)})")
            return
        for column in columns:
            if column not in self._found[table]:
                self._connection.execute(f"ALTER TABLE {_PREFIX}{table} ADD COLUMN {column}")

    def rows(self, table: str) -> Iterator[dict[str, Any]]:
        """Yield the rows of `ROWS[table]`, reading them lazily."""
        found = self._connection.execute(ROWS[table])
        names = [name for name, *_ in found.description]
        for values in found:
            yield dict(zip(names, values, strict=True))

    def counts(self) -> dict[str, int]:
        """Return the number of rows of each table."""
        return {table: self._scalar(f"SELECT count(*) FROM {_PREFIX}{table}") for table in ROWS}

    def counts_due(self, *, backfill: bool) -> dict[str, int]:
        """Return the number of rows that each view should have: those of the table, and those the migration adds."""
        due = self.counts()
        due["runs"] += self._scalar(f"SELECT count(*) FROM ({_LOST_RUNS})")
        if backfill:
            due["task_attempts"] += self._scalar(f"SELECT count(*) FROM ({ROWS['external_runs']}) WHERE untried")
        return due

    def orphans(self, named_max: int) -> Iterator[tuple[str, int, list[str]]]:
        """Yield dangling references of the rows: the kind of target, how many are missing, and the first names.

        The views must exist.
        """
        for what, statement in (
            ("runs", _LOST_RUNS),
            ("tasks", _LOST_TASKS),
            ("current attempts of tasks", _LOST_CURRENT),
        ):
            first = [name for (name,) in islice(self._connection.execute(statement), named_max)]
            if first:
                yield what, self._scalar(f"SELECT count(*) FROM ({statement})"), first

    def drop(self) -> None:
        """Drop the tables that were set aside."""
        for table in reversed(COLUMNS):
            self._connection.execute(f"DROP TABLE {_PREFIX}{table}")

    def _scalar(self, statement: str) -> int:
        number: int = self._connection.execute(statement).fetchone()[0]
        return number
