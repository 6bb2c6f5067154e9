"""Removals interrupted at any point: the store is as before or as after, and the removal can be repeated."""

import asyncio
import logging
import random
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from engine import Engine, open_engine
from engine.model import COMPLETED
from tests.faults.children import ForkedChild
from tests.faults.leaks import nothing_left
from tests.faults.removal_kills import REMOVALS

LOG = logging.getLogger(__name__)
_ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("every", [17, pytest.param(1, marks=pytest.mark.slow)], ids=["a few", "each"])
@pytest.mark.parametrize("removal", REMOVALS)
async def test_a_killed_removal_was_done_or_was_not(preloaded: dict[str, str], removal: str, every: int) -> None:
    """A removal killed before, or halfway through, any change to the files is done whole or not at all."""
    command = [sys.executable, "-m", "tests.faults.removal_kills", removal, str(every)]
    done = await asyncio.to_thread(
        subprocess.run, command, env=preloaded, cwd=_ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    kills, changes = map(int, done.stdout.split())
    LOG.info("killed %d times at %s, of %d changes each", kills, removal, changes)
    assert kills == -(-changes // every)
    assert changes >= 10


async def _two_runs(engine: Engine, index: int) -> tuple[str, str]:
    """Create a run with a value, and an ended run forked from it."""
    source, fork = f"source {index}", f"fork {index}"
    await engine.create_run(source, parameters={"x": "secret"}, status="RUNNING")
    await engine.fork_run(source, run_id=fork, status=COMPLETED)
    return source, fork


@pytest.mark.parametrize("removal", ["erase", "delete", "collect", "compact"])
async def test_a_cancelled_removal_was_done_or_was_not(database: Path, removal: str) -> None:
    """A removal cancelled at any await leaves chains and views whole and nothing open, and the engine goes on."""
    chance = random.Random(7)
    async with nothing_left(database.parent), open_engine(database) as engine:
        for index in range(30):
            source, _ = await _two_runs(engine, index)
            calls: dict[str, Any] = {
                "erase": lambda source=source: engine.erase(source, None, 2, "why"),
                "delete": lambda source=source: engine.delete_run(source, "why", carry_over=True),
                "collect": lambda: engine.collect(timedelta(0)),
                "compact": engine.compact,
            }
            task = asyncio.ensure_future(calls[removal]())
            for _ in range(chance.randrange(60)):
                await anyio.lowlevel.checkpoint()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await engine.create_run(f"after {index}")
        assert (await engine.verify()).problems == []
        assert await engine.verify_views() == []


async def _write(database: Path, count: int) -> int:
    async with open_engine(database) as engine:
        run = await engine.create_run("written", exist_ok=True)
        for number in range(count):
            await run.set_parameters({"n": number})
        return (await run.head()).stream_version


@pytest.mark.parametrize("count", [40, pytest.param(2000, marks=pytest.mark.slow)], ids=["few", "many"])
async def test_other_processes_write_and_read_while_the_file_is_written_anew(database: Path, count: int) -> None:
    """While one process compacts the file, another one loses no write, and reads return every run."""
    async with open_engine(database) as engine:
        for index in range(40):
            await _two_runs(engine, index)
    child = ForkedChild(lambda: _write(database, count))
    async with open_engine(database) as engine:
        writing = asyncio.create_task(child.outcome())
        rounds = 0
        while not writing.done() or rounds < 3:
            compaction, info = await asyncio.gather(engine.compact(), engine.runs())
            assert compaction.bytes_after <= compaction.bytes_before
            assert len(info) >= 80
            rounds += 1
        assert await writing == str(count + 1)
        assert (await engine.verify()).problems == []
        assert await engine.verify_views() == []
