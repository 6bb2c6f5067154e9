"""Views are disposable: they are rebuilt and checked beside writers, after tampering and for a new version."""

import asyncio
import contextlib
import logging
import sqlite3
from pathlib import Path

import pytest

from engine import Engine, Run, open_engine
from engine.composition import make_views
from engine.errors import RebuildRunning
from engine.logs.file_lock import FileLock
from engine.logs.sqlite import open_sqlite_log
from engine.logs.sqlite_epoch import note_removal
from engine.logs.sqlite_opening import Settings
from engine.model import TaskSpec
from engine.ports import ViewDifference
from tests.every_view import populated
from tests.faults.audit import assert_whole
from tests.faults.children import finished, start_worker
from tests.faults.leaks import nothing_left, open_files

LOG = logging.getLogger(__name__)


def _sql(database: Path, statement: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(database, isolation_level=None, timeout=30)) as connection:
        return connection.execute(statement).fetchall()


def _leftovers(database: Path) -> list[str]:
    kept = {"", "-wal", "-shm", "-lock", "-rebuild-lock"}
    return [path.name for path in database.parent.iterdir() if path.name.removeprefix(database.name) not in kept]


async def test_rebuilt_views_equal_the_live_ones(database: Path, engine: Engine) -> None:
    """A rebuild folds every event, changes no row and leaves no file behind."""
    run = await populated(engine, "r")
    before = await run.compile()
    assert await engine.rebuild() == await engine.last_position()
    assert await run.compile() == before
    assert await engine.verify_views() == []
    assert _leftovers(database) == []


async def test_an_empty_log_has_empty_views(engine: Engine) -> None:
    """A rebuild of an empty log folds 0 events and reports its progress as (0, 0)."""
    reached: list[tuple[int, int]] = []
    assert await engine.rebuild(lambda *progress: reached.append(progress)) == 0
    assert reached == [(0, 0)]
    assert await engine.verify_views() == []


TAMPERED = {
    "UPDATE parameters SET value = '2' WHERE name = 'a' AND stream_id = 2 AND stream_version = 2": ("parameters", 1, 1),
    "DELETE FROM parameters WHERE name = 'b'": ("parameters", 21, 0),
    "UPDATE branches SET status = 'X' WHERE branch = 'b'": ("branches", 1, 1),
    "UPDATE step_logs SET attempts = 5": ("step_logs", 1, 1),
    "UPDATE runs SET tag = 'x'": ("runs", 1, 1),
    "UPDATE task_attempts SET status_reason = 'x'": ("task_attempts", 1, 1),
    "INSERT INTO external_runs VALUES ('t', 'r', 'x', NULL, 'X', NULL, NULL, 1)": ("external_runs", 0, 1),
    "UPDATE schema_info SET value = '99'": ("schema_info", 1, 1),
    "DROP VIEW resolved_parameters": ("resolved_parameters", 1, 0),
    "CREATE TRIGGER liar AFTER INSERT ON parameters BEGIN UPDATE parameters SET value = '0'; END": ("parameters", 0, 1),
}


@pytest.mark.parametrize("statement", TAMPERED)
async def test_a_row_that_was_tampered_with_is_found_and_put_right(
    database: Path, engine: Engine, statement: str
) -> None:
    """`verify_views` names the altered table and counts its rows; `rebuild` restores them."""
    run = await populated(engine, "r")
    before = await run.compile()
    _sql(database, statement)
    table, missing, unexpected = TAMPERED[statement]
    assert await engine.verify_views() == [ViewDifference(table, missing, unexpected)]
    await engine.rebuild()
    assert await engine.verify_views() == []
    assert await run.compile() == before


async def test_a_comparison_whose_scratch_file_was_taken_away_starts_over(database: Path, engine: Engine) -> None:
    """`verify_views` starts over when its scratch file is removed, and leaves none.

    A compaction may remove the file if it was noted before the comparison began.
    """
    await populated(engine, "r")
    taken: list[Path] = []

    def take(done: int, of: int) -> None:
        if done == of and not taken:
            taken.extend(database.parent.glob("*-compare-*"))
            for scratch in taken:
                scratch.unlink()

    assert await engine.verify_views(take) == []
    assert len(taken) == 1
    assert _leftovers(database) == []


