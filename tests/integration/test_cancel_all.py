"""Cancelling every task but one's own, as graceful shutdowns do, and as `asyncio.run` does at its end."""

import asyncio
from pathlib import Path

import pytest

from engine import Engine, Run, open_engine
from tests.faults.leaks import nothing_left


def _all_others() -> list["asyncio.Task[object]"]:
    return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def _cancel_others() -> None:
    others = _all_others()
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _working(run: Run, step: str, all_begun: asyncio.Barrier) -> None:
    async with run.attempt(step):
        await all_begun.wait()
        await run.set_parameters({step: 1})
        await asyncio.Event().wait()


async def _at_work(run: Run, workers: int, turns: int) -> None:
    """Have tasks be somewhere in their blocks: `turns` of the event loop after all have begun to write at once."""
    all_begun = asyncio.Barrier(workers + 1)
    tasks = [asyncio.create_task(_working(run, f"s{index}", all_begun)) for index in range(workers)]
    await all_begun.wait()
    for _ in range(turns):
        await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)


@pytest.mark.parametrize("turns", range(8))
async def test_every_attempt_ends_and_whoever_was_not_cancelled_goes_on(engine: Engine, turns: int) -> None:
    """At whatever point of a commit: blocks end as cancelled, and the canceller's own write is recorded."""
    run = await engine.create_run("r")
    await _at_work(run, 5, turns)
    others = _all_others()
    for task in others:
        task.cancel()
    await run.set_status("CANCELLED")
    await asyncio.gather(*others, return_exceptions=True)
    assert (await run.info()).status == "CANCELLED"
    assert [attempt.status for attempt in await run.attempts()] == ["CANCELLED"] * 5


@pytest.mark.parametrize("turns", range(8))
def test_what_ends_with_its_event_loop_is_ended_in_the_file(database: Path, turns: int) -> None:
    """Nobody waits for the blocks: the end of the loop cancels them, and that is recorded."""

    async def left_at_work() -> Engine:
        engine = await open_engine(database)
        await _at_work(await engine.create_run("r"), 5, turns)
        return engine

    async def statuses() -> list[str]:
        async with open_engine(database) as engine:
            return [attempt.status for attempt in await (await engine.run("r")).attempts()]

    with asyncio.Runner() as runner:
        engine = runner.run(left_at_work())
        runner.run(_cancel_others())
        runner.run(engine.close())
    assert asyncio.run(statuses()) == ["CANCELLED"] * 5


@pytest.mark.parametrize("turns", range(1, 12))
async def test_a_close_is_done_to_the_end(database: Path, turns: int) -> None:
    """No thread, file or lock is left by a close that is cancelled with everything else; a second one returns."""
    async with nothing_left(database.parent):
        engine = await open_engine(database)
        await (await engine.create_run("r")).parameters()
        closing = asyncio.create_task(engine.close())
        for _ in range(turns):
            await asyncio.sleep(0)
        await _cancel_others()
        assert closing.done()
    await engine.close()
