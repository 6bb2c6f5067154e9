"""Rows of state tables as comparable values: before a migration, as expected after it, and as found after it."""

import contextlib
import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID, uuid5

from tests.legacy_state_files import TABLES

Values: TypeAlias = dict[str, dict[str, dict[str, Any]]]
"""The column values of each row, by table and by the row's key."""

_KEYS = {"runs": "run_id", "tasks": "task_id", "task_attempts": "attempt_id", "external_runs": "task_id"}
_TIMES = {"created_at", "submitted_at", "ended_at"}
_JSON_EMPTY = {
    "tags": "{}",
    "files": "{}",
    "env": "{}",
    "dependencies": "[]",
    "download_patterns": "null",
    "operator_data": "null",
}
_FLAGS = {"allow_dependency_failure", "allow_failure"}
_BACKFILLED = UUID("6df7afdd-8f9f-4b0c-9a2c-6f2b0c2b2b1a")


def values_of(database: Path) -> Values:
    """Return what the tables of a file hold, old or migrated; no engine may have the file open."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.row_factory = sqlite3.Row
        return {table: _table(connection, table) for table in TABLES}


def _table(connection: sqlite3.Connection, table: str) -> dict[str, dict[str, Any]]:
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (table,)).fetchone():
        return {}
    rows = [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]
    return {row[_KEYS[table]]: {column: _value(column, row[column]) for column in row} for row in rows}


def _value(column: str, value: Any) -> Any:
    if column in _JSON_EMPTY:
        parsed = json.loads(_JSON_EMPTY[column] if value is None else value)
        # Compared as text, a NaN is equal to itself and 1 differs from 1.0.
        return json.dumps(json.loads(_JSON_EMPTY[column]) if parsed is None else parsed, sort_keys=True)
    if column in _TIMES and value is not None:
        moment = datetime.fromisoformat(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return int(value or 0) if column in _FLAGS else value


def expected(before: Values, version: str) -> Values:
    """Return what the views should hold after the migration of a file of that schema version, column by column."""
    after = {table: {key: dict(row) for key, row in rows.items()} for table, rows in before.items()}
    if version == "1":
        _backfill(after)
    for table in TABLES[1:]:
        for row in after[table].values():
            after["runs"].setdefault(row["run_id"], {"run_id": row["run_id"], "status": "UNKNOWN"})
    return after


def _backfill(after: Values) -> None:
    for run in after["external_runs"].values():
        run_id, task_id = run["run_id"], run["task_id"]
        attempt_id = str(uuid5(_BACKFILLED, f"{run_id}:{task_id}"))
        row = {**run, "attempt_id": attempt_id, "attempt_index": 1, "submitted_at": None, "ended_at": None}
        if run_id in after["runs"]:
            row["created_at"] = after["runs"][run_id]["created_at"]
        after["task_attempts"][attempt_id] = row
        task = after["tasks"].get(task_id)
        if task is not None and task["run_id"] == run_id:
            task["current_attempt_id"] = attempt_id


def assert_holds(after: Values, due: Values) -> None:
    """Assert that both have the same rows, and that each row has the expected column values."""
    for table in TABLES:
        assert after[table].keys() == due[table].keys(), table
        for key, row in due[table].items():
            found = {column: after[table][key][column] for column in row}
            assert found == row, (table, key)
