"""Calls about thousands of steps or tasks let other tasks of the event loop run in between."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from engine import Engine
from engine.commands import LogStep, LogTask
from engine.model import StepDocument, TaskSpec
from engine.stores import PartitionedRunLogStore, StateStore
from engine.stores.documents import RunLog, StepLog

Call = Callable[[Engine, str, int], Awaitable[object]]

TASKS = [LogTask(task_id=f"s{number}", spec=TaskSpec()) for number in range(3_000)]


async def write(engine: Engine, run_id: str, count: int) -> None:
    await engine.write(run_id, *TASKS[:count])


async def put_run_log(engine: Engine, run_id: str, count: int) -> None:
    steps = {f"s{number}": StepLog(name="s", internal_name=f"s{number}") for number in range(count)}
    await PartitionedRunLogStore(engine).put_run_log(RunLog(run_id=run_id, steps=steps))


async def get_run_log(engine: Engine, run_id: str, count: int) -> None:
    found = await PartitionedRunLogStore(engine).get_run_log_by_id(run_id, True)  # noqa: FBT003 - the hosts' signature
    assert len(found.steps) == count


async def add_workflow(engine: Engine, run_id: str, count: int) -> None:
    tasks = {f"s{number}": {"task_id": f"s{number}"} for number in range(count)}
    await StateStore(engine).add_workflow({"tasks": tasks}, run_id)


async def get_tasks(engine: Engine, run_id: str, count: int) -> None:
    assert len(await StateStore(engine).get_tasks(run_id)) == count


async def find_attempts(engine: Engine, run_id: str, count: int) -> None:
    store = StateStore(engine)
    assert len(await store.get_active_attempts(run_id)) == count
    assert len(await store.find_orphaned_attempts(run_id, 0)) == count


@pytest.mark.parametrize("call", [write, put_run_log, get_run_log, add_workflow, get_tasks, find_attempts])
async def test_no_turn_of_the_event_loop_grows_with_the_number_of_steps(engine: Engine, call: Call) -> None:
    """The longest turn of the event loop, counted in function calls, is the same for 3,000 steps as for 1,000."""
    longest = []
    for count in (1_000, 3_000):
        run_id = f"{count}"
        run = await engine.create_run(run_id)
        if call in (get_run_log, get_tasks, find_attempts):
            await engine.write(run_id, *TASKS[:count])
        if call is find_attempts:
            await asyncio.gather(*(run.start_attempt(each.task_id, status="CREATED") for each in TASKS[:count]))
        longest.append(await longest_turn(lambda: call(engine, run_id, count)))  # noqa: B023 - called at once
    few, many = longest
    assert 0 < many < few * 1.5


async def test_a_large_write_that_waits_for_its_turn_is_still_all_or_nothing(engine: Engine) -> None:
    """A write of thousands of commands that is cancelled between two pieces of its check records nothing."""
    await engine.create_run("r")
    commands = [LogStep(document=StepDocument(step=f"s{number}")) for number in range(2_000)]
    writing = asyncio.create_task(engine.write("r", *commands))
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await (await engine.run("r")).steps() == {}


async def longest_turn(call: Callable[[], Awaitable[object]]) -> int:
    """Return the largest number of functions called on this thread between two turns of another task."""
    longest = called = 0

    def count(_frame: object, event: str, _argument: Any) -> None:
        nonlocal called
        called += event == "call"

    async def take_turns() -> None:
        nonlocal longest, called
        while True:
            longest, called = max(longest, called), 0
            await asyncio.sleep(0)

    other = asyncio.create_task(take_turns())
    await asyncio.sleep(0)
    sys.setprofile(count)
    try:
        await call()
    finally:
        sys.setprofile(None)
        other.cancel()
    return max(longest, called)
