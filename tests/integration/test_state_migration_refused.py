"""State stores that cannot be migrated: the error names the obstacle, and the file stays unchanged."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from engine import open_engine
from engine.errors import CannotMigrate, CannotOpen, FolderNotWritable, ForeignDatabase, StoreBusy, UnknownStateSchema
from tests import legacy_state_files as old
from tests.faults.children import next_line, start_worker
from tests.faults.leaks import nothing_left
from tests.legacy_state_rows import assert_holds, expected, values_of

TABLES = (
    "events",
    "streams",
    "store",
    "idempotency_keys",
    "view_checkpoints",
    "branches",
    "parameters",
    "step_logs",
    "removed_steps",
    "Events",
)

BAD_ROWS = [
    ("runs", old.run("r2", created_at="yesterday"), "r2", "created_at: 'yesterday'"),
    ("runs", old.run("r2", created_at="2024-13-01 00:00:00"), "r2", "created_at"),
    ("runs", old.run("r2", created_at="2024-01-01"), "r2", "created_at"),
    ("runs", old.run("r2", tags="{"), "r2", "tags: '{' is not JSON"),
    ("runs", old.run("r2", tags='["a"]'), "r2", "tags"),
    ("runs", old.run("r2", tags="5"), "r2", "tags"),
    ("runs", old.run("r2", tags="[" * 100_000), "r2", "tags"),
    ("runs", old.run("r2", tags='{"n": 99999999999999999999}'), "r2", "exceeds 64 bits"),
    ("runs", old.run("r2", tags='{"n": "\\ud800"}'), "r2", "surrogate"),
    ("runs", old.run("r2", status=b"\xff"), "r2", "status"),
    ("runs", old.run("r2\u202e"), "r2\\u202e", "unprintable"),
    ("runs", old.run("r" * 513), "rrr", "the limit is 512"),
    ("runs", old.run(""), "''", "is empty"),
    ("tasks", old.task("t2", "r", env='{"A": 1}'), "t2", "Expected `str`, got `int`"),
    ("tasks", old.task("t2", "r", cores="many"), "t2", "cores"),
    ("tasks", old.task("t2", "r", download_patterns='{"include": "*.csv"}'), "t2", "download_patterns"),
    ("tasks", old.task("t2", "r", allow_failure=2), "t2", "allow_failure: 2 is neither 0 nor 1"),
    ("tasks", old.task("t\n2", "r"), "t\\n2", "unprintable"),
    ("tasks", old.task("t2", ""), "t2", "run_id"),
    ("task_attempts", old.attempt("a2", "t", "r", attempt_index="first"), "a2", "attempt_index"),
    ("task_attempts", old.attempt("a2", "t", "r", submitted_at="2024-01-01 25:00:00"), "a2", "submitted_at"),
    ("task_attempts", old.attempt("a2", "t", "r", ended_at="0001-01-01T00:00:00+10:00"), "a2", "ended_at"),
    ("task_attempts", old.attempt("a2", "t", "r", operator_data="[]"), "a2", "operator_data"),
    ("task_attempts", old.attempt("a2", "", "r"), "a2", "task_id"),
    ("external_runs", old.external_run("t2", "r", operator_data=b"{}"), "t2", "operator_data"),
    ("external_runs", old.external_run("t2", "r", external_id=b"7"), "t2", "external_id"),
]


async def _error(database: Path, **options: float) -> CannotOpen:
    with pytest.raises(CannotOpen) as caught:
        async with open_engine(database, **options):  # type: ignore[arg-type]
            pass
    return caught.value


@pytest.mark.parametrize(("table", "row", "row_id", "problem"), BAD_ROWS)
async def test_a_row_that_cannot_be_recorded_is_named(
    database: Path, table: str, row: dict[str, Any], row_id: str, problem: str
) -> None:
    """A row that cannot be recorded raises CannotMigrate with table, row and reason.

    The file stays unchanged, with its backup beside it.
    """
    rows = {"runs": [old.run("r")], "tasks": [old.task("t", "r")], "task_attempts": [], "external_runs": []}
    rows[table].append(row)
    old.make(database, "4", rows)
    before = database.read_bytes()
    async with nothing_left(database.parent):
        error = await _error(database)
    assert isinstance(error, CannotMigrate)
    assert error.path == database
    assert f"table {table}, row" in error.reason
    assert row_id in error.reason
    assert problem in error.reason
    assert database.read_bytes() == before
    assert {path.name for path in database.parent.iterdir()} == {
        database.name,
        f"{database.name}-lock",
        f"{database.name}.v4-backup",
    }


async def test_text_that_is_not_utf_8_is_named(database: Path) -> None:
    """A text that is not UTF-8 raises CannotMigrate with table, row and column."""
    also = "UPDATE runs SET description = CAST(x'c328' AS TEXT) WHERE run_id = 'empty'"
    old.make(database, "4", old.rich_rows(), also)
    before = database.read_bytes()
    error = await _error(database)
    assert isinstance(error, CannotMigrate)
    assert "table runs, row 'empty': description" in error.reason
    assert database.read_bytes() == before


async def test_a_file_that_was_put_right_is_migrated(database: Path) -> None:
    """A refused state store is migrated once its bad row is repaired."""
    old.make(database, "4", old.rich_rows())
    due = expected(values_of(database), "4")
    old.change(database, "UPDATE runs SET tags = '{' WHERE run_id = 'empty'")
    assert isinstance(await _error(database), CannotMigrate)
    old.change(database, "UPDATE runs SET tags = NULL WHERE run_id = 'empty'")
    async with open_engine(database) as engine:
        assert await engine.verify_views() == []
    assert_holds(values_of(database), due)


async def test_rows_of_one_key_are_not_merged_in_silence(database: Path) -> None:
    """Two rows with the same key raise CannotMigrate."""
    old.make(database, "4", {"runs": [old.run("r")]}, "CREATE TABLE copied AS SELECT * FROM tasks", "DROP TABLE tasks")
    old.change(database, "ALTER TABLE copied RENAME TO tasks")
    columns = "task_id, run_id, image, command, status, task_type"
    for _ in range(2):
        old.change(database, f"INSERT INTO tasks ({columns}) VALUES ('t', 'r', '', '', 'x', 'Task')")
    error = await _error(database)
    assert isinstance(error, CannotMigrate)
    assert "tasks" in error.reason


async def test_a_table_that_is_none_is_named(database: Path) -> None:
    """A view with the name of a table raises CannotMigrate."""
    old.make(database, "4", {}, "DROP TABLE tasks", "CREATE VIEW tasks AS SELECT run_id AS task_id, run_id FROM runs")
    before = database.read_bytes()
    assert isinstance(await _error(database), CannotMigrate)
    assert database.read_bytes() == before


@pytest.mark.parametrize("version", ["0", "5", "", "four", None])
async def test_an_unknown_version_is_left_alone(database: Path, version: str | None) -> None:
    """An unknown schema version raises UnknownStateSchema, and the file stays unchanged and without a backup."""
    old.make(database, "4", old.rich_rows())
    old.change(database, "DELETE FROM schema_info")
    if version is not None:
        old.change(database, "INSERT INTO schema_info VALUES ('version', ?)", version)
    before = database.read_bytes()
    async with nothing_left(database.parent):
        error = await _error(database)
    assert isinstance(error, UnknownStateSchema)
    assert error.found == version
    assert database.read_bytes() == before
    assert list(database.parent.glob("*backup*")) == []


@pytest.mark.parametrize("table", TABLES)
async def test_a_table_of_one_of_our_names_makes_it_a_foreign_database(database: Path, table: str) -> None:
    """A foreign table with a name of ours raises ForeignDatabase, and the file stays unchanged."""
    old.make(database, "4", old.rich_rows(), f"CREATE TABLE {table} (theirs)")
    before = database.read_bytes()
    error = await _error(database)
    assert isinstance(error, ForeignDatabase)
    assert table.lower() in error.reason
    assert database.read_bytes() == before


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE runs",
        "DROP TABLE external_runs",
        "ALTER TABLE schema_info RENAME COLUMN value TO val",
        "PRAGMA user_version = 1",
        "PRAGMA application_id = 7",
    ],
)
async def test_what_only_looks_like_a_state_store_is_foreign(database: Path, statement: str) -> None:
    """A file with another program's mark, or without a table of the state store, raises ForeignDatabase."""
    old.make(database, "4", {}, statement)
    before = database.read_bytes()
    assert isinstance(await _error(database), ForeignDatabase)
    assert database.read_bytes() == before


