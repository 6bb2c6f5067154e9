"""The state views as an SQL tool sees them: tables with the old names and columns, in the log's file."""

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine import Engine, open_engine
from engine.stores import SQLiteStateStore, StateStore

COLUMNS = {
    "runs": "run_id workspace_slug root_path created_at status status_reason tags description",
    "tasks": (
        "task_id run_id image command files env dependencies cores memory_gb gpus time_limit_minutes"
        " allow_dependency_failure allow_failure download_patterns status task_type operator_key current_attempt_id"
    ),
    "task_attempts": (
        "attempt_id task_id run_id attempt_index status operator_key operator_type external_id operator_data"
        " relative_path created_at submitted_at ended_at status_reason"
    ),
    "external_runs": "task_id run_id operator_type external_id status operator_data relative_path",
    "schema_info": "key value",
}
TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}")


@contextmanager
def reading(database: Path) -> Iterator[sqlite3.Connection]:
    """Open a plain SQLite connection, as a program without the engine does."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.row_factory = sqlite3.Row
        yield connection


def rows(database: Path, table: str) -> list[dict[str, Any]]:
    with reading(database) as connection:
        return [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2")]


async def fill(engine: Engine) -> str:
    """Record a run with two tasks, an attempt at each and an external run; return the id of the failed attempt."""
    store = StateStore(engine)
    created_at = datetime(2026, 3, 1, 12, 30, 15, 250, tzinfo=UTC)
    run = SimpleNamespace(run_id="r", workspace_slug="lab", root_path=Path("/data/r"))
    await store.create_run(run, {"created_at": created_at, "tags": {"b": 1, "a": "ü"}, "description": "first"})
    await store.set_run_status("r", "RUNNING", "go")
    task = {
        "image": "python",
        "command": "run",
        "files": {"in": "text"},
        "env": {"A": "1"},
        "dependencies": {"z", "y"},
        "cores": 4,
        "memory_gb": 2,
        "allow_failure": True,
        "download_patterns": {"include": ["*.csv"]},
        "task_type": "GateTask",
        "operator_key": "hpc",
    }
    await store.add_workflow({"tasks": {"a": task, "b": {"image": ""}}}, "r")
    attempt_id = await store.create_attempt("r", "a", "HPC", "hpc", operator_data={"x": [None]}, relative_path="r/a")
    await store.update_attempt(attempt_id, status="FAILED", external_id="7", status_reason="no space")
    await store.create_attempt("r", "b")
    external_run = {"task_id": "a", "operator_type": "HPC", "external_id": "7", "status": "RUNNING"}
    await store.register_external_run(external_run | {"operator_data": {"n": 1.5}, "relative_path": Path("p")}, "r")
    return attempt_id


@pytest.mark.parametrize("table", COLUMNS)
async def test_the_old_columns_come_first_and_in_order(database: Path, engine: Engine, table: str) -> None:
    """Each view is a table whose first columns are the old ones, in their order."""
    old = COLUMNS[table].split()
    with reading(database) as connection:
        found = [column["name"] for column in connection.execute(f"PRAGMA table_info({table})")]
        kind = connection.execute("SELECT type FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0]
    assert found[: len(old)] == old
    assert kind == "table"


async def test_the_schema_says_its_version(database: Path, engine: Engine) -> None:
    """`schema_info` says that the schema has version 4."""
    assert rows(database, "schema_info") == [{"key": "version", "value": "4"}]


async def test_a_run_is_a_row(database: Path, engine: Engine) -> None:
    """A row of `runs` has its time as UTC text and its tags as JSON text in key order."""
    await fill(engine)
    (row,) = rows(database, "runs")
    assert [row[name] for name in COLUMNS["runs"].split()] == [
        "r",
        "lab",
        "/data/r",
        "2026-03-01 12:30:15.000250",
        "RUNNING",
        "go",
        '{"a":"ü","b":1}',
        "first",
    ]


async def test_a_task_is_a_row(database: Path, engine: Engine) -> None:
    """A row of `tasks` has documents as JSON text, flags as 0 or 1, and NULL for what was not given."""
    attempt_id = await fill(engine)
    row, other = rows(database, "tasks")
    found = {name: row[name] for name in COLUMNS["tasks"].split()}
    assert found == {
        "task_id": "a",
        "run_id": "r",
        "image": "python",
        "command": "run",
        "files": '{"in":"text"}',
        "env": '{"A":"1"}',
        "dependencies": '["y","z"]',
        "cores": 4,
        "memory_gb": 2.0,
        "gpus": None,
        "time_limit_minutes": None,
        "allow_dependency_failure": 0,
        "allow_failure": 1,
        "download_patterns": '{"include":["*.csv"]}',
        "status": "PENDING",
        "task_type": "GateTask",
        "operator_key": "hpc",
        "current_attempt_id": attempt_id,
    }
    assert (other["files"], other["dependencies"], other["cores"], other["operator_key"]) == ("{}", "[]", None, None)


async def test_an_attempt_is_a_row(database: Path, engine: Engine) -> None:
    """A row of `task_attempts` joins its task by `current_attempt_id`, and has its times as text of one width."""
    attempt_id = await fill(engine)
    with reading(database) as connection:
        row = connection.execute(
            "SELECT task_attempts.* FROM tasks JOIN task_attempts ON attempt_id = current_attempt_id"
            " WHERE tasks.task_id = 'a'"
        ).fetchone()
    times = [row[name] for name in ("created_at", "submitted_at", "ended_at")]
    assert all(TIME.fullmatch(text) for text in times)
    assert times == sorted(times)
    found = {name: row[name] for name in COLUMNS["task_attempts"].split() if not name.endswith("_at")}
    assert found == {
        "attempt_id": attempt_id,
        "task_id": "a",
        "run_id": "r",
        "attempt_index": 1,
        "status": "FAILED",
        "operator_key": "hpc",
        "operator_type": "HPC",
        "external_id": "7",
        "operator_data": '{"x":[null]}',
        "relative_path": "r/a",
        "status_reason": "no space",
    }


async def test_what_has_not_happened_is_null(database: Path, engine: Engine) -> None:
    """An attempt that was not submitted has NULL for its times, external id and reason, and empty operator data."""
    await fill(engine)
    row = next(row for row in rows(database, "task_attempts") if row["task_id"] == "b")
    assert [row[name] for name in ("submitted_at", "ended_at", "external_id", "status_reason")] == [None] * 4
    assert json.loads(row["operator_data"]) == {}


async def test_an_external_run_is_a_row(database: Path, engine: Engine) -> None:
    """A row of `external_runs` has its path as text and its data as JSON text."""
    await fill(engine)
    (row,) = rows(database, "external_runs")
    found = [row[name] for name in COLUMNS["external_runs"].split()]
    assert found == ["a", "r", "HPC", "7", "RUNNING", '{"n":1.5}', "p"]


@pytest.mark.parametrize(("table", "column"), [("runs", "created_at"), ("task_attempts", "submitted_at")])
async def test_sqlite_reads_the_times(database: Path, engine: Engine, table: str, column: str) -> None:
    """SQLite's time functions and Python's `fromisoformat` read a time as the same moment."""
    await fill(engine)
    with reading(database) as connection:
        text, seconds = connection.execute(
            f"SELECT {column}, strftime('%s', {column}) FROM {table} WHERE {column} IS NOT NULL"
        ).fetchone()
    assert int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) == int(seconds)


async def test_sqlite_reads_the_json(database: Path, engine: Engine) -> None:
    """SQLite's JSON functions read the JSON columns."""
    await fill(engine)
    with reading(database) as connection:
        tag, dependencies = connection.execute(
            "SELECT json_extract(tags, '$.a'), json_array_length(dependencies) FROM runs JOIN tasks USING (run_id)"
            " WHERE task_id = 'a'"
        ).fetchone()
    assert (tag, dependencies) == ("ü", 2)


