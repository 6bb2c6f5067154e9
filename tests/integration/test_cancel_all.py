"""Cancelling all tasks but the current one, as graceful shutdowns do, and as `asyncio.run` does at its end."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import pytest
import structlog.testing

from engine import Engine, Run, cancellation, open_engine
from engine.errors import EngineClosed, VersionConflict
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
    """Start workers that write inside their attempts, and give them `turns` turns of the event loop."""
    all_begun = asyncio.Barrier(workers + 1)
    tasks = [asyncio.create_task(_working(run, f"s{index}", all_begun)) for index in range(workers)]
    await all_begun.wait()
    for _ in range(turns):
        await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)


@pytest.mark.parametrize("turns", range(8))
async def test_every_attempt_ends_and_whoever_was_not_cancelled_goes_on(engine: Engine, turns: int) -> None:
    """At whatever point of a commit they are cancelled, all attempts end as CANCELLED.

    The canceller's own write is recorded.
    """
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
    """Attempts that are cancelled because their event loop ends are recorded as CANCELLED."""

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
    """A close that is cancelled at any point still completes and leaves no thread, file or lock."""
    async with nothing_left(database.parent):
        engine = await open_engine(database)
        await (await engine.create_run("r")).parameters()
        closing = asyncio.create_task(engine.close())
        for _ in range(turns):
            await asyncio.sleep(0)
        await _cancel_others()
        assert closing.done()
    await engine.close()


Leave: TypeAlias = Callable[[Run], Awaitable[object]]


async def _statuses(database: Path) -> list[str]:
    async with open_engine(database) as engine:
        return [attempt.status for attempt in await (await engine.run("r")).attempts()]


async def _at_work_until(run: Run, step: str, begun: asyncio.Barrier, leave: Leave) -> None:
    async with run.attempt(step):
        try:
            await begun.wait()
            await asyncio.Event().wait()
        finally:
            await leave(run)


async def _owning(database: Path, begun: asyncio.Barrier, leave: Leave) -> None:
    """Open an engine, and run attempts on it in tasks outside any task group."""
    async with open_engine(database) as engine:
        run = await engine.create_run("r")
        workers = [asyncio.create_task(_at_work_until(run, f"s{index}", begun, leave)) for index in range(3)]
        await begun.wait()
        await asyncio.wait(workers)


@pytest.mark.parametrize("owner_first", [True, False])
async def test_who_is_cancelled_with_the_owner_of_the_engine_ends_its_attempt(
    database: Path, *, owner_first: bool
) -> None:
    """An engine whose owner is cancelled closes only after the other cancelled tasks have ended their attempts.

    The order in which the tasks are cancelled does not matter.
    """
    begun = asyncio.Barrier(5)
    owner = asyncio.create_task(_owning(database, begun, Run.parameters))  # leaving the block needs a read
    await begun.wait()
    tasks = sorted(_all_others(), key=lambda task: (task is owner) is not owner_first)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await _statuses(database) == ["CANCELLED"] * 3


async def test_an_owner_that_is_cancelled_once_more_waits_no_longer(database: Path) -> None:
    """An owner cancelled a second time closes at once; each end that is then not recorded is logged as a warning."""
    begun, leaving, may_end = asyncio.Barrier(5), asyncio.Barrier(4), asyncio.Event()

    async def leave(_: Run) -> None:
        await leaving.wait()
        await may_end.wait()

    owner = asyncio.create_task(_owning(database, begun, leave))
    await begun.wait()
    workers = [task for task in _all_others() if task is not owner]
    for task in (owner, *workers):
        task.cancel()
    await leaving.wait()
    owner.cancel()
    with pytest.raises(asyncio.CancelledError):
        await owner
    may_end.set()
    with structlog.testing.capture_logs() as logged:
        await asyncio.gather(*workers, return_exceptions=True)
    assert await _statuses(database) == ["RUNNING"] * 3
    assert [entry["error"].split(":")[0] for entry in logged] == ["EngineClosed"] * 3


async def test_a_block_that_ends_well_behind_the_close_is_warned_of(database: Path) -> None:
    """An attempt block that succeeds after the close raises EngineClosed, and a warning names attempt and status."""
    engine = await open_engine(database)
    run = await engine.create_run("r")
    with structlog.testing.capture_logs() as logged, pytest.raises(EngineClosed):
        async with run.attempt("s") as attempt:
            await engine.close()
    (entry,) = [entry for entry in logged if entry["event"] == "the end of an attempt is not recorded"]
    assert (entry["attempt_id"], entry["status"]) == (attempt.attempt_id, "COMPLETED")


async def test_a_task_that_goes_on_as_if_it_had_not_been_cancelled_holds_up_no_close(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The close waits only a limited time for a task that ignores its cancellation."""
    monkeypatch.setattr(cancellation, "LEAVING_SECONDS_MAX", 0.001)
    going_on, may_end = asyncio.Event(), asyncio.Event()

    async def stubborn(run: Run) -> None:
        async with run.attempt("s"):
            with contextlib.suppress(asyncio.CancelledError):
                going_on.set()
                await asyncio.Event().wait()
            await may_end.wait()

    async with open_engine(database) as engine:
        worker = asyncio.create_task(stubborn(await engine.create_run("r")))
        await going_on.wait()
        worker.cancel()
    may_end.set()
    with pytest.raises(EngineClosed):
        await worker
    assert await _statuses(database) == ["RUNNING"]


async def test_a_block_that_nobody_leaves_holds_up_no_close(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The close does not wait for a task that is not being cancelled; its attempt stays RUNNING."""
    monkeypatch.setattr(cancellation, "LEAVING_SECONDS_MAX", 3600)
    begun = asyncio.Barrier(2)
    async with asyncio.timeout(60), open_engine(database) as engine:
        worker = asyncio.create_task(_working(await engine.create_run("r"), "s", begun))
        await begun.wait()
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    assert await _statuses(database) == ["RUNNING"]


async def test_an_attempt_that_did_not_start_holds_up_no_close(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The close does not wait for a cancelled task whose attempt was refused, as it has no end to record."""
    monkeypatch.setattr(cancellation, "LEAVING_SECONDS_MAX", 3600)
    refused, may_end = asyncio.Event(), asyncio.Event()

    async def stubborn(run: Run) -> None:
        with pytest.raises(VersionConflict):
            async with run.attempt("s", expected_version=100):
                pass
        with contextlib.suppress(asyncio.CancelledError):
            refused.set()
            await asyncio.Event().wait()
        await may_end.wait()

    async with asyncio.timeout(60), open_engine(database) as engine:
        worker = asyncio.create_task(stubborn(await engine.create_run("r")))
        await refused.wait()
        worker.cancel()
    may_end.set()
    await worker
