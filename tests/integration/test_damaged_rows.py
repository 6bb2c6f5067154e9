"""Rows that were never recorded, in a file that SQLite reads without an error."""

import contextlib
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, Position, Run, open_engine
from engine.commands import Configure, MergeParameters
from engine.errors import CannotDecode, NotADatabase, ReadFailed, RowDamaged
from engine.logs.sqlite import SqliteEventLog
from engine.model import AttemptDocument, Parameter, TaskSpec
from engine.stores import StateStore
from tests.integration.refusals import events

Read = Callable[[Engine, Run], Awaitable[Any]]

LATE = f"UPDATE events SET recorded_at = {2**62} WHERE event_type = 'ParametersSet'"

CIRCLE = "UPDATE branches SET parent_stream_id = stream_id WHERE branch <> ''"

ITS_OWN_SOURCE = "UPDATE streams SET parent_id = stream_id, parent_version = version WHERE branch = ''"

CASES: list[tuple[str, Read]] = [
    (LATE, lambda e, r: events(e)),
    (LATE, lambda e, r: r.lineage("a")),
    (LATE, lambda e, r: r.compile(at=Position(3))),
    (LATE.replace("ParametersSet", "StepLogged"), lambda e, r: r.steps(at=3)),
    (LATE, lambda e, r: _exported(e)),
    (LATE, lambda e, r: e.rebuild()),
    (LATE, lambda e, r: e.verify_views()),
    ("UPDATE parameters SET value = '{'", lambda e, r: r.parameters()),
    ("UPDATE parameters SET value = '{'", lambda e, r: r.compile()),
    ("UPDATE parameters SET position = 99", lambda e, r: r.lineage("a")),
    ("UPDATE runs SET created_at = 'yesterday'", lambda e, r: r.info()),
    ("UPDATE runs SET tags = '['", lambda e, r: e.runs()),
    ("UPDATE runs SET config = '" + "[" * 5000 + "'", lambda e, r: r.compile()),
    ("UPDATE task_attempts SET inputs = '[1]'", lambda e, r: r.attempts()),
    ("UPDATE task_attempts SET submitted_at = '2026-13-01'", lambda e, r: r.step("step")),
    ('UPDATE step_logs SET spec = \'{"cores":"x"}\'', lambda e, r: r.steps()),
    ("DELETE FROM branches", lambda e, r: r.compile()),
    ("DELETE FROM branches", lambda e, r: r.parameters()),
    ("DELETE FROM runs", lambda e, r: r.compile()),
    ("UPDATE events SET payload = x'81a162d40501'", lambda e, r: _exported(e)),
    (CIRCLE, lambda e, r: _below(r, "parameters")),
    (CIRCLE, lambda e, r: _below(r, "lineage", "absent")),
    (CIRCLE, lambda e, r: _below(r, "compile")),
    (ITS_OWN_SOURCE, lambda e, r: r.steps()),
    (ITS_OWN_SOURCE, lambda e, r: r.step("absent")),
    (
        f"INSERT INTO deleted_runs VALUES (9, 'x', 9, 9, 9, 1, x'00', 9, {2**62}, 'why', x'')",
        lambda e, r: e.deletions(),
    ),
]


async def _below(run: Run, read: str, *arguments: str) -> None:
    await getattr(await run.branch("below"), read)(*arguments)


async def _exported(engine: Engine) -> list[bytes]:
    return [lines async for lines in engine.export_runs()]


@pytest.fixture
async def run(engine: Engine) -> Run:
    """A run with a parameter, an attempt at a task, and a branch."""
    run = await engine.create_run("r", parameters={"a": 1})
    await run.log_step("step", spec=TaskSpec(cores=1))
    await run.start_attempt("step", inputs={"b": 2})
    await run.fork("below")
    return run


@pytest.mark.parametrize(("damage", "read"), CASES)
async def test_a_read_that_meets_it_is_an_error_with_a_name(
    engine: Engine, run: Run, database: Path, damage: str, read: Read
) -> None:
    """A read that meets a damaged row raises ReadFailed or CannotDecode, not a bare Python error."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute(damage)
        connection.commit()
    with pytest.raises((ReadFailed, CannotDecode)):
        await read(engine, run)


async def test_streams_that_go_in_a_circle_are_read_once(engine: Engine, run: Run, database: Path) -> None:
    """Reading a branch that is recorded as its own parent ends, and yields each event once."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE streams SET parent_id = stream_id WHERE branch = 'below'")
        connection.commit()
    found = [each async for each in engine.events(run_id="r", branch="below", descendants=True)]
    assert [each.branch for each in found] == ["below"]
    assert (await (await run.branch("below")).compile()).branches == {}


