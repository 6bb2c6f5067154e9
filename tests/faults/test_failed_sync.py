"""After a failed sync nothing is acknowledged or written; the next opening makes everything durable or says why not."""

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
    """After a failed sync, the store is opened again, and what is acknowledged then survives a power cut.

    The pages of the failed sync never reach the disk by themselves. The log is then written over itself: a cut may
    leave any of its blocks old and any new, but none as neither.
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
    """Opening a store after a failed sync removes the mark if the store is whole, and it can be written to."""
    mark = await _in_doubt(database)
    async with open_engine(database) as engine:
        await (await engine.run("r")).set_parameters({"x": 2})
    assert not mark.exists()


async def test_a_store_that_is_not_whole_is_only_read(database: Path) -> None:
    """After a failed sync, a damaged history can be read; writes raise SyncFailed, and the mark stays."""
    mark = await _in_doubt(database)
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE events SET recorded_at = 0")
    async with open_engine(database) as engine:
        run = await engine.run("r")
        with pytest.raises(SyncFailed, match="its history is damaged"):
            await run.set_parameters({"x": 2})
        assert (await run.parameters())["x"].value == 1
    assert mark.exists()


async def test_views_that_are_not_true_are_made_anew(database: Path) -> None:
    """Opening a store after a failed sync rebuilds views that differ from the events."""
    await _in_doubt(database)
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE runs SET status = 'BROKEN'")
    async with open_engine(database) as engine:
        assert (await (await engine.run("r")).info()).status == "CREATED"
        await engine.create_run("s")


async def test_a_disk_that_still_refuses(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the sync still fails, the store is not opened, because closing it would copy what may be torn."""
    mark = await _in_doubt(database)
    with monkeypatch.context() as patched:
        patched.setattr(sync_failures, "sync_folder", _refuses)
        with pytest.raises(CannotOpen, match="failed before, and failed again: Input/output error") as refused:
            await open_engine(database)
    assert refused.value.path == database
    assert mark.exists()
    async with open_engine(database) as engine:
        await engine.create_run("s")


async def test_a_folder_that_cannot_be_synced(engine: Engine, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write whose folder cannot be synced raises OutcomeUnknown, and the next SyncFailed. SQLite ignores that
    failure, although a power cut could then lose the write-ahead log's name.
    """
    monkeypatch.setattr(sync_failures, "sync_folder", _refuses)
    with pytest.raises(OutcomeUnknown, match="folder cannot be synced"):
        await engine.create_run("r")
    with pytest.raises(SyncFailed, match="folder cannot be synced"):
        await engine.create_run("s")
    assert SyncFailureMark(database).is_set()


def _refuses(folder: Path) -> None:
    raise OSError(5, "Input/output error", str(folder))