async def test_a_view_of_sql_that_was_defined_anew_is_found_and_put_right(database: Path, engine: Engine) -> None:
    """`verify_views` finds a redefined SQL view, which has no rows of its own; `rebuild` restores it."""
    await populated(engine, "r")
    _sql(database, "DROP VIEW resolved_parameters")
    _sql(database, "CREATE VIEW resolved_parameters AS SELECT 'r' AS run_id, 666 AS value")
    assert await engine.verify_views() == [ViewDifference("resolved_parameters", 1, 1)]
    await engine.rebuild()
    assert await engine.verify_views() == []


async def test_what_is_cached_is_forgotten_after_a_rebuild(database: Path, engine: Engine) -> None:
    """A write after a rebuild is decided on the rebuilt rows, not on cached ones."""
    run = await populated(engine, "r")
    _sql(database, "UPDATE runs SET status = 'X'")
    await engine.rebuild()
    assert not (await run.set_status("COMPLETED")).events


async def test_a_whole_number_is_no_fraction(database: Path, engine: Engine) -> None:
    """`verify_views` tells 4 from 4.0 in a task's memory, although SQLite compares them as equal."""
    await (await engine.create_run("r")).log_step("t", spec=TaskSpec(memory_gb=4))
    _sql(database, "UPDATE tasks SET memory_gb = 4.0")
    assert await engine.verify_views() == [ViewDifference("tasks", 1, 1)]
    await engine.rebuild()
    assert await engine.verify_views() == []


