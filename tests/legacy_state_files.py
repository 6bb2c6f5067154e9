"""Create state stores of every old schema version in plain SQL, without enforcing constraints."""

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

VERSIONS = ("1", "2", "3", "4")
TABLES = ("runs", "tasks", "task_attempts", "external_runs")

Rows: TypeAlias = dict[str, list[dict[str, Any]]]
"""The rows of each table; each row maps its columns to values."""

_RUNS = """
CREATE TABLE runs (
    run_id VARCHAR NOT NULL, workspace_slug VARCHAR NOT NULL, root_path VARCHAR NOT NULL, created_at DATETIME NOT NULL,
    status VARCHAR NOT NULL, status_reason TEXT, tags JSON, description TEXT, PRIMARY KEY (run_id))
"""
_TASKS = """
CREATE TABLE tasks (
    task_id VARCHAR NOT NULL, run_id VARCHAR NOT NULL, image VARCHAR NOT NULL, command TEXT NOT NULL, files JSON,
    env JSON, dependencies JSON, cores INTEGER, memory_gb INTEGER, gpus INTEGER, time_limit_minutes INTEGER,
    allow_dependency_failure BOOLEAN, allow_failure BOOLEAN, {later} status VARCHAR NOT NULL,
    task_type VARCHAR NOT NULL, PRIMARY KEY (task_id), FOREIGN KEY(run_id) REFERENCES runs (run_id))
"""
_EXTERNAL_RUNS = """
CREATE TABLE external_runs (
    task_id VARCHAR NOT NULL, run_id VARCHAR NOT NULL, operator_type VARCHAR NOT NULL, external_id VARCHAR,
    status VARCHAR NOT NULL, operator_data JSON, relative_path VARCHAR, PRIMARY KEY (task_id),
    FOREIGN KEY(task_id) REFERENCES tasks (task_id), FOREIGN KEY(run_id) REFERENCES runs (run_id))
"""
_ATTEMPTS = """
CREATE TABLE task_attempts (
    attempt_id VARCHAR NOT NULL, task_id VARCHAR NOT NULL, run_id VARCHAR NOT NULL, attempt_index INTEGER NOT NULL,
    status VARCHAR NOT NULL, {later} operator_type VARCHAR, external_id VARCHAR, operator_data JSON,
    relative_path VARCHAR, created_at DATETIME NOT NULL, submitted_at DATETIME, ended_at DATETIME, status_reason TEXT,
    PRIMARY KEY (attempt_id), CONSTRAINT one_of_each_index UNIQUE (task_id, attempt_index),
    FOREIGN KEY(task_id) REFERENCES tasks (task_id), FOREIGN KEY(run_id) REFERENCES runs (run_id))
"""
_TASK_COLUMNS_SINCE = {"1": "", "2": "current_attempt_id VARCHAR, ", "4": "operator_key VARCHAR, "}


def statements(version: str) -> list[str]:
    """Return the SQL statements that create the tables of a schema version."""
    tasks = "".join(columns for since, columns in _TASK_COLUMNS_SINCE.items() if version >= since)
    if version > "1":
        tasks += "download_patterns JSON, "
    made = [
        "CREATE TABLE schema_info (key VARCHAR NOT NULL, value VARCHAR NOT NULL, PRIMARY KEY (key))",
        _RUNS,
        _TASKS.format(later=tasks),
        _EXTERNAL_RUNS,
    ]
    if version > "1":
        made.append(_ATTEMPTS.format(later="operator_key VARCHAR, " if version >= "3" else ""))
    return made


def make(path: Path, version: str, rows: Mapping[str, Iterable[Mapping[str, Any]]], *also: str) -> None:
    """Create a state store of a schema version, leaving out columns that this version lacks.

    `also` is SQL to execute at the end.
    """
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for statement in statements(version):
            connection.execute(statement)
        connection.execute("INSERT INTO schema_info VALUES ('version', ?)", (version,))
        for table, each in rows.items():
            for row in each:
                _insert(connection, table, row)
        for statement in also:
            connection.execute(statement)
        connection.commit()


def _insert(connection: sqlite3.Connection, table: str, row: Mapping[str, Any]) -> None:
    columns = [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})") if name in row]
    if columns:
        marks = ", ".join("?" * len(columns))
        values = [row[column] for column in columns]
        connection.execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", values)