async def test_a_deletion_takes_no_event_that_only_the_index_gives_to_the_run(engine: Engine, database: Path) -> None:
    """A deletion is refused when a damaged index assigns another run's events to the run."""
    for run_id in ("one", "other"):
        await engine.create_run(run_id, parameters={"a": 1})
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        # The index is rebuilt under a wrong definition, so that it lists events under another run.
        connection.execute(
            "UPDATE sqlite_schema SET sql = 'CREATE INDEX events_by_run ON events (schema_version)'"
            " WHERE name = 'events_by_run'"
        )
        connection.commit()
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("REINDEX events_by_run")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_schema SET sql = 'CREATE INDEX events_by_run ON events (root_id)'"
            " WHERE name = 'events_by_run'"
        )
        connection.commit()
    async with open_engine(database) as reopened:
        position = await reopened.last_position()
        with pytest.raises(RowDamaged, match="belong to the run"):
            await reopened.delete_run("one", "old")
        assert await reopened.last_position() == position
        assert [run.run_id for run in await reopened.runs()] == ["other", "one"]


async def test_an_index_that_leads_to_another_branch_is_not_believed(database: Path) -> None:
    """A damaged index that leads to another run's stream makes reads raise ReadFailed and writes RowDamaged."""
    async with open_engine(database) as engine:
        for run_id in ("one", "two"):
            await engine.create_run(run_id, parameters={"a": run_id})
    with contextlib.closing(sqlite3.connect(database)) as connection:
        (root,) = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_streams_1'"
        ).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    content = bytearray(database.read_bytes())
    place = content.index(b"two\x02", (root - 1) * size, root * size)
    content[place + 3] = 1  # the row that the index entry points to
    database.write_bytes(content)
    async with open_engine(database) as engine:
        with pytest.raises(ReadFailed, match="the index of the branches leads"):
            await engine.run("two")
        with pytest.raises(RowDamaged, match="the index of the branches leads"):
            await engine.write("two", MergeParameters(values={"b": Parameter(1)}))


async def test_a_run_that_is_said_to_be_anothers_is_not_deleted(database: Path) -> None:
    """A deletion is refused when the run's stream is recorded as another run's."""
    async with open_engine(database) as engine:
        for run_id in ("one", "two"):
            await engine.create_run(run_id)
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE streams SET root_id = 2 WHERE run_id = 'one'")
        connection.commit()
    async with open_engine(database) as engine:
        with pytest.raises(RowDamaged, match="assigned to another run"):
            await engine.delete_run("one", "old")
        assert len([each async for each in engine.events()]) == 2


async def test_what_is_not_what_was_hashed_is_not_erased(engine: Engine, run: Run, database: Path) -> None:
    """`erase` refuses an event whose payload does not match its hash."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        where = "WHERE root_id = 1 AND stream_id = 1 AND stream_version = 2"
        ((payload,),) = connection.execute(f"SELECT payload FROM events {where}").fetchall()
        changed = payload.replace(b"\xa5value\x01", b"\xa5value\x02")
        assert changed != payload
        connection.execute(f"UPDATE events SET payload = ? {where}", (changed,))
        connection.commit()
    with pytest.raises(RowDamaged, match="its content is damaged"):
        await engine.erase("r", None, 2, "a name")


@pytest.mark.parametrize("read_only", [False, True])
async def test_a_schema_whose_tables_begin_on_one_page_is_refused(
    database: Path,
    read_only: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """A file in which two tables start on the same page raises NotADatabase.

    A write to one table would overwrite the other.
    """
    async with open_engine(database):
        pass
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'step_logs')"
            " WHERE name = 'deleted_runs'"
        )
        connection.commit()
    with pytest.raises(NotADatabase, match="begin on the same page"):
        async with open_engine(database, read_only=read_only):
            pass


async def test_bytes_that_are_no_text_are_named(engine: Engine, run: Run, database: Path) -> None:
    """A text column that is not UTF-8 raises ReadFailed with the message of `sqlite3`."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE runs SET description = CAST(x'ff' AS TEXT)")
        connection.commit()
    with pytest.raises(ReadFailed, match="Could not decode to UTF-8 column 'description'"):
        await engine.runs()


async def test_a_read_that_sqlite_has_rolled_back_is_named(engine: Engine) -> None:
    """When SQLite has rolled back a failed read, the error names the cause and not the missing transaction."""

    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("ROLLBACK")
        raise sqlite3.OperationalError("disk I/O error")

    assert isinstance(engine._log, SqliteEventLog)
    with pytest.raises(ReadFailed, match="disk I/O error"):
        await engine._log.readers.run(fail)