CHANGES = {
    "a changed row": "UPDATE tasks SET status = 'COMPLETED' WHERE task_id = 'a'",
    "a lost row": "DELETE FROM task_attempts WHERE task_id = 'b'",
    "a new row": "INSERT INTO external_runs VALUES ('b', 'r', 'HPC', NULL, 'RUNNING', NULL, NULL, 1)",
    "a time": "UPDATE runs SET created_at = '2026-03-01 12:30:15.000251'",
    "another version": "UPDATE schema_info SET value = '3'",
}


@pytest.mark.parametrize("change", CHANGES)
async def test_what_is_written_from_outside_is_found_and_undone(database: Path, engine: Engine, change: str) -> None:
    """`verify_views` detects a raw write to a view, and a rebuild undoes it."""
    await fill(engine)
    before = {table: rows(database, table) for table in COLUMNS}
    with reading(database) as connection:
        connection.execute(CHANGES[change])
    assert await engine.verify_views() != []
    await engine.rebuild()
    assert await engine.verify_views() == []
    assert {table: rows(database, table) for table in COLUMNS} == before


async def test_the_tables_are_made_anew_from_the_log_alone(database: Path) -> None:
    """After every table of the state views is dropped, opening and a rebuild restore all rows."""
    async with open_engine(database) as engine:
        await fill(engine)
    before = {table: rows(database, table) for table in COLUMNS}
    with reading(database) as connection:
        for table in COLUMNS:
            connection.execute(f"DROP TABLE {table}")
    async with open_engine(database) as engine:
        await engine.rebuild()
    assert {table: rows(database, table) for table in COLUMNS} == before


