"""Cancelled callers: each write is recorded whole or not at all, others are unaffected, and nothing is left over."""

import asyncio
import inspect
import logging
import random
from collections import Counter
from functools import partial
from pathlib import Path

import anyio
import pytest

from engine import Engine, Run, open_engine
from engine.handles.attempt import Attempt
from tests.faults.audit import assert_whole
from tests.faults.cancelling import WAYS, Way, by_cancel, pass_turns
from tests.faults.leaks import assert_no_transaction, nothing_left
from tests.faults.operations import (
    EVENTS_BEFORE,
    GUEST,
    OPERATIONS,
    Operation,
    Target,
    export_of_guest,
    prepared,
    shuffled,
)

LOG = logging.getLogger(__name__)


async def _neighbour(run: Run, done: asyncio.Event) -> int:
    written = 0
    while not done.is_set():
        await run.set_parameters({"n": written})
        written += 1
    return written


class Call:
    """A call on a run of its own; `cancelled` if it was cancelled before its end."""

    def __init__(self, operation: Operation, target: Target) -> None:
        self.cancelled = False
        self.target = target
        self._operation = operation

    async def __call__(self) -> None:
        try:
            await self._operation.call(self.target)
        except asyncio.CancelledError:
            self.cancelled = True
            raise

    def is_recorded(self, events: Counter[str]) -> bool:
        """Assert that the numbers of recorded events are possible; return whether there are any."""
        count, new = events[self.target.run.run_id] - EVENTS_BEFORE - 1, events[self.target.new]
        assert count in self._operation.counts
        assert new in (0, 1, 2)
        return bool(count or new)


async def _cancel_many(engine: Engine, seed: int, cancellations: int) -> list[Call]:
    """Cancel calls in random ways until `cancellations` of them were cancelled; write to each run afterwards."""
    chance = random.Random(seed)
    export = await export_of_guest(engine)
    calls: list[Call] = []
    for operation in shuffled(chance):
        call = Call(operation, await prepared(engine, f"run {len(calls)}", export))
        await chance.choice(WAYS)(call, chance)
        assert (await call.target.run.set_parameters({"after": True})).events
        calls.append(call)
        cancellations -= call.cancelled
        if not cancellations:
            return calls
    raise AssertionError("unreachable: the operations never end")


@pytest.mark.parametrize(
    ("seeds", "cancellations"),
    [pytest.param(1, 70, id="few"), pytest.param(28, 300, id="many", marks=pytest.mark.slow)],
)
async def test_a_cancelled_call_is_recorded_whole_or_not_at_all(tmp_path: Path, seeds: int, cancellations: int) -> None:
    """A call cancelled at any point, in any way, records all its events or none, and the engine goes on for others."""
    recorded = 0
    for seed in range(seeds):
        database = tmp_path / str(seed) / "runs.db"
        async with nothing_left(database.parent), open_engine(database) as engine:
            neighbour, done = await engine.create_run("neighbour"), asyncio.Event()
            writing = asyncio.ensure_future(_neighbour(neighbour, done))
            calls = await _cancel_many(engine, seed, cancellations)
            done.set()
            written = await writing
            assert_no_transaction(database)
            assert (await neighbour.head()).stream_version == written + 1
            assert await engine.verify_views() == []
        assert {path.name for path in database.parent.iterdir()} <= {"runs.db", "runs.db-lock", "runs.db-rebuild-lock"}
        events = assert_whole(database)
        assert events[GUEST] in (0, 4)
        assert not [*tmp_path.glob("anabranch-partial-*")]
        for backup in sorted(tmp_path.glob(f"{seed} *.backup")):
            assert assert_whole(backup) <= events + Counter({GUEST: 4})
        recorded += sum(call.is_recorded(events) and call.cancelled for call in calls)
    LOG.info("%d calls cancelled, of which %d were recorded", seeds * cancellations, recorded)


def test_every_call_is_among_those_that_are_cancelled() -> None:
    """Every public asynchronous method of the engine and its handles is among the operations that are cancelled."""
    methods = [method for face in (Engine, Run, Attempt) for method in inspect.getmembers(face, inspect.isfunction)]
    asynchronous = inspect.iscoroutinefunction, inspect.isasyncgenfunction
    public = {name for name, method in methods if name[0] != "_" and any(is_so(method) for is_so in asynchronous)}
    named = {word for name in OPERATIONS for word in name.split()}
    assert public - named == {"close", "write"}  # `close` has a test of its own, and the others call `write`


