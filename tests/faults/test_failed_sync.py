"""A sync that fails: nothing is acknowledged, nothing more is written, and the next opening makes everything sure."""

import contextlib
import sqlite3
from pathlib import Path

import pytest

from engine import Engine, open_engine
from engine.errors import CannotOpen, OutcomeUnknown, SyncFailed
from engine.logs import sync_failures
from engine.logs.sync_failures import SyncFailureMark
from tests.faults.disk.changes import Kind
from tests.faults.disk.power import Point, complaints, points, record_story
from tests.faults.disk.simulated import Cut


@pytest.mark.parametrize("story", ["sync fails once", "sync fails for good"])
def test_what_is_acknowledged_afterwards_survives_a_power_cut(recorder: Path, story: str) -> None:
    """The pages of the failed sync never reach the disk by themselves; the process dies, and the store is opened.

    Of the log that is then written over itself a cut may leave any blocks old and any new, and none as neither.
    """
    recorded = record_story(recorder, story, "recover")
    changes = recorded.changes
    (failed, *_) = (number for number, change in enumerate(changes) if change.kind is Kind.SYNC_FAILED)
    assert sum(change.kind is Kind.ACKNOWLEDGED for change in changes[failed:]) > 2
    ends = [Point(len(changes), cut, number) for number, cut in enumerate(Cut)]
    cuts = [each for each in points(len(changes), 75, seed=1) if each.cut is not Cut.TORN]
    assert complaints(recorded, [*cuts, *ends])[:5] == []


async def _in_doubt(database: Path) -> Path:
    """Leave a store as a process does whose last sync failed."""
    async with open_engine(database) as engine:
        await engine.create_run("r", parameters={"x": 1})
    mark = SyncFailureMark(database)
    mark.set()
    return mark.path


async def test_a_store_that_is_found_whole_is_written_to_again(database: Path) -> None:
    """Opening it clears the doubt, for all who open it later."""
    mark = await _in_doubt(database)
    async with open_engine(database) as engine:
        await (await engine.run("r")).set_parameters({"x": 2})
    assert not mark.exists()


async def test_a_store_that_is_not_whole_is_only_read(database: Path) -> None:
    """The error says what is wrong; the mark stays, and what was recorded can be read."""
    mark = await _in_doubt(database)
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE events SET recorded_at = 0")
    async with open_engine(database) as engine:
        run = await engine.run("r")
        with pytest.raises(SyncFailed, match="its history is not whole"):
            await run.set_parameters({"x": 2})
        assert (await run.parameters())["x"].value == 1
    assert mark.exists()


async def test_views_that_are_not_true_are_made_anew(database: Path) -> None:
    """They are compared with the events, which are what counts."""
    await _in_doubt(database)
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE runs SET status = 'BROKEN'")
    async with open_engine(database) as engine:
        assert (await (await engine.run("r")).info()).status == "CREATED"
        await engine.create_run("s")


async def test_a_disk_that_still_refuses(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the store is not opened: closing it would copy what may be torn."""
    mark = await _in_doubt(database)
    with monkeypatch.context() as patched:
        patched.setattr(sync_failures, "sync_folder", _refuses)
        with pytest.raises(CannotOpen, match="failed before, and now: Input/output error"):
            await open_engine(database)
    assert mark.exists()
    async with open_engine(database) as engine:
        await engine.create_run("s")


async def test_a_folder_that_cannot_be_synced(engine: Engine, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write-ahead log's name would be lost by a power cut: SQLite passes over that, the engine does not."""
    monkeypatch.setattr(sync_failures, "sync_folder", _refuses)
    with pytest.raises(OutcomeUnknown, match="folder cannot be synced"):
        await engine.create_run("r")
    with pytest.raises(SyncFailed, match="folder cannot be synced"):
        await engine.create_run("s")
    assert SyncFailureMark(database).is_set()


def _refuses(folder: Path) -> None:
    raise OSError(5, "Input/output error", str(folder))
