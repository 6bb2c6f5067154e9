"""Backups that are interrupted at any point, or made while others write, leave a whole copy or no file."""

import asyncio
import contextlib
import functools
import itertools
import logging
import random
import resource
import subprocess
import sys
from asyncio.subprocess import Process
from pathlib import Path

import anyio.lowlevel
import pytest

from engine import Engine, open_engine
from engine.checkpoint import Checkpoint
from engine.errors import BackupFailed
from tests.faults.audit import assert_whole
from tests.faults.children import ForkedChild, next_line, start_worker
from tests.faults.leaks import nothing_left
from tests.integration.backups import left_in, record_store

LOG = logging.getLogger(__name__)
_ROOT = Path(__file__).parents[2]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A free name in an existing folder."""
    (tmp_path / "backups").mkdir()
    return tmp_path / "backups" / "monday.db"


@pytest.mark.parametrize("every", [29, pytest.param(1, marks=pytest.mark.slow)], ids=["a few", "each"])
async def test_a_killed_backup_was_made_or_was_not(preloaded: dict[str, str], every: int) -> None:
    """A backup killed before, or halfway through, any change to the files leaves a whole copy or none; the next backup
    clears away the rest.
    """
    command = [sys.executable, "-m", "tests.faults.backup_kills", str(every)]
    done = await asyncio.to_thread(
        subprocess.run, command, env=preloaded, cwd=_ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    kills, changes = map(int, done.stdout.split())
    LOG.info("killed %d backups, of %d changes each", kills, changes)
    assert kills == -(-changes // every)
    assert changes >= 50


PARTS = "copying", "checking", "verifying", "comparing"


@pytest.mark.parametrize("rounds", [16, pytest.param(500, marks=pytest.mark.slow)], ids=["a few", "many"])
async def test_a_cancelled_backup_was_made_or_was_not(database: Path, target: Path, rounds: int) -> None:
    """A backup cancelled at any await leaves a whole copy or none, and no thread, descriptor or other file."""
    await record_store(database)
    chance = random.Random(7)
    made = 0
    async with nothing_left(target.parent), open_engine(database) as engine:
        for number, part in zip(range(rounds), itertools.cycle(PARTS), strict=False):
            copy, begun = target.with_name(f"{number}.db"), asyncio.Event()
            tell = functools.partial(_tell, part, begun)
            task = asyncio.ensure_future(engine.backup(copy, tell))
            await begun.wait()
            for _ in range(chance.randrange(3000 if part == PARTS[-1] else 40)):
                await anyio.lowlevel.checkpoint()
            task.cancel()
            await asyncio.wait({task})
            made += copy.exists()
            assert task.cancelled() or copy.exists()
    assert left_in(target) == sorted(path.name for path in target.parent.glob("*.db"))
    for copy in target.parent.iterdir():
        assert_whole(copy)
    LOG.info("%d of %d backups were made before they were cancelled", made, rounds)


def _tell(part: str, begun: asyncio.Event, what: str, _done: int, _total: int) -> None:
    if what == part:
        begun.set()


@pytest.mark.parametrize(
    ("stores", "backups"), [(1, 2), pytest.param(5, 5, marks=pytest.mark.slow)], ids=["few", "many"]
)
async def test_a_backup_while_four_processes_write(tmp_path: Path, target: Path, stores: int, backups: int) -> None:
    """A backup made while others write is a prefix of the log that holds everything acknowledged before it began."""
    lines = 0
    for number in range(stores):  # backups of a single, growing store would take ever longer
        lines += await _back_up_while_written(tmp_path / f"store-{number}.db", target, backups)
    LOG.info("%d writes were acknowledged during %d backups", lines, stores * backups)


async def _back_up_while_written(database: Path, target: Path, backups: int) -> int:
    """Make backups while four processes write; return the number of acknowledged writes."""
    async with open_engine(database) as engine:
        await engine.create_run("r")
        writers = [await start_worker("write_until_killed", database, f"w{number}") for number in range(4)]
        reading = [asyncio.create_task(_lines(writer)) for writer in writers]
        before, last = await engine.checkpoint(), 0
        for _ in range(backups):
            acknowledged = await _wait_for_more(engine, last)
            last = await _check_copy(engine, target, before)
            assert last >= acknowledged
            before = await engine.checkpoint()
            for path in target.parent.iterdir():
                path.unlink()
        for writer in writers:
            writer.kill()
        lines = sum(await asyncio.gather(*reading))
        assert (await engine.verify(since=before)).problems == []
        return lines


async def _lines(writer: Process) -> int:
    """Read a writer's acknowledgements until it ends; return their number."""
    count = 0
    while await next_line(writer):
        count += 1
    await writer.wait()
    return count


async def _wait_for_more(engine: Engine, position: int) -> int:
    """Return the position of an event after the given one, once there is one."""
    async with contextlib.aclosing(engine.subscribe(after=position)) as events:
        async for recorded in events:
            return recorded.position
    raise AssertionError("the subscription ended")


async def _check_copy(engine: Engine, target: Path, before: Checkpoint) -> int:
    """Make a backup, check it, and return its last position."""
    made = await engine.backup(target)
    async with open_engine(target) as copy:
        assert (await copy.verify(since=before)).problems == []
    assert sum(assert_whole(target).values()) == made.position == made.events
    return made.position


async def _backed_up_in_little_room(database: Path, target: Path, bytes_max: int) -> str:
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_max, bytes_max))
    async with open_engine(database) as engine:
        try:
            await engine.backup(target)
        except BackupFailed:
            await (await engine.run("r0")).parameters()
            return "failed"
    return "made"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere, exceeding the limit ends the process")
async def test_a_file_that_may_not_grow_so_far(database: Path, target: Path) -> None:
    """A backup that exceeds the file size limit raises BackupFailed, leaves no file and does not disturb reads."""
    await record_store(database)
    size = database.stat().st_size
    for bytes_max, outcome in ((size // 2, "failed"), (size - 1, "failed"), (size * 2, "made")):
        child = ForkedChild(lambda limit=bytes_max: _backed_up_in_little_room(database, target, limit))  # type: ignore[misc]
        assert await child.outcome() == outcome
        assert left_in(target) == (["monday.db"] if outcome == "made" else [])
