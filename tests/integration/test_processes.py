"""Many processes on one file: no call fails and no write is lost."""

import logging
from pathlib import Path

import pytest

from engine import Engine
from engine.events import ParametersSet
from tests.faults.audit import assert_whole
from tests.faults.children import finished, start_worker

LOG = logging.getLogger(__name__)
PROCESSES = 4


@pytest.mark.parametrize(
    ("branches", "operations"),
    [(16, 50), pytest.param(16, 1000, marks=pytest.mark.slow)],
    ids=["3,200 writes", "64,000 writes"],
)
async def test_processes_that_write_at_once_lose_nothing(
    database: Path, engine: Engine, branches: int, operations: int
) -> None:
    """Every write of four processes with many branches is recorded once, in order, in an intact chain."""
    run = await engine.create_run("r")
    workers = [await start_worker("write_branches", database, f"p{n}", branches, operations) for n in range(PROCESSES)]
    seconds = [float(line) for worker in workers for line in await finished(worker)]
    LOG.info("slowest %.2f s, fastest %.2f s", max(seconds), min(seconds))
    assert len(seconds) == PROCESSES, "every process finished"
    recorded = assert_whole(database)["r"]
    assert recorded == 1 + PROCESSES * branches * (1 + operations)
    for name in await run.children():
        assert await _values_written(engine, name) == list(range(operations))
    assert await engine.verify_views() == []


async def _values_written(engine: Engine, branch: str) -> list[object]:
    return [
        recorded.event.values["value"].value
        async for recorded in engine.events(run_id="r", branch=branch)
        if isinstance(recorded.event, ParametersSet)
    ]


async def test_processes_may_open_a_new_file_at_once(database: Path) -> None:
    """Several processes may open a new file at once; one creates the tables and all use them."""
    workers = [await start_worker("create_run", database, f"r{index}") for index in range(PROCESSES)]
    for worker in workers:
        await finished(worker)
    assert assert_whole(database) == {f"r{index}": 1 for index in range(PROCESSES)}


async def test_a_name_that_many_processes_want_goes_to_one(database: Path) -> None:
    """Of several processes that create a run of one id, one succeeds and the others get RunExists."""
    workers = [await start_worker("create_run", database, "r") for _ in range(PROCESSES)]
    answers = [line for worker in workers for line in await finished(worker)]
    assert sorted(answers) == ["RunExists"] * (PROCESSES - 1) + ["created"]
