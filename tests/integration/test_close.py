"""Closing completes what was begun, ends what waits, and leaves nothing behind."""

import asyncio
import gc
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, Run, open_engine
from engine.errors import EngineClosed, RunExists, VersionConflict
from engine.handles.attempt import Attempt
from tests.faults.children import finished, start_worker
from tests.faults.leaks import nothing_left, open_files
from tests.integration.refusals import events, subscribed

Uses = dict[str, Callable[[Engine, Run, Attempt], Awaitable[Any]]]

USES: Uses = {
    "create_run": lambda e, r, a: e.create_run("new"),
    "fork_run": lambda e, r, a: e.fork_run("r", run_id="new"),
    "run": lambda e, r, a: e.run("r"),
    "runs": lambda e, r, a: e.runs(),
    "events": lambda e, r, a: events(e),
    "subscribe": lambda e, r, a: subscribed(e),
    "last_position": lambda e, r, a: e.last_position(),
    "rebuild": lambda e, r, a: e.rebuild(),
    "verify_views": lambda e, r, a: e.verify_views(),
    "set_parameters": lambda e, r, a: r.set_parameters({"a": 1}),
    "parameters": lambda e, r, a: r.parameters(),
    "sources": lambda e, r, a: r.sources(),
    "fork": lambda e, r, a: r.fork("b"),
    "branch": lambda e, r, a: r.branch(None),
    "children": lambda e, r, a: r.children(),
    "head": lambda e, r, a: r.head(),
    "reduce": lambda e, r, a: r.reduce(),
    "reduce by a function": lambda e, r, a: r.reduce(rules={"a": max}),
    "set_status": lambda e, r, a: r.set_status("X"),
    "describe": lambda e, r, a: r.describe({}),
    "log_step": lambda e, r, a: r.log_step("s"),
    "set_step_status": lambda e, r, a: r.set_step_status("s", "X"),
    "remove_step": lambda e, r, a: r.remove_step("s"),
    "steps": lambda e, r, a: r.steps(),
    "step": lambda e, r, a: r.step("s"),
    "start_attempt": lambda e, r, a: r.start_attempt("s"),
    "attempt": lambda e, r, a: r.attempt("s").__aenter__(),
    "attempts": lambda e, r, a: r.attempts(),
    "compile": lambda e, r, a: r.compile(),
    "find_attempt": lambda e, r, a: r.find_attempt("x"),
    "info": lambda e, r, a: r.info(),
    "configure": lambda e, r, a: r.configure({}),
    "log_job": lambda e, r, a: r.log_job({}),
    "finalize": lambda e, r, a: r.finalize(),
    "all_attempts": lambda e, r, a: r.all_attempts(),
    "update of an attempt": lambda e, r, a: a.update(message="x"),
    "finish of an attempt": lambda e, r, a: a.finish(),
    "log of an attempt": lambda e, r, a: a.log(),
}


@pytest.mark.parametrize("use", USES)
async def test_a_closed_engine_refuses_everything(database: Path, use: str) -> None:
    """After the close, every method of the engine and its handles raises EngineClosed."""
    async with open_engine(database) as engine:
        run = await engine.create_run("r")
        attempt = await run.start_attempt("s")
    with pytest.raises(EngineClosed):
        await USES[use](engine, run, attempt)


async def test_closing_twice_or_at_once_closes_once(database: Path) -> None:
    """Concurrent and repeated closes succeed and leave nothing open."""
    async with nothing_left(database.parent):
        engine = await open_engine(database)
        await engine.create_run("r")
        async with asyncio.TaskGroup() as tasks:
            for _ in range(3):
                tasks.create_task(engine.close())
        await engine.close()


async def test_the_second_of_two_closings_waits_for_the_first(database: Path) -> None:
    """The second of two concurrent closes returns only when every file is closed."""
    engine = await open_engine(database)
    await engine.create_run("r")
    first = asyncio.create_task(engine.close())
    await asyncio.sleep(0)
    await engine.close()
    assert not open_files(database.parent)
    await first


async def test_what_is_queued_when_the_engine_closes_is_recorded(database: Path) -> None:
    """A write queued before the close is recorded, and its caller gets the result."""
    async with nothing_left(database.parent):
        engine = await open_engine(database)
        run = await engine.create_run("r")
        writes = [asyncio.create_task(run.set_parameters({"n": n})) for n in range(100)]
        await asyncio.sleep(0)
        await engine.close()
        assert [(await write).stream_version for write in writes] == list(range(2, 102))
    async with open_engine(database) as engine:
        assert await engine.last_position() == 101