def test_a_reader_sees_what_a_call_has_written(database: Path) -> None:
    """When a call of the blocking twin returns, every connection sees its rows."""
    with SQLiteStateStore(database) as store:
        store.create_run({"run_id": "r"})
        for status in ("RUNNING", "FAILED"):
            store.set_run_status("r", status)
            assert [row["status"] for row in rows(database, "runs")] == [status]


async def test_sql_sees_a_parameter_through_its_forks(engine: Engine, database: Path) -> None:
    """`resolved_parameters` has one row per parameter that a branch sees, with the value of `Branch.parameters`."""
    run = await engine.create_run("r", parameters={"x": 1, "y": 1, "z": 1})
    await run.set_parameters({"z": 2})
    child = await run.fork("a")
    await run.set_parameters({"x": 3, "late": 3})
    await (await run.fork("sibling")).set_parameters({"y": 4})
    await child.set_parameters({"y": 4})
    await child.set_parameters({"y": 5})
    below = await child.fork("below")
    await child.set_parameters({"y": 6})
    for branch in (run, child, below):
        seen = {name: each.value for name, each in (await branch.parameters()).items()}
        with reading(database) as connection:
            found = connection.execute(
                "SELECT name, json(value) FROM resolved_parameters WHERE run_id = 'r' AND branch = ?", (branch.name,)
            ).fetchall()
        assert sorted((name, json.loads(value)) for name, value in found) == sorted(seen.items())
    with reading(database) as connection:
        origins = connection.execute(
            "SELECT name, source_branch, source_version FROM resolved_parameters WHERE branch = 'a.below' ORDER BY name"
        ).fetchall()
    assert [tuple(each) for each in origins] == [("x", "", 2), ("y", "a", 3), ("z", "", 3)]


async def test_sqlites_own_check_finds_the_file_whole(engine: Engine, database: Path) -> None:
    """`PRAGMA integrity_check` finds no fault in the file, also for a task with unspecified fields."""
    await fill(engine)
    store = StateStore(engine)
    await store.add_workflow(SimpleNamespace(tasks={"bare": SimpleNamespace(image="i", command="c")}), "r")

    with reading(database) as connection:
        assert [tuple(row) for row in connection.execute("PRAGMA integrity_check")] == [("ok",)]
