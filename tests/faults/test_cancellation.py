"""Cancelled callers: each write is recorded whole or not at all, neighbours never notice, and nothing is left over."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import anyio
import anyio.lowlevel
import pytest

from engine import Branch, Engine, Run, open_engine
from engine.model import AttemptDocument
from tests.faults.audit import assert_whole
from tests.faults.leaks import nothing_left

Work: TypeAlias = Callable[[], Awaitable[Any]]


class Operation(NamedTuple):
    """A call to be cancelled, and how many events it may have recorded afterwards: none, or all."""

    call: Callable[[Engine, Run, Branch], Awaitable[Any]]
    counts: Sequence[int] = (0,)


async def _attempt(branch: Branch) -> None:
    async with branch.attempt("step"):
        await anyio.sleep_forever()


async def _subscribe(engine: Engine, run: Run) -> None:
    async for _ in engine.subscribe(run_id=run.run_id):
        pass


async def _events(engine: Engine, run: Run) -> None:
    async for _ in engine.events(run_id=run.run_id):
        pass


_ATTEMPTS = [AttemptDocument(status="FAILED"), AttemptDocument(status="RUNNING")]

OPERATIONS: dict[str, Operation] = {
    "set_parameters": Operation(lambda e, r, b: b.set_parameters({"x": 1}), (0, 1)),
    "fork": Operation(lambda e, r, b: b.fork("inner"), (0, 1)),
    "reduce": Operation(lambda e, r, b: r.reduce(), (0, 1)),
    "reduce_by_function": Operation(lambda e, r, b: r.reduce(rules={"a": max}), (0, 1)),
    "set_status": Operation(lambda e, r, b: b.set_status("RUNNING"), (0, 1)),
    "describe": Operation(lambda e, r, b: b.describe({"a": 1}), (0, 1)),
    "log_step": Operation(lambda e, r, b: b.log_step("step", attempts=_ATTEMPTS), (0, 3)),
    "start_attempt": Operation(lambda e, r, b: b.start_attempt("step"), (0, 3)),
    # 3: cancelled once the start was recorded, and before the caller had the attempt in hand
    "attempt": Operation(lambda e, r, b: _attempt(b), (0, 3, 5)),
    "finalize": Operation(lambda e, r, b: r.finalize("COMPLETED"), (0, 2)),
    "configure": Operation(lambda e, r, b: r.configure({"a": 1}), (0, 1)),
    "create_run": Operation(lambda e, r, b: e.create_run(f"{r.run_id}.new", parameters={"a": 1})),
    "fork_run": Operation(lambda e, r, b: e.fork_run(r.run_id, run_id=f"{r.run_id}.new")),
    "parameters": Operation(lambda e, r, b: b.parameters()),
    "compile": Operation(lambda e, r, b: r.compile()),
    "steps": Operation(lambda e, r, b: b.steps()),
    "runs": Operation(lambda e, r, b: e.runs()),
    "run": Operation(lambda e, r, b: e.run(r.run_id)),
    "events": Operation(lambda e, r, b: _events(e, r)),
    "subscribe": Operation(lambda e, r, b: _subscribe(e, r)),
    "last_position": Operation(lambda e, r, b: e.last_position()),
    "rebuild": Operation(lambda e, r, b: e.rebuild()),
    "verify_views": Operation(lambda e, r, b: e.verify_views()),
}


async def _pass(turns: int) -> None:
    """Let the event loop turn that often: another call gets that far."""
    for _ in range(turns):
        await anyio.lowlevel.checkpoint()


async def _by_cancel(work: Work, chance: random.Random) -> None:
    task = asyncio.ensure_future(_awaited(work))
    await _pass(chance.randrange(120))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _by_cancelling_twice(work: Work, chance: random.Random) -> None:
    task = asyncio.ensure_future(_awaited(work))
    await _pass(chance.randrange(120))
    task.cancel()
    await _pass(chance.randrange(4))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _by_timeout(work: Work, chance: random.Random) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(work(), chance.random() / 1000)


async def _by_scope(work: Work, chance: random.Random) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_awaited, work)
        await _pass(chance.randrange(120))
        tasks.cancel_scope.cancel()


async def _by_collapse(work: Work, chance: random.Random) -> None:
    with pytest.RaisesGroup(ZeroDivisionError):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_awaited(work))
            await _pass(chance.randrange(120))
            raise ZeroDivisionError


async def _awaited(work: Work) -> None:
    await work()


WAYS = (_by_cancel, _by_cancelling_twice, _by_timeout, _by_scope, _by_collapse)


async def _prepared(engine: Engine, run_id: str) -> tuple[Run, Branch]:
    run = await engine.create_run(run_id, parameters={"a": 0})
    children = await asyncio.gather(run.fork("one"), run.fork("two"))
    await asyncio.gather(*(child.set_parameters({"a": 2}) for child in children))
    return run, children[0]


async def _neighbour(run: Run, done: asyncio.Event) -> int:
    written = 0
    while not done.is_set():
        await run.set_parameters({"n": written})
        written += 1
    return written


async def _cancel_many(engine: Engine, database: Path, seed: int, cancellations: int) -> None:
    chance = random.Random(seed)
    names = list(OPERATIONS)
    allowed: dict[str, Sequence[int]] = {}
    for index in range(cancellations):
        operation = OPERATIONS[names[index % len(names)]]
        run, branch = await _prepared(engine, f"run {index}")
        await chance.choice(WAYS)(partial(operation.call, engine, run, branch), chance)
        allowed[run.run_id] = [6 + count for count in operation.counts]
        assert (await run.set_parameters({"after": True})).events
    recorded = await asyncio.to_thread(assert_whole, database)
    for run_id, counts in allowed.items():
        assert recorded[run_id] - 1 in counts
        assert recorded[f"{run_id}.new"] in (0, 1, 2)


@pytest.mark.parametrize(
    ("seed", "cancellations"), [(1, 150), pytest.param(2, 1000, marks=pytest.mark.slow)], ids=["few", "many"]
)
async def test_a_cancelled_call_is_recorded_whole_or_not_at_all(database: Path, seed: int, cancellations: int) -> None:
    """Cancelled at any point, in any way: all of a call's events or none, and the engine goes on for everybody."""
    async with nothing_left(database.parent), open_engine(database) as engine:
        neighbour, done = await engine.create_run("neighbour"), asyncio.Event()
        writing = asyncio.ensure_future(_neighbour(neighbour, done))
        await _cancel_many(engine, database, seed, cancellations)
        done.set()
        written = await writing
        assert (await neighbour.head()).stream_version == written + 1
        assert await engine.verify_views() == []
    assert sorted(path.name for path in database.parent.iterdir()) == [
        "runs.db",
        "runs.db-lock",
        "runs.db-rebuild-lock",
    ]