async def test_closing_ends_subscribers_that_wait(database: Path) -> None:
    """The close ends a waiting subscription without an error."""
    async with nothing_left(database.parent):
        engine = await open_engine(database)
        await engine.create_run("r")
        caught_up = asyncio.Barrier(10 + 1)

        async def positions() -> list[int]:
            found = []
            async for recorded in engine.subscribe():
                found.append(recorded.position)
                await caught_up.wait()
            return found

        subscribers = [asyncio.create_task(positions()) for _ in range(10)]
        await caught_up.wait()
        await engine.close()
        assert await asyncio.gather(*subscribers) == [[1]] * 10


async def _positions(engine: Engine) -> list[int]:
    return [recorded.position async for recorded in engine.subscribe()]


@pytest.mark.parametrize("turns", range(3, 60, 3))
async def test_closing_ends_subscribers_that_catch_up(database: Path, turns: int) -> None:
    """The close ends a subscription that is still catching up, without an error or a gap, wherever it stands."""
    engine = await open_engine(database)
    run = await engine.create_run("r")
    await asyncio.gather(*(run.set_parameters({"n": n}) for n in range(30)))
    subscribers = [asyncio.create_task(_positions(engine)) for _ in range(20)]
    for _ in range(turns):
        await asyncio.sleep(0)
    await engine.close()
    for positions in await asyncio.gather(*subscribers):
        assert positions == list(range(1, len(positions) + 1))


async def test_closing_while_reads_run_leaves_nothing(database: Path) -> None:
    """Reads under way at the close are answered or raise EngineClosed, and their connections are closed."""
    for turns in range(0, 40, 4):
        async with nothing_left(database.parent):
            engine = await open_engine(database)
            run = await engine.create_run("r", exist_ok=True)
            reads = [asyncio.create_task(run.parameters()) for _ in range(12)]
            for _ in range(turns):
                await asyncio.sleep(0)
            await engine.close()
            assert not open_files(database.parent)
            answers = await asyncio.gather(*reads, return_exceptions=True)
            assert all(answer == {} or isinstance(answer, EngineClosed) for answer in answers)


async def test_closing_while_the_views_are_rebuilt(database: Path) -> None:
    """A rebuild under way at the close completes or raises EngineClosed, and its scratch file is removed."""
    for turns in range(0, 40, 4):
        async with nothing_left(database.parent):
            engine = await open_engine(database)
            run = await engine.create_run("r", exist_ok=True)
            await run.set_parameters({"n": turns})
            rebuild = asyncio.create_task(engine.rebuild())
            for _ in range(turns):
                await asyncio.sleep(0)
            await engine.close()
            [answer] = await asyncio.gather(rebuild, return_exceptions=True)
            assert isinstance(answer, int | EngineClosed)
    assert not Path(f"{database}-rebuild").exists()


async def test_nothing_is_left_after_errors(database: Path) -> None:
    """An `async with` block that fails closes its engine and leaves nothing open."""
    async with nothing_left(database.parent):
        with pytest.RaisesGroup(RunExists, VersionConflict):
            async with open_engine(database) as engine, asyncio.TaskGroup() as tasks:
                run = await engine.create_run("r")
                tasks.create_task(engine.create_run("r"))
                tasks.create_task(run.set_parameters({"a": 1}, expected_version=9))


async def test_a_subscription_that_is_left_early_leaves_nothing(database: Path) -> None:
    """A subscription abandoned by a `break` leaves nothing open."""
    async with nothing_left(database.parent), open_engine(database) as engine:
        await engine.create_run("r")
        for _ in range(20):
            async for _ in engine.subscribe():
                break
        gc.collect()


async def test_an_engine_that_nobody_closed_does_not_keep_the_process(database: Path) -> None:
    """A process with an unclosed engine exits, and what it recorded is kept."""
    worker = await start_worker("forget_to_close", database)
    await asyncio.wait_for(finished(worker), 30)
    async with open_engine(database) as engine:
        assert (await (await engine.run("unclosed")).parameters())["a"].value == 1


async def test_an_engine_that_is_garbage_says_so(database: Path) -> None:
    """An engine that is garbage-collected without a close issues a ResourceWarning, and its threads end."""

    async def forget() -> None:
        engine = await open_engine(database)
        await (await engine.create_run("r")).parameters()

    async with nothing_left(database.parent):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            await forget()
            gc.collect()
        assert {warning.category for warning in caught} == {ResourceWarning}
