"""Verification while another process writes, cancelled at any point, and in little memory."""

import asyncio
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, open_engine
from engine.commands import Record
from engine.events import ParametersSet
from engine.logs import sqlite_audit
from engine.logs.readers import Readers
from engine.model import Parameter
from tests.faults.leaks import nothing_left
from tests.tampered import found, record_three_runs

_WRITING = """
import asyncio, sys
from engine import open_engine

async def write():
    async with open_engine(sys.argv[1], durability="relaxed") as engine:
        for number in range(40):
            run = await engine.create_run(f"w{number}", parameters={"x": 0})
            children = [await run.fork(name) for name in "abc"]
            await asyncio.gather(*(child.set_parameters({"x": 1}) for child in children))
            await run.reduce(default="sum")
            await run.finalize()
            await (await engine.fork_run(f"w{number}", run_id=f"f{number}", branch="a", at=1)).set_status("RUNNING")

asyncio.run(write())
"""


async def test_another_process_writes_meanwhile(
    engine: Engine, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another process writes, verification raises no false alarm, and what a checkpoint saw stays proven."""
    monkeypatch.setattr(sqlite_audit, "CHUNK_EVENTS", 3)
    checkpoint = await engine.checkpoint()
    writing = subprocess.Popen([sys.executable, "-c", _WRITING, str(database)])  # noqa: ASYNC220 - does not wait
    try:
        while writing.poll() is None:
            assert found(await engine.verify(since=checkpoint)) == []
            checkpoint = await engine.checkpoint()
    finally:
        writing.kill()
    assert writing.wait() == 0
    verification = await engine.verify(since=checkpoint)
    assert (verification.problems, verification.runs, verification.streams) == ([], 80, 200)


class CancellingReaders:
    """Readers that cancel the task at the n-th job, which still runs to its end."""

    def __init__(self, readers: Readers, jobs: int) -> None:
        self.readers = readers
        self.jobs = jobs

    async def run(self, job: Callable[..., Any]) -> Any:
        self.jobs -= 1
        if self.jobs == 0:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        return await self.readers.run(job)


async def test_cancelled_at_any_job(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A verification cancelled at any job leaves nothing behind, and the next one is whole."""
    monkeypatch.setattr(sqlite_audit, "CHUNK_EVENTS", 3)
    async with nothing_left(database.parent), open_engine(database) as engine:
        await record_three_runs(engine)
        audit: Any = engine._audit
        readers = audit._readers
        cancelled = 0
        while True:
            audit._readers = CancellingReaders(readers, cancelled + 1)
            verifying = asyncio.create_task(engine.verify())
            await asyncio.wait({verifying})
            if not verifying.cancelled():
                break
            cancelled += 1
        assert found(verifying.result()) == []
        assert cancelled > 7


class DeletingReaders:
    """Readers that delete a run after the n-th job, carrying over what forks read through it."""

    def __init__(self, engine: Engine, readers: Readers, run_id: str, jobs: int) -> None:
        self.engine = engine
        self.readers = readers
        self.run_id = run_id
        self.jobs = jobs

    async def run(self, job: Callable[..., Any]) -> Any:
        answer = await self.readers.run(job)
        self.jobs -= 1
        if self.jobs == 0:
            await self.engine.delete_run(self.run_id, "expired", carry_over=True)
        return answer


async def _reduce_below_two_sources(engine: Engine) -> None:
    """Reduce twice in `f`, which sees an `x` of `s0` through `s`; in the second, both sides have changed `x`."""
    await engine.create_run("s0", parameters={"x": 1})
    await engine.fork_run("s0", run_id="s")
    run = await engine.fork_run("s", run_id="f")
    child = await run.fork("a")
    await child.set_parameters({"y": 1})
    await run.reduce()
    await run.set_parameters({"x": 3})
    await child.set_parameters({"x": 2})
    assert [conflict.name for conflict in (await run.reduce()).conflicts] == ["x"]


@pytest.mark.parametrize("gone", ["s0", "s"])
async def test_a_source_is_deleted_after_any_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: str) -> None:
    """A source deleted between any two jobs of a verification causes no false alarm, although its values are gone."""
    monkeypatch.setattr(sqlite_audit, "CHUNK_EVENTS", 1)
    deleted = 1
    while True:
        async with open_engine(tmp_path / f"{deleted}.db", durability="relaxed") as engine:
            await _reduce_below_two_sources(engine)
            audit: Any = engine._audit
            audit._readers = readers = DeletingReaders(engine, audit._readers, gone, deleted)
            assert found(await engine.verify()) == []
            if readers.jobs > 0:
                break
            deleted += 1
    assert deleted > 16


async def _peak_bytes(engine: Engine) -> int:
    tracemalloc.start()
    try:
        assert (await engine.verify()).problems == []
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def _set(engine: Engine, events: int) -> None:
    branch = await (await engine.create_run("r")).fork("a")
    for first in range(0, events, 500):
        written = [
            ParametersSet(branch="a", values={"x": Parameter(first + each), "text": Parameter("t" * 200)})
            for each in range(500)
        ]
        await branch.write(Record(branch="a", events=tuple(written)))


@pytest.mark.slow
async def test_memory_is_bounded(engine: Engine) -> None:
    """Verification keeps of an event little more than where its values stand: 50,000 of 250 bytes take under 4 MiB."""
    await _set(engine, 50_000)
    assert await _peak_bytes(engine) < 4 * 2**20


async def test_one_event_is_held_at_a_time(engine: Engine) -> None:
    """Verification holds one large event at a time: forty of half a megabyte are verified in 4 MiB."""
    run = await engine.create_run("r")
    for _ in range(40):
        await run.set_parameters({"x": "t" * 500_000})
    assert await _peak_bytes(engine) < 4 * 2**20
