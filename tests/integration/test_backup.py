"""`engine.backup`: either a complete, checked copy takes the target name, or nothing does."""

import asyncio
import contextlib
import errno
import os
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, open_engine
from engine.blocking import BlockingEngine
from engine.errors import AnabranchError, BackupExists, BackupFailed, DiskFull, EngineClosed
from engine.events import RecordedEvent
from engine.logs import sqlite_backup
from engine.logs.file_system import sync_folder
from tests.faults.leaks import nothing_left
from tests.integration.backups import EVENTS, RUNS, left_in


async def _events(engine: Engine) -> list[RecordedEvent]:
    return [each async for each in engine.events()]


async def test_a_copy_is_the_store_as_it_stood(original: Engine, target: Path) -> None:
    """A backup is one file, readable by its owner only, that opens by itself and holds the same events.

    An earlier checkpoint of the original holds for it, and it accepts new writes.
    """
    checkpoint = await original.checkpoint()
    async with nothing_left(target.parent):
        made = await original.backup(target)

    assert left_in(target) == ["monday.db"]
    assert target.stat().st_mode & 0o777 == 0o600
    assert (made.path, made.bytes) == (target, target.stat().st_size)
    assert (made.runs, made.events, made.position, made.root) == (RUNS, EVENTS, EVENTS, checkpoint.root)
    async with open_engine(target) as copy:
        assert await _events(copy) == await _events(original)
        assert (await copy.verify(since=checkpoint)).problems == []
        assert await copy.verify_views() == []
        await (await copy.run("r0")).set_parameters({"restored": True})


async def test_what_is_written_after_the_copy_is_not_in_it(original: Engine, target: Path) -> None:
    """A run created in the original after the backup is not in the copy."""
    made = await original.backup(target)
    await original.create_run("later")
    async with open_engine(target) as copy:
        assert await copy.last_position() == made.position
        assert "later" not in [info.run_id for info in await copy.runs()]


async def test_others_may_write_between_the_steps(
    original: Engine, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copying never starts over, although another connection commits between its steps.

    None of those commits is in the copy.
    """
    steps: list[int] = []
    after_step = sqlite_backup._Copying._after_step

    def write(copying: sqlite_backup._Copying, status: int, remaining: int, pages: int) -> None:
        steps.append(remaining)
        assert len(steps) <= pages, "copying started over"
        with contextlib.closing(sqlite3.connect(original.path, isolation_level=None)) as other:
            other.execute("INSERT INTO store VALUES (?, 'x')", (f"step {len(steps)}",))
        after_step(copying, status, remaining, pages)

    monkeypatch.setattr(sqlite_backup, "_STEP_PAGES", 1)
    monkeypatch.setattr(sqlite_backup._Copying, "_after_step", write)
    await original.backup(target)
    assert len(steps) > 20
    assert steps == sorted(steps, reverse=True)
    with contextlib.closing(sqlite3.connect(target)) as copy:
        assert copy.execute("SELECT count(*) FROM store WHERE key LIKE 'step %'").fetchone() == (0,)


async def test_a_copying_that_is_given_up_on_ends_soon(
    original: Engine, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a backup fails, copying stops at the next step instead of copying the rest of the file."""
    stopped: list[bool] = []
    after_step = sqlite_backup._Copying._after_step
    given_up = threading.Event()

    def wait(copying: sqlite_backup._Copying, status: int, remaining: int, pages: int) -> None:
        given_up.wait()
        stopped.append(copying._stopped)
        after_step(copying, status, remaining, pages)

    def give_up(_what: str, _done: int, _total: int) -> None:
        loop.call_soon(given_up.set)
        raise RuntimeError

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(sqlite_backup, "_STEP_PAGES", 1)
    monkeypatch.setattr(sqlite_backup._Copying, "_after_step", wait)
    with pytest.raises(RuntimeError):
        await original.backup(target, give_up)
    assert stopped == [True]


async def test_the_event_loop_goes_on_while_the_folder_is_looked_at(
    original: Engine, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checks of the target folder run beside the event loop, so a slow disk blocks no other task."""
    loop, looked = asyncio.get_running_loop(), list[bool]()

    def wait(*_: Path) -> None:
        gone_on = threading.Event()
        loop.call_soon_threadsafe(gone_on.set)
        looked.append(gone_on.wait(5))

    monkeypatch.setattr(sqlite_backup, "_check_free", wait)
    monkeypatch.setattr(sqlite_backup, "remove_abandoned", wait)
    await original.backup(target)
    assert looked == [True] * 3


async def test_it_tells_how_far_it_is(original: Engine, target: Path) -> None:
    """`backup` reports the progress of each part in order, up to the part's total."""
    told: dict[str, tuple[int, int]] = {}
    await original.backup(target, lambda what, done, total: told.update({what: (done, total)}))
    assert list(told) == ["copying", "checking", "verifying", "comparing"]
    assert all(done == total > 0 for done, total in told.values())


async def test_a_progress_that_raises_ends_the_backup(original: Engine, target: Path) -> None:
    """An error raised by the progress callback ends the backup in any of its parts, propagates, and leaves no file."""
    for part in ("copying", "checking", "verifying", "comparing"):

        def tell(what: str, _done: int, _total: int, part: str = part) -> None:
            if what == part:
                raise RuntimeError(part)

        with pytest.raises(RuntimeError, match=part):
            await original.backup(target, tell)
        assert left_in(target) == []


@pytest.mark.parametrize(("number", "expected"), [(errno.ENOSPC, DiskFull), (errno.EIO, BackupFailed)])
@pytest.mark.parametrize("failing", ["sync_file", "sync_folder"])
async def test_a_copy_that_cannot_be_synced_is_no_backup(
    original: Engine,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
    failing: str,
    number: int,
    expected: type[Any],
) -> None:
    """A backup whose file or folder cannot be synced raises DiskFull or BackupFailed and leaves no file."""

    def fail(_: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(sqlite_backup, failing, fail)
    with pytest.raises(expected) as caught:
        await original.backup(target)
    assert caught.value.path == target
    assert left_in(target) == []


async def test_the_folder_is_synced_after_the_name(
    original: Engine, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is synced after the copy has its name, so that a power cut loses neither the copy nor the name."""
    seen: list[list[str]] = []

    def sync(folder: Path) -> None:
        seen.append([path.name for path in folder.glob("*.db")])
        sync_folder(folder)

    monkeypatch.setattr(sqlite_backup, "sync_folder", sync)
    await original.backup(target)
    assert seen == [["monday.db"]]


async def test_a_closed_engine_makes_no_backup(original: Engine, target: Path) -> None:
    """A backup on a closed engine raises EngineClosed."""
    await original.close()
    with pytest.raises(EngineClosed):
        await original.backup(target)


def test_synchronous_callers_have_it_too(database: Path, target: Path) -> None:
    """A synchronous caller makes a backup through `BlockingEngine.call`."""
    with BlockingEngine(database) as engine:
        engine.call(lambda each: each.create_run("r"))
        made = engine.call(lambda each: each.backup(target))
    assert (made.events, left_in(target)) == (1, ["monday.db"])


async def test_of_backups_at_once_to_one_name_one_succeeds(original: Engine, target: Path) -> None:
    """Of three concurrent backups to one target, one succeeds and the others raise BackupExists."""
    answers = await asyncio.gather(*(original.backup(target) for _ in range(3)), return_exceptions=True)
    failed = [each for each in answers if isinstance(each, AnabranchError)]
    assert [type(each) for each in failed] == [BackupExists, BackupExists]
    assert left_in(target) == ["monday.db"]