WRITES: list[tuple[str, Read]] = [
    ("UPDATE step_logs SET details = '{'", lambda e, r: r.log_step("step", details={"a": 1})),
    ('UPDATE step_logs SET spec = \'{"cores":"x"}\'', lambda e, r: r.log_step("step", details={"a": 1})),
    ("UPDATE task_attempts SET created_at = ''", lambda e, r: r.log_step("step", attempts=[AttemptDocument()])),
    ("UPDATE runs SET config = '['", lambda e, r: e.write("r", Configure(config={"a": "b"}))),
    ("UPDATE parameters SET value = '{'", lambda e, r: r.reduce(["b"])),
    (
        "DELETE FROM branches WHERE branch = ''",
        lambda e, r: e.write("r", MergeParameters(values={"new": Parameter(1)}, unless="resolved")),
    ),
    ("UPDATE parameters SET value = '{'", lambda e, r: e.delete_run("r", "asked to", carry_over=True)),
]


@pytest.mark.parametrize(("damage", "write"), WRITES)
async def test_a_write_that_meets_it_is_refused_by_name(database: Path, damage: str, write: Read) -> None:
    """A write that meets a damaged row raises RowDamaged and records nothing, and other writes succeed."""
    async with open_engine(database) as engine:
        run = await engine.create_run("r", parameters={"a": 1})
        await run.log_step("step", spec=TaskSpec(cores=1))
        await run.start_attempt("step", inputs={"b": 2})
        await (await run.fork("b")).set_parameters({"a": 2, "z": 3})
        await engine.fork_run("r", run_id="forked from it")
        position = await engine.last_position()
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute(damage)
        connection.commit()
    async with open_engine(database) as engine:
        with pytest.raises(RowDamaged, match="nothing was recorded") as refused:
            await write(engine, await engine.run("r"))
        assert refused.value.path == database
        assert refused.value.__cause__ is not None
        assert await engine.last_position() == position
        await engine.create_run("another")


async def test_a_refusal_that_is_kept_keeps_nobody_from_writing(database: Path) -> None:
    """Keeping a RowDamaged error alive blocks no later write.

    A cursor in its frames would hold the writer's snapshot open, so that every write after another's would be refused.
    """
    async with open_engine(database) as engine:
        run = await engine.create_run("r")
        for _ in range(3):
            await run.start_attempt("s", inputs={"p": 1})
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE task_attempts SET inputs = '{' WHERE attempt_index = 1")
        connection.commit()
    async with open_engine(database, busy_timeout=1) as engine, open_engine(database) as other:
        run = await engine.run("r")
        with pytest.raises(RowDamaged) as kept:
            await run.log_step("s", attempts=[AttemptDocument(status="RUNNING")])
        await (await other.run("r")).set_parameters({"other": 1})
        assert (await run.set_parameters({"mine": 1})).events
        assert kept.value.path == database


async def test_reads_after_one_that_failed_see_what_is(engine: Engine, run: Run, database: Path) -> None:
    """Keeping a ReadFailed error alive does not make later reads stale.

    A cursor in its frames would hold the reader's snapshot open.
    """
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE events SET payload = x'c1' WHERE position = 2")
        connection.commit()
    with pytest.raises(ReadFailed) as kept:
        await _exported(engine)
    await run.set_status("RUNNING")
    assert (await run.info()).status == "RUNNING", kept


def _empty_index(database: Path, index: str, column: str) -> None:
    """Empty an index of the tasks table, as a damaged page may."""
    define = "UPDATE sqlite_schema SET sql = ? WHERE name = ?"
    for sql, statement in (
        (f"CREATE INDEX {index} ON tasks ({column}) WHERE {column} IS NULL", f"REINDEX {index}"),
        (f"CREATE INDEX {index} ON tasks ({column})", "SELECT 1"),
    ):
        with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute(define, (sql, index))
            connection.execute("PRAGMA writable_schema = RESET")
            connection.execute(statement)


async def test_an_index_that_does_not_lead_to_its_rows(database: Path) -> None:
    """`verify_views` reports an index that misses its table's rows, and a rebuild repairs it."""
    async with open_engine(database) as engine:
        run = await engine.create_run("r")
        await run.log_step("step", spec=TaskSpec(cores=1))
    _empty_index(database, "tasks_by_id", "task_id")
    async with open_engine(database) as engine:
        assert [each.table for each in await engine.verify_views()] == ["tasks"]
        await engine.rebuild()
        assert await engine.verify_views() == []
        assert await StateStore(engine).get_task_status("step") == "CREATED"
