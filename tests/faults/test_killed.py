"""`kill -9` of processes that write, hold the lock or rebuild: nothing acknowledged is lost, and others go on."""

import asyncio
import logging
import random
import signal
import time
from asyncio.subprocess import Process
from pathlib import Path

import pytest

from engine import Engine, open_engine
from tests.every_view import populated
from tests.faults.acknowledged import assert_recorded
from tests.faults.audit import assert_whole
from tests.faults.children import killed, next_line, start_worker
from tests.faults.survivor import Survivor, until_somebody_waits_for

LOG = logging.getLogger(__name__)
_SECONDS_MAX = 20  # not a measurement: a write that takes longer hangs


async def _writers(database: Path, name: str, number: int) -> list[Process]:
    """Start `number` writers, and wait until each has acknowledged a write."""
    names = [f"{name}.{index}" for index in range(number)]
    workers = [await start_worker("write_until_killed", database, name) for name in names]
    for worker in workers:
        assert await next_line(worker)
    return workers


@pytest.mark.parametrize(
    ("rounds", "at_once"), [pytest.param(1, 2, id="2"), pytest.param(100, 4, id="400", marks=pytest.mark.slow)]
)
async def test_what_a_killed_writer_acknowledged_is_there(
    database: Path, engine: Engine, rounds: int, at_once: int
) -> None:
    """Every write that a killed writer acknowledged is recorded, and other writers never stop."""
    chance, acknowledged = random.Random(1), 0
    async with Survivor(await engine.create_run("r")) as survivor:
        for number in range(rounds):
            for worker in await _writers(database, f"round {number}", at_once):
                lines = [await next_line(worker) for _ in range(chance.randrange(40))]
                lines += await killed(worker)
                await assert_recorded(engine, lines)
                acknowledged += len(lines)
    LOG.info(
        "%d writers killed, %d writes acknowledged, %d by another writer, whose longest wait was %.0f ms",
        rounds * at_once,
        acknowledged,
        survivor.written,
        survivor.longest_seconds * 1000,
    )
    assert survivor.written >= rounds
    assert_whole(database)
    assert await engine.verify_views() == []


async def test_a_file_whose_every_writer_was_killed_opens_whole(database: Path) -> None:
    """After `kill -9` of all processes, the next one to open the file finds what they acknowledged."""
    async with open_engine(database) as engine:
        await engine.create_run("r")
    lines = [line for worker in await _writers(database, "w", 2) for line in await killed(worker)]
    async with open_engine(database) as engine:
        await assert_recorded(engine, lines)
        assert await engine.verify_views() == []
    assert_whole(database)


async def _kill_while_somebody_waits(engine: Engine, holder: Process) -> float:
    """Kill the lock's holder while a write waits for it; return the seconds from then until the write is recorded."""
    assert await next_line(holder) == "held"
    run = await engine.run("r")
    waiting = asyncio.create_task(run.set_parameters({"waited": holder.pid}))
    await until_somebody_waits_for(Path(f"{engine.path}-lock"))
    begun = time.perf_counter()
    assert await killed(holder) == []
    assert (await asyncio.wait_for(waiting, _SECONDS_MAX)).events
    return time.perf_counter() - begun


@pytest.mark.parametrize("kills", [1, pytest.param(15, marks=pytest.mark.slow)])
@pytest.mark.parametrize("place", ["apply", "flush", "commit"])
async def test_a_lock_holder_that_is_killed_has_recorded_nothing(
    database: Path, engine: Engine, place: str, kills: int
) -> None:
    """A lock holder killed in its transaction records nothing, and the write that waited for the lock is recorded."""
    run = await engine.create_run("r")
    waits = []
    for index in range(kills):
        holder = await start_worker("stop_in_a_write", database, f"held {index}", place)
        waits.append(await _kill_while_somebody_waits(engine, holder))
        assert (await run.parameters())["waited"].value == holder.pid
        assert (await (await run.branch(f"held {index}")).head()).stream_version == 1
    LOG.info("%d holders killed, the longest wait was %.0f ms", kills, max(waits) * 1000)
    assert_whole(database)
    assert await engine.verify_views() == []


@pytest.mark.parametrize("kills", [1, pytest.param(15, marks=pytest.mark.slow)])
async def test_a_lock_holder_that_is_killed_in_its_commit(
    database: Path, engine: Engine, preloaded: dict[str, str], kills: int
) -> None:
    """A writer killed at a write or a sync of its commit, or of the checkpoint in it, loses nothing acknowledged."""
    run = await engine.create_run("r")
    async with Survivor(run) as survivor:
        for index in range(kills):
            arguments = database, f"w{index}", 5 + 61 * index
            worker = await start_worker("write_until_change", *arguments, environment=preloaded)
            lines = await _killed_by_itself(worker)
            await assert_recorded(engine, lines)
    LOG.info("%d killed in a commit, another writer's longest wait was %.0f ms", kills, survivor.longest_seconds * 1000)
    assert_whole(database)
    assert await engine.verify_views() == []


async def _killed_by_itself(worker: Process) -> list[str]:
    """Wait until the worker has killed itself; return the lines that it printed."""
    output, errors = await worker.communicate()
    assert worker.returncode == -signal.SIGKILL, errors.decode()
    return output.decode().splitlines()


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.slow)])
async def test_a_rebuild_that_is_killed_leaves_the_views_whole(database: Path, engine: Engine, kills: int) -> None:
    """A rebuild killed while it folds leaves the old views in use, and the file that it leaves does no harm."""
    await populated(engine, "r", sets=2000)
    before = await (await engine.run("r")).compile()
    async with Survivor(await engine.create_run("other")) as survivor:
        for kill in range(kills):
            worker = await start_worker("rebuild_until_killed", database)
            for _ in range(kill % 7 + 1):
                assert await next_line(worker)
            await killed(worker)
            assert await (await engine.run("r")).compile() == before
    LOG.info("%d rebuilds killed, another writer's longest wait was %.0f ms", kills, survivor.longest_seconds * 1000)
    await _assert_rebuilt(engine)


@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.slow)])
@pytest.mark.parametrize("place", ["dropped", "replaced"])
async def test_a_rebuild_that_is_killed_in_the_swap_leaves_the_old_views(
    database: Path, engine: Engine, place: str, kills: int
) -> None:
    """A rebuild killed while it swaps the tables, before its commit, leaves the old views and frees the lock."""
    await populated(engine, "r", sets=20)
    waits = []
    for _ in range(kills):
        holder = await start_worker("stop_in_a_rebuild", database, place)
        waits.append(await _kill_while_somebody_waits(engine, holder))
        assert await engine.verify_views() == []
    LOG.info("%d rebuilds killed in the swap, the longest wait was %.0f ms", kills, max(waits) * 1000)
    await _assert_rebuilt(engine)


async def _assert_rebuilt(engine: Engine) -> None:
    """Assert that the views are true, can be rebuilt, and that nothing is then left beside the file."""
    assert await engine.verify_views() == []
    await engine.rebuild()
    assert await engine.verify_views() == []
    assert_whole(engine.path)
    assert not Path(f"{engine.path}-rebuild").exists()