async def test_a_run_is_created_with_its_parameters_or_not_at_all(engine: Engine) -> None:
    """The two events of `create_run` are one write, whenever its caller is cancelled."""
    chance = random.Random(3)
    for index in range(40):
        await _by_cancel(partial(engine.create_run, f"run {index}", parameters={"a": 1}), chance)
    # What was under way when its caller was cancelled is recorded before what is asked for afterwards.
    await engine.create_run("last", parameters={"a": 1})
    created = {recorded.run_id async for recorded in engine.events(types=["RunCreated"])}
    assert {recorded.run_id async for recorded in engine.events(types=["ParametersSet"])} == created


@pytest.mark.parametrize("way", WAYS)
async def test_cancelled_opening_leaves_nothing_behind(database: Path, way: Callable[..., Awaitable[None]]) -> None:
    """However far the opening came: it is undone, and the file can be opened."""
    chance = random.Random(4)

    async def opened_for_ever() -> None:
        async with open_engine(database):
            await anyio.sleep_forever()

    async with nothing_left(database.parent):
        for _ in range(12):
            await way(opened_for_ever, chance)
        async with open_engine(database) as engine:
            await engine.create_run("r")


@pytest.mark.parametrize("way", WAYS)
async def test_cancelled_closing_still_closes(database: Path, way: Callable[..., Awaitable[None]]) -> None:
    """Closing ends whatever becomes of its caller; only then does the cancellation go on."""
    chance = random.Random(5)
    async with nothing_left(database.parent):
        for index in range(12):
            engine = await open_engine(database)
            run = await engine.create_run(f"r{index}")
            await asyncio.gather(*(run.parameters() for _ in range(4)))
            await way(engine.close, chance)
            await engine.close()


async def test_a_cancelled_block_records_its_attempt_as_cancelled(engine: Engine) -> None:
    """However often the block is cancelled, its attempt does not stay behind as running."""
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
        await _pass(index % 5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert {attempt.status for attempt in await run.attempts()} == {"CANCELLED"}
