"""State stores of versions 1 to 4 become logs when they are opened, with the same rows and their original times."""

import asyncio
import contextlib
import json
import logging
import shutil
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid5

import pytest

from engine import Engine, open_engine
from engine.errors import CannotMigrate
from engine.events import AttemptCreated, AttemptUpdated, Event, RunCreated, RunStatusChanged, StepLogged
from engine.model import AttemptChanges
from engine.stores import RunLock
from tests import legacy_state_files as old
from tests.faults.children import finished, start_worker
from tests.legacy_state_rows import Values, assert_holds, expected, values_of

every_version = pytest.mark.parametrize("version", old.VERSIONS)


def _backup(database: Path, version: str) -> Path:
    return database.with_name(f"{database.name}.v{version}-backup")


def _made(database: Path, version: str) -> Values:
    """Make a rich state store; return what its views must hold after the migration."""
    old.make(database, version, old.rich_rows())
    return expected(values_of(database), version)


async def _opened(database: Path) -> None:
    async with open_engine(database) as engine:
        await _assert_sound(engine)


async def _assert_sound(engine: Engine) -> None:
    assert await engine.verify_views() == []
    assert list((await engine.verify()).problems) == []


async def _events(engine: Engine, run_id: str) -> list[Event]:
    return [recorded.event async for recorded in engine.events(run_id=run_id)]


@every_version
async def test_the_views_hold_the_rows_of_the_state_store(database: Path, version: str) -> None:
    """Every row is kept with every column, orphans included, and survives a rebuild from the events alone."""
    due = _made(database, version)
    await _opened(database)
    assert_holds(values_of(database), due)
    async with open_engine(database) as engine:
        await engine.rebuild()
    assert_holds(values_of(database), due)


@every_version
async def test_what_a_version_did_not_have_is_empty(database: Path, version: str) -> None:
    """Columns that the file lacks read as NULL, missing download patterns as JSON's `null`."""
    _made(database, version)
    await _opened(database)
    after = values_of(database)
    tasks, attempts = after["tasks"].values(), after["task_attempts"].values()
    assert ({task["operator_key"] for task in tasks} == {None}) == (version < "4")
    assert ({attempt["operator_key"] for attempt in attempts} == {None}) == (version < "3")
    assert ({task["download_patterns"] for task in tasks} == {"null"}) == (version < "2")


async def test_events_carry_the_original_times(database: Path) -> None:
    """Runs and attempts keep their recorded times, and no time is invented for an attempt."""
    _made(database, "4")
    async with open_engine(database) as engine:
        events = await _events(engine, "ä-run")
        log = await (await engine.run("ä-run")).compile()
    assert [type(event) for event in events[:2]] == [RunCreated, RunStatusChanged]
    assert [event.created_at for event in events if isinstance(event, RunCreated | AttemptCreated)] == [
        datetime(2024, 3, 1, 10, tzinfo=UTC),
        datetime(2024, 3, 1, 10, 5, tzinfo=UTC),
        datetime(2024, 3, 2, 8, tzinfo=UTC),
        datetime(2024, 3, 1, 10, 5, tzinfo=UTC),
    ]
    assert [event.changes for event in events if isinstance(event, AttemptUpdated)] == [
        AttemptChanges(
            status="FAILED",
            status_reason="exit 1",
            submitted_at=datetime(2024, 3, 1, 10, 6, tzinfo=UTC),
            ended_at=datetime(2024, 3, 1, 10, 7, 0, 500000, tzinfo=UTC),
        ),
        AttemptChanges(status="COMPLETED", status_reason=None, submitted_at=None, ended_at=None),
    ]
    assert log.created_at == datetime(2024, 3, 1, 10, tzinfo=UTC)


async def test_the_current_attempt_is_the_one_that_was(database: Path) -> None:
    """A task keeps a current attempt that is not its last, and the next attempt gets the next number."""
    _made(database, "4")
    async with open_engine(database) as engine:
        run = await engine.run("ä-run")
        step = await run.step("b/prepare")
        assert (step.current_attempt_id, [attempt.attempt_index for attempt in step.attempts]) == ("ä-2", [1, 2, 3])
        async with run.attempt("b/prepare"):
            pass
        assert [attempt.attempt_index for attempt in (await run.step("b/prepare")).attempts] == [1, 2, 3, 4]