def change(path: Path, statement: str, *values: object) -> None:
    """Execute a statement on a file that no engine has open."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(statement, values)
        connection.commit()


def run(run_id: str, **columns: Any) -> dict[str, Any]:
    """A row of `runs`."""
    return {
        "run_id": run_id,
        "workspace_slug": "lab",
        "root_path": f"/data/{run_id}",
        "created_at": "2024-03-01 10:00:00.000000",
        "status": "RUNNING",
        "status_reason": None,
        "tags": "{}",
        "description": None,
        **columns,
    }


def task(task_id: str, run_id: str, **columns: Any) -> dict[str, Any]:
    """A row of `tasks`."""
    return {
        "task_id": task_id,
        "run_id": run_id,
        "image": "ubuntu:22.04",
        "command": "echo hi",
        "files": "{}",
        "env": "{}",
        "dependencies": "[]",
        "cores": 1,
        "memory_gb": 1,
        "gpus": 0,
        "time_limit_minutes": 60,
        "allow_dependency_failure": 0,
        "allow_failure": 0,
        "download_patterns": None,
        "status": "PENDING",
        "task_type": "Task",
        "operator_key": None,
        "current_attempt_id": None,
        **columns,
    }


def attempt(attempt_id: str, task_id: str, run_id: str, **columns: Any) -> dict[str, Any]:
    """A row of `task_attempts`."""
    return {
        "attempt_id": attempt_id,
        "task_id": task_id,
        "run_id": run_id,
        "attempt_index": 1,
        "status": "CREATED",
        "operator_key": None,
        "operator_type": None,
        "external_id": None,
        "operator_data": None,
        "relative_path": None,
        "created_at": "2024-03-01 10:05:00.000000",
        "submitted_at": None,
        "ended_at": None,
        "status_reason": None,
        **columns,
    }


def external_run(task_id: str, run_id: str, **columns: Any) -> dict[str, Any]:
    """A row of `external_runs`."""
    return {
        "task_id": task_id,
        "run_id": run_id,
        "operator_type": "HPC",
        "external_id": None,
        "status": "RUNNING",
        "operator_data": "{}",
        "relative_path": None,
        **columns,
    }


def rich_rows() -> Rows:
    """Return rows of every kind: Unicode, NULLs, JSON with spaces, several runs, retries, and orphans of each table."""
    return {
        "runs": [
            run("ä-run", status="COMPLETED", status_reason="tout va bien ✓", tags='{"team" : "é", "a": "1"}'),
            run("run-2", created_at="2023-12-31 23:59:59.999999", description="deuxième\nligne", tags=None),
            run("empty", created_at="2020-02-29 00:00:00.000001", status="FAILED", status_reason="", tags="null"),
        ],
        "tasks": [
            task(
                "b/prepare",
                "ä-run",
                files=json.dumps({"in.dat": "naïve ☃", "nested": {"b": [1, 2.5, None, True]}}, indent=1),
                env='{ "PATH" : "/bin" }',
                download_patterns='{"include": ["*.csv"], "exclude": []}',
                status="COMPLETED",
                operator_key="hpc.default",
                current_attempt_id="ä-2",
            ),
            task("a-train", "ä-run", dependencies='["b/prepare"]', download_patterns='["*.out"]', memory_gb=64, gpus=8),
            task("gate", "run-2", task_type="GateTask", allow_failure=1, allow_dependency_failure=1, env=None),
            task("nulls", "run-2", cores=None, memory_gb=None, gpus=None, time_limit_minutes=None, files="null"),
            task("of-a-lost-run", "gone-run", command="", image=""),
        ],
        "task_attempts": [
            attempt(
                "ä-1",
                "b/prepare",
                "ä-run",
                status="FAILED",
                operator_key="local",
                operator_type="Local",
                operator_data='{"pid": 12, "log" : "ü"}',
                relative_path="tasks/b/1",
                submitted_at="2024-03-01 10:06:00",
                ended_at="2024-03-01 10:07:00.500000",
                status_reason="exit 1",
            ),
            attempt("g-1", "gate", "run-2", status="WAITING_EXTERNAL", external_id="42", operator_data="null"),
            attempt(
                "ä-2", "b/prepare", "ä-run", attempt_index=2, status="COMPLETED", created_at="2024-03-02T10:00:00+02:00"
            ),
            attempt("ä-3", "b/prepare", "ä-run", attempt_index=3, operator_data="{}"),
            attempt("o-2", "deleted-task", "run-2", attempt_index=2, status="CANCELLED"),
            attempt("o-1", "deleted-task", "run-2", status="COMPLETED", ended_at="2024-03-01 11:00:00.000000"),
            attempt("gone-1", "deleted-too", "gone-run"),
        ],
        "external_runs": [
            external_run("a-train", "ä-run", external_id="job-7", operator_data='{"q": [ null ]}', status="COMPLETED"),
            external_run("gate", "run-2", operator_type="Human", status="CREATED", operator_data="null"),
            external_run("deleted-long-ago", "run-2", relative_path="x/é", operator_data=None),
            external_run("of-a-lost-run", "gone-run", operator_data='{"n": 1e3}'),
        ],
    }