async def test_an_index_of_one_of_our_names_is_named(database: Path) -> None:
    """A foreign index with a name of ours raises CannotMigrate, and the file stays unchanged."""
    old.make(database, "4", old.rich_rows(), "CREATE INDEX tasks_by_id ON runs (status)")
    before = database.read_bytes()
    error = await _error(database)
    assert isinstance(error, CannotMigrate)
    assert "tasks_by_id" in error.reason
    assert database.read_bytes() == before


async def test_a_backup_that_cannot_be_made_stops_the_migration(database: Path) -> None:
    """Without its backup the migration is refused, and neither the file is changed nor a partial backup left."""
    old.make(database, "4", old.rich_rows())
    before = database.read_bytes()
    Path(f"{database}.v4-backup").mkdir()
    async with nothing_left(database.parent):
        assert isinstance(await _error(database), FolderNotWritable)
    assert database.read_bytes() == before
    assert not Path(f"{database}.v4-backup-partial").exists()


async def test_half_a_backup_of_before_is_replaced(database: Path) -> None:
    """A partial backup of a killed process is replaced by a complete one."""
    old.make(database, "4", old.rich_rows())
    Path(f"{database}.v4-backup-partial").write_bytes(b"half")
    async with open_engine(database):
        pass
    assert not Path(f"{database}.v4-backup-partial").exists()
    assert values_of(Path(f"{database}.v4-backup"))["runs"]