async def test_attempts_become_events_in_the_order_they_were_made(database: Path) -> None:
    """Attempts become events in the order of their rows, except that those of one task are in order of index."""
    tasks = [old.task(name, "r", current_attempt_id=None) for name in "ab"]
    order = [("a", 1), ("b", 2), ("a", 2), ("b", 1), ("b", 3), ("a", 3)]
    attempts = [old.attempt(f"{task}{index}", task, "r", attempt_index=index) for task, index in order]
    old.make(database, "4", {"runs": [old.run("r")], "tasks": tasks, "task_attempts": attempts})
    async with open_engine(database) as engine:
        made = [event.attempt_id for event in await _events(engine, "r") if isinstance(event, AttemptCreated)]
    assert made == ["a1", "a2", "b1", "b2", "b3", "a3"]


async def test_version_1_gets_one_attempt_for_each_external_run(database: Path) -> None:
    """Version 1 gets one attempt for each external run, with an id derived from the run and the task."""
    _made(database, "1")
    async with open_engine(database) as engine:
        step = await (await engine.run("ä-run")).step("a-train")
    (attempt,) = step.attempts
    assert attempt.attempt_id == str(uuid5(UUID("6df7afdd-8f9f-4b0c-9a2c-6f2b0c2b2b1a"), "ä-run:a-train"))
    assert step.current_attempt_id == attempt.attempt_id
    assert (attempt.external_id, attempt.status, attempt.ended_at) == ("job-7", "COMPLETED", None)
    assert attempt.created_at == datetime(2024, 3, 1, 10, tzinfo=UTC)


async def test_version_1_gets_none_where_there_are_attempts_already(database: Path) -> None:
    """Version 1 gets no attempt for a task that has attempts from an interrupted upgrade to version 2."""
    rows = {
        "runs": [old.run("r")],
        "tasks": [old.task("t", "r", current_attempt_id="mine")],
        "task_attempts": [old.attempt("mine", "t", "r")],
        "external_runs": [old.external_run("t", "r")],
    }
    old.make(database, "2", rows, "UPDATE schema_info SET value = '1'")
    await _opened(database)
    assert list(values_of(database)["task_attempts"]) == ["mine"]