async def test_progress_is_reported_with_rising_positions(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rebuild reports after each chunk the position it has reached and the last position."""
    monkeypatch.setattr("engine.logs.sqlite_scratch.CHUNK_EVENTS", 10)
    monkeypatch.setattr("engine.logs.sqlite_scratch.LOCKED_EVENTS_MAX", 1)
    await populated(engine, "r", sets=100)
    last = await engine.last_position()
    reached: list[tuple[int, int]] = []
    await engine.rebuild(lambda *progress: reached.append(progress))
    assert reached == [(min(position, last), last) for position in range(10, last + 10, 10)]


@pytest.mark.parametrize("upkeep", ["rebuild", "verify_views"])
async def test_nobody_else_may_read_its_files(database: Path, engine: Engine, upkeep: str) -> None:
    """While views are rebuilt or checked, only the owner can read any file beside the database."""
    await populated(engine, "r")
    modes: set[int] = set()

    def look(_position: int, _last: int) -> None:
        modes.update(path.stat().st_mode & 0o777 for path in database.parent.iterdir())

    await getattr(engine, upkeep)(look)
    assert modes == {0o600}


async def test_a_progress_callback_that_raises_ends_the_rebuild(database: Path, engine: Engine) -> None:
    """An error of the progress callback ends the rebuild; the views stay as they were, and a later rebuild runs."""
    await populated(engine, "r")

    def fail(_position: int, _last: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await engine.rebuild(fail)
    assert await engine.verify_views() == []
    assert _leftovers(database) == []
    await engine.rebuild()


async def test_rebuilding_again_and_again_opens_no_more_files(database: Path) -> None:
    """Repeated rebuilds and checks leave no more files open than the first ones."""
    async with nothing_left(database.parent), open_engine(database) as engine:
        await populated(engine, "r")
        await engine.rebuild()
        await engine.verify_views()
        before = open_files(database.parent)
        for _ in range(5):
            await engine.rebuild()
            await engine.verify_views()
        assert open_files(database.parent) == before


async def test_views_are_rebuilt_and_checked_while_others_write(
    database: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rebuilds and checks succeed, with true views, while this process and others write."""
    monkeypatch.setattr("engine.logs.sqlite_scratch.CHUNK_EVENTS", 100)
    monkeypatch.setattr("engine.logs.sqlite_scratch.LOCKED_EVENTS_MAX", 20)
    await engine.create_run("r")
    own = await engine.create_run("own")
    workers = [await start_worker("write_branches", database, f"w{index}", 8, 100) for index in range(2)]
    stop = asyncio.Event()
    writing = asyncio.create_task(_keep_writing(own, stop))
    for _ in range(5):
        await engine.rebuild()
        assert await engine.verify_views() == []
    for worker in workers:
        await finished(worker)
    stop.set()
    await writing
    assert await engine.verify_views() == []
    assert_whole(database)


async def _keep_writing(run: Run, stop: asyncio.Event) -> None:
    value = 0
    while not stop.is_set():
        await run.set_parameters({"value": value})
        value += 1


@pytest.mark.parametrize("upkeep", ["rebuild", "verify_views"])
async def test_it_ends_beside_steady_removals(database: Path, engine: Engine, upkeep: str) -> None:
    """A rebuild or a check that removals make start over again and again comes to an end."""
    await engine.create_run("r", parameters={"x": 1})
    starts: list[int] = []

    def remove(position: int, _last: int) -> None:
        starts.append(position)
        with contextlib.closing(sqlite3.connect(database)) as other:
            note_removal(other)
            other.commit()

    async with asyncio.timeout(30):
        assert await getattr(engine, upkeep)(remove) in (2, [])
    assert len(starts) > 1
    assert await engine.verify_views() == []


async def test_one_rebuild_at_a_time(database: Path, engine: Engine) -> None:
    """A second rebuild at the same time, in this process or another, raises RebuildRunning."""
    await populated(engine, "r")
    answers = await asyncio.gather(engine.rebuild(), engine.rebuild(), return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["RebuildRunning", "int"]
    elsewhere = FileLock(Path(f"{database}-rebuild-lock"))
    assert elsewhere.try_acquire()
    with pytest.raises(RebuildRunning) as caught:
        await engine.rebuild()
    assert caught.value.path == database
    elsewhere.close()
    await engine.rebuild()


async def test_any_number_may_check_at_once(database: Path, engine: Engine) -> None:
    """Several checks may run at once, also beside a rebuild."""
    await populated(engine, "r")
    async with asyncio.TaskGroup() as tasks:
        checks = [tasks.create_task(engine.verify_views()) for _ in range(4)]
        tasks.create_task(engine.rebuild())
    assert [check.result() for check in checks] == [[]] * 4
    assert _leftovers(database) == []


@pytest.mark.parametrize("version", [0, 99])
async def test_views_of_another_version_are_rebuilt_on_opening(database: Path, version: int) -> None:
    """Opening a file whose views have another version rebuilds them."""
    async with open_engine(database) as engine:
        before = await (await populated(engine, "r")).compile()
    _sql(database, f"UPDATE view_checkpoints SET version = {version}")
    _sql(database, "DELETE FROM parameters")
    _sql(database, "ALTER TABLE runs ADD COLUMN once_upon_a_time TEXT")
    async with open_engine(database) as engine:
        assert await (await engine.run("r")).compile() == before
        assert await engine.verify_views() == []
    assert {row[0] for row in _sql(database, "SELECT version FROM view_checkpoints")} != {version}


async def test_many_may_open_a_file_whose_views_are_of_another_version(database: Path) -> None:
    """Several engines may open a file with outdated views at once; all get true views."""
    async with open_engine(database) as engine:
        await populated(engine, "r")
    _sql(database, "UPDATE view_checkpoints SET version = 0")
    async with contextlib.AsyncExitStack() as stack:
        opening = [stack.enter_async_context(open_engine(database)) for _ in range(5)]
        engines = await asyncio.gather(*opening)
        for engine in engines:
            assert await engine.verify_views() == []


async def test_a_view_that_was_never_built_is_built_on_opening(database: Path) -> None:
    """Creating a missing view's tables does not mark it as built: the next opening builds it."""
    async with open_engine(database) as engine:
        await populated(engine, "r")
    for table in ("branches", "parameters", "step_logs", "removed_steps"):
        _sql(database, f"DROP TABLE {table}")
    _sql(database, "DROP VIEW resolved_parameters")
    _sql(database, "DELETE FROM view_checkpoints WHERE view = 'partitions'")
    log, stale = await open_sqlite_log(database, make_views, Settings())
    await log.close()
    assert stale == ["partitions"]
    async with open_engine(database) as engine:
        assert await engine.verify_views() == []


@pytest.mark.slow
async def test_a_rebuild_needs_bounded_memory(database: Path) -> None:
    """A rebuild of 100,000 events of 1 kB adds less than 50 MiB to the process's memory."""
    async with open_engine(database, durability="relaxed") as engine:
        run = await engine.create_run("r")
        branches = [await run.fork(f"b{index}") for index in range(100)]
        for value in range(100):
            sets = (branch.set_parameters({f"p{value % 20}": "x" * 1000}) for branch in branches for _ in range(10))
            await asyncio.gather(*sets)
    [line] = await finished(await start_worker("rebuild_once", database))
    events, before_kib, after_kib = map(int, line.split())
    LOG.info("rebuilt %d events; %d KiB at most before, %d KiB after", events, before_kib, after_kib)
    assert events == 100_101
    assert after_kib - before_kib < 50 * 1024