async def test_a_run_is_created_with_its_parameters_or_not_at_all(engine: Engine) -> None:
    """A cancelled `create_run` records both of its events or none."""
    chance = random.Random(3)
    for index in range(40):
        await by_cancel(partial(engine.create_run, f"run {index}", parameters={"a": 1}), chance)
    # Writes that were under way when their callers were cancelled are recorded before later ones.
    await engine.create_run("last", parameters={"a": 1})
    created = {recorded.run_id async for recorded in engine.events(types=["RunCreated"])}
    assert {recorded.run_id async for recorded in engine.events(types=["ParametersSet"])} == created


class _Collapse(Exception):
    """Fails a task group."""


async def _collapse(run: Run, name: str, writers: int, chance: random.Random) -> tuple[int, int]:
    """Have many tasks write until one fails; return how many writes were acknowledged and how many recorded."""
    branches = [await run.fork(f"{name}.{index}") for index in range(writers)]
    acknowledged = Counter[str]()

    async def write(index: int) -> None:
        for value in range(1000):
            await branches[index].set_parameters({"a": value, "b": value})
            acknowledged[branches[index].name] += 1

    with pytest.RaisesGroup(_Collapse):
        async with asyncio.TaskGroup() as tasks:
            for index in range(writers):
                tasks.create_task(write(index))
            for value in range(chance.randrange(5)):
                await run.set_parameters({"neighbour": value})
            await pass_turns(chance.randrange(100))
            raise _Collapse
    await run.set_parameters({"after": name})  # writes under way are recorded before this one
    total = 0
    for branch in branches:
        recorded = (await branch.head()).stream_version - 1
        assert recorded - acknowledged[branch.name] in (0, 1)
        assert {name: each.value for name, each in (await branch.parameters(inherited=False)).items()} == (
            {"a": recorded - 1, "b": recorded - 1} if recorded else {}
        )
        total += recorded
    return acknowledged.total(), total


@pytest.mark.parametrize("collapses", [10, pytest.param(100, marks=pytest.mark.slow)])
async def test_a_task_group_that_collapses_leaves_whole_writes(database: Path, collapses: int) -> None:
    """When one task fails, each cancelled neighbour has recorded at most one write more than it was acknowledged."""
    chance, acknowledged, recorded = random.Random(6), 0, 0
    async with nothing_left(database.parent), open_engine(database) as engine:
        run = await engine.create_run("r")
        for index in range(collapses):
            counts = await _collapse(run, f"c{index}", 16, chance)
            acknowledged, recorded = acknowledged + counts[0], recorded + counts[1]
            assert_no_transaction(database)
        assert await engine.verify_views() == []
    assert_whole(database)
    LOG.info("%d writers cancelled, %d writes acknowledged, %d recorded", collapses * 16, acknowledged, recorded)


@pytest.mark.parametrize("times", [8, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("way", WAYS)
async def test_cancelled_opening_leaves_nothing_behind(database: Path, way: Way, times: int) -> None:
    """An opening cancelled at any point is undone, and the file can be opened again."""
    chance = random.Random(4)

    async def opened_for_ever() -> None:
        async with open_engine(database):
            await anyio.sleep_forever()

    async with nothing_left(database.parent):
        for index in range(times):
            if index % 2 == 0:  # every other opening creates the file
                database.unlink(missing_ok=True)
            await way(opened_for_ever, chance)
        async with open_engine(database) as engine:
            await engine.create_run("r")


@pytest.mark.parametrize("times", [8, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("way", WAYS)
async def test_cancelled_closing_still_closes(database: Path, way: Way, times: int) -> None:
    """A cancelled `close` still closes the engine."""
    chance = random.Random(5)
    async with nothing_left(database.parent):
        for index in range(times):
            engine = await open_engine(database)
            run = await engine.create_run(f"r{index}")
            await asyncio.gather(*(run.parameters() for _ in range(4)))
            await way(engine.close, chance)
            await engine.close()


async def test_a_cancelled_block_records_its_attempt_as_cancelled(engine: Engine) -> None:
    """An attempt whose block is cancelled, even twice, is recorded as cancelled."""
    run = await engine.create_run("r")
    for index in range(20):
        begun = asyncio.Event()

        async def block(step: str, begun: asyncio.Event = begun) -> None:
            async with run.attempt(step):
                begun.set()
                await anyio.sleep_forever()

        task = asyncio.create_task(block(f"step {index}"))
        await begun.wait()
        task.cancel()
        await pass_turns(index % 5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert {attempt.status for attempt in await run.attempts()} == {"CANCELLED"}