async def test_orphans_are_steps_without_a_specification(database: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Attempts of a deleted task become a step without a specification; a deleted run is created as UNKNOWN.

    The log names both.
    """
    _made(database, "4")
    with caplog.at_level(logging.WARNING):
        async with open_engine(database) as engine:
            step = await (await engine.run("run-2")).step("deleted-task")
            info = await (await engine.run("gone-run")).info()
    assert (step.spec, step.status, step.current_attempt_id) == (None, "UNKNOWN", "o-2")
    assert info.status == "UNKNOWN"
    assert info.description is not None
    assert "migration" in info.description
    assert "gone-run" in caplog.text
    assert "deleted-too" in caplog.text


async def test_a_current_attempt_that_is_nowhere_is_told_of(database: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A task whose current attempt is not one of its own gets none, and a warning names the task."""
    tasks = [old.task("t", "r", current_attempt_id="lost"), old.task("u", "r", current_attempt_id="t1")]
    rows = {"runs": [old.run("r")], "tasks": tasks, "task_attempts": [old.attempt("t1", "t", "r")]}
    old.make(database, "4", rows)
    with caplog.at_level(logging.WARNING):
        await _opened(database)
    assert [task["current_attempt_id"] for task in values_of(database)["tasks"].values()] == [None, None]
    assert "'t'" in caplog.text
    assert "'u'" in caplog.text


async def test_unknown_columns_are_told_of(database: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A warning names each column that the migration does not know."""
    old.make(database, "4", old.rich_rows(), "ALTER TABLE tasks ADD COLUMN colour TEXT")
    with caplog.at_level(logging.WARNING):
        await _opened(database)
    assert "tasks.colour" in caplog.text


async def test_a_line_of_the_log_says_what_was_done(database: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A log line names the backup and the number of migrated rows."""
    _made(database, "3")
    with caplog.at_level(logging.INFO):
        await _opened(database)
    (line,) = [record.getMessage() for record in caplog.records if "migrated" in record.getMessage()]
    assert str(_backup(database, "3")) in line
    assert "task_attempts=7" in line


@every_version
async def test_the_backup_is_the_state_store(database: Path, version: str) -> None:
    """The backup beside the file equals the old state store, is readable by its owner only, and can be opened."""
    due = _made(database, version)
    original = database.with_name("original.db")
    shutil.copy(database, original)
    await _opened(database)
    backup = _backup(database, version)
    assert backup.stat().st_mode & 0o777 == 0o600
    assert _dump(backup) == _dump(original)
    await _opened(backup)
    assert_holds(values_of(backup), due)


def _dump(database: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return list(connection.iterdump())


async def test_a_file_is_migrated_once(database: Path) -> None:
    """Opening a migrated file again records nothing and makes no backup."""
    _made(database, "4")
    async with open_engine(database) as engine:
        position = await engine.last_position()
    assert not database.with_name(f"{database.name}-wal").exists(), "the close removed the write-ahead log"
    _backup(database, "4").unlink()
    async with open_engine(database) as engine:
        assert await engine.last_position() == position
    assert not _backup(database, "4").exists()


async def test_a_migrated_file_is_written_to_like_any_other(database: Path) -> None:
    """A migrated file accepts writes from the engine that migrated it, and from later ones."""
    _made(database, "2")
    async with open_engine(database) as engine:
        await (await engine.run("run-2")).set_parameters({"a": 1})
        await engine.create_run("new")
    async with open_engine(database) as engine:
        assert (await (await engine.run("run-2")).parameters())["a"].value == 1
        await _assert_sound(engine)


async def test_processes_that_open_a_state_store_at_once_migrate_it_once(database: Path) -> None:
    """Of several processes that open a state store at once, one migrates it, and all of them can write."""
    due = _made(database, "1")
    workers = [await start_worker("create_run", database, f"new-{index}") for index in range(4)]
    assert [await finished(worker) for worker in workers] == [["created"]] * 4
    after = values_of(database)
    for index in range(4):
        del after["runs"][f"new-{index}"]
    assert_holds(after, due)
    await _opened(database)


async def test_engines_of_one_process_may_meet_at_a_state_store(database: Path) -> None:
    """Several engines of one process that open a state store at once migrate it once."""
    due = _made(database, "4")
    async with contextlib.AsyncExitStack() as stack:
        opening = [stack.enter_async_context(open_engine(database)) for _ in range(3)]
        engines = await asyncio.gather(*opening)
        assert len({await engine.last_position() for engine in engines}) == 1
    assert_holds(values_of(database), due)


async def test_a_state_store_in_wal_mode_is_migrated_with_what_is_in_its_log(database: Path) -> None:
    """Rows that are only in the write-ahead log are migrated and backed up."""
    due = _made(database, "4")
    writing = sqlite3.connect(database)
    writing.execute("PRAGMA journal_mode = WAL")
    writing.execute("PRAGMA wal_autocheckpoint = 0")
    writing.execute("UPDATE runs SET status = 'CANCELLED' WHERE run_id = 'empty'")
    writing.commit()
    async with open_engine(database) as engine:
        assert (await (await engine.run("empty")).info()).status == "CANCELLED"
    writing.close()
    due["runs"]["empty"]["status"] = "CANCELLED"
    assert_holds(values_of(database), due)
    assert values_of(_backup(database, "4"))["runs"]["empty"]["status"] == "CANCELLED"


async def test_many_rows_go_through_in_parts(database: Path) -> None:
    """More rows than are kept in memory at once are migrated completely."""
    tasks = [old.task(f"t{index}", "r", current_attempt_id=f"a{index}") for index in range(700)]
    attempts = [old.attempt(f"a{index}", f"t{index}", "r", status="RUNNING") for index in range(700)]
    old.make(database, "4", {"runs": [old.run("r")], "tasks": tasks, "task_attempts": attempts})
    due = expected(values_of(database), "4")
    async with open_engine(database) as engine:
        steps = [event async for event in engine.events(run_id="r", types=[StepLogged])]
    assert len(steps) == 700
    assert_holds(values_of(database), due)


async def test_what_else_is_in_the_file_stays(database: Path) -> None:
    """A foreign table and a foreign view in the file are kept, and the view still reads `runs`."""
    also = (
        "CREATE TABLE notes (text)",
        "INSERT INTO notes VALUES ('mine')",
        "CREATE VIEW ids AS SELECT run_id FROM runs",
    )
    old.make(database, "4", old.rich_rows(), *also)
    async with open_engine(database) as engine:
        await engine.create_run("new")
    with contextlib.closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT text FROM notes").fetchall() == [("mine",)]
        assert ("new",) in connection.execute("SELECT run_id FROM ids").fetchall()


def _tables(database: Path) -> set[str]:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}


@every_version
async def test_a_migrated_file_has_the_tables_of_a_new_one(database: Path, tmp_path: Path, version: str) -> None:
    """Nothing of the old tables is left in the file, neither under their names nor under others."""
    old.make(database, version, old.rich_rows())
    for path in (database, new := tmp_path / "new.db"):
        async with open_engine(path):
            pass
    assert _tables(database) == _tables(new)


async def test_an_empty_state_store_becomes_an_empty_log(database: Path) -> None:
    """An empty state store becomes an empty log that accepts writes."""
    old.make(database, "4", {})
    async with open_engine(database) as engine:
        assert await engine.last_position() == 0
        await engine.create_run("r")


async def test_an_upgrade_that_was_broken_off_is_finished(database: Path) -> None:
    """An attempt that an interrupted upgrade created becomes the task's current attempt."""
    backfilled = str(uuid5(UUID("6df7afdd-8f9f-4b0c-9a2c-6f2b0c2b2b1a"), "r:t"))
    rows = {
        "runs": [old.run("r")],
        "tasks": [old.task("t", "r", current_attempt_id=None)],
        "task_attempts": [old.attempt(backfilled, "t", "r")],
        "external_runs": [old.external_run("t", "r")],
    }
    old.make(database, "2", rows, "UPDATE schema_info SET value = '1'")
    async with open_engine(database) as engine:
        assert (await (await engine.run("r")).step("t")).current_attempt_id == backfilled


async def test_a_task_without_a_current_attempt_stays_without(database: Path) -> None:
    """A task of version 2 that has no current attempt has none afterwards, even if an upgrade made its only attempt."""
    backfilled = str(uuid5(UUID("6df7afdd-8f9f-4b0c-9a2c-6f2b0c2b2b1a"), "r:t"))
    rows = {
        "runs": [old.run("r")],
        "tasks": [old.task("t", "r", current_attempt_id=None)],
        "task_attempts": [old.attempt(backfilled, "t", "r")],
    }
    old.make(database, "2", rows)
    async with open_engine(database) as engine:
        step = await (await engine.run("r")).step("t")
    assert (step.current_attempt_id, [attempt.attempt_id for attempt in step.attempts]) == (None, [backfilled])


async def test_rows_of_any_size_are_taken(database: Path) -> None:
    """Migrated rows may exceed the event limit, which applies to new events only."""
    files = {"input.dat": "x" * 2_000_000}
    tasks = [old.task("t", "r", files=json.dumps(files), memory_gb=16)]
    old.make(database, "4", {"runs": [old.run("r")], "tasks": tasks})
    async with open_engine(database) as engine:
        spec = (await (await engine.run("r")).step("t")).spec
    assert spec is not None
    assert spec.files == files
    assert repr(spec.memory_gb) == "16"


async def test_a_store_that_is_at_work_is_left_alone(database: Path) -> None:
    """A state store whose run lock is held raises CannotMigrate and stays unchanged."""
    old.make(database, "4", {"runs": [old.run("r")]})
    before = database.read_bytes()
    with RunLock(database.parent), pytest.raises(CannotMigrate, match="a running orchestrator holds"):
        await _opened(database)
    assert database.read_bytes() == before
    await _opened(database)


def test_a_command_says_that_it_migrated(database: Path) -> None:
    """A command that migrates a state store says so on standard error, with the name of the backup."""
    old.make(database, "3", {"runs": [old.run("r")]})
    command = [sys.executable, "-c", "from engine.cli import main; main()", "runs", "--db", str(database)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "state store migrated" in ran.stderr
    assert f"{database.name}.v3-backup" in ran.stderr