@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
async def test_a_program_that_is_writing_is_waited_for(database: Path, statement: str) -> None:
    """A migration waits for another program's write transaction, and raises StoreBusy after the busy timeout."""
    old.make(database, "4", old.rich_rows())
    before = database.read_bytes()
    writing = sqlite3.connect(database, isolation_level=None)
    writing.execute(statement)
    with pytest.raises(StoreBusy):
        await open_engine(database, busy_timeout=0.1)
    writing.close()
    assert database.read_bytes() == before
    async with open_engine(database) as engine:
        assert await engine.verify_views() == []


async def test_a_program_that_is_reading_is_waited_for(database: Path) -> None:
    """A migration waits for another program's read transaction, and raises StoreBusy after the busy timeout."""
    old.make(database, "4", old.rich_rows())
    due = expected(values_of(database), "4")
    before = database.read_bytes()
    reading = sqlite3.connect(database, isolation_level=None)
    reading.execute("BEGIN")
    reading.execute("SELECT * FROM runs").fetchall()
    with pytest.raises(StoreBusy):
        await open_engine(database, busy_timeout=0.1)
    reading.close()
    assert database.read_bytes() == before
    async with open_engine(database) as engine:
        assert await engine.verify_views() == []
    assert_holds(values_of(database), due)


async def test_the_lock_of_another_process_is_waited_for(database: Path) -> None:
    """A migration waits for the write lock, and raises StoreBusy after the busy timeout without a backup."""
    old.make(database, "4", old.rich_rows())
    before = database.read_bytes()
    holder = await start_worker("hold_lock", database)
    assert await next_line(holder) == "held"
    with pytest.raises(StoreBusy):
        await open_engine(database, busy_timeout=0.1)
    await holder.communicate(b"")
    assert database.read_bytes() == before
    assert not Path(f"{database}.v4-backup").exists()
