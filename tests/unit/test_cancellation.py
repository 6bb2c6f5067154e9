"""`finish` lets work complete although its caller is cancelled."""

import asyncio

import anyio
import pytest

from engine.cancellation import finish


async def test_the_result_or_the_error_is_the_works() -> None:
    """`finish` returns the work's result or raises its error."""

    async def answer() -> int:
        return 42

    async def fail() -> int:
        raise ZeroDivisionError

    assert await finish(answer()) == 42
    with pytest.raises(ZeroDivisionError):
        await finish(fail())


@pytest.mark.parametrize("failing", [False, True])
async def test_a_cancelled_task_waits_for_the_work_and_is_cancelled_then(failing: bool) -> None:  # noqa: FBT001 - a column of the table
    """A task cancelled in `finish`, even repeatedly, waits for the work and raises the cancellation then.

    An error of the work becomes the cancellation's cause.
    """
    gate, done = asyncio.Event(), []

    async def work() -> None:
        await gate.wait()
        done.append(1)
        if failing:
            raise ZeroDivisionError

    task = asyncio.create_task(finish(work()))
    for _ in range(3):
        await anyio.wait_all_tasks_blocked()
        task.cancel()
    await anyio.wait_all_tasks_blocked()
    assert not task.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert done == [1]
    assert isinstance(caught.value.__cause__, ZeroDivisionError) is failing


async def test_a_cancelled_scope_waits_for_the_work_too() -> None:
    """A scope cancelled during `finish` waits for the work and is cancelled then."""
    gate, done = asyncio.Event(), []

    async def work() -> None:
        await gate.wait()
        done.append(1)

    async def cancel(scope: anyio.CancelScope) -> None:
        scope.cancel()
        await anyio.wait_all_tasks_blocked()
        gate.set()

    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as scope:
            group.start_soon(cancel, scope)
            await finish(work())
            await anyio.sleep_forever()
    assert done == [1]
    assert scope.cancelled_caught


async def test_cancelling_all_there_is_does_not_cancel_the_work() -> None:
    """Cancelling every other task, as graceful shutdowns do, does not cancel the work."""
    gate, done = asyncio.Event(), []

    async def work() -> None:
        await gate.wait()
        await asyncio.sleep(0)
        done.append(1)

    task = asyncio.create_task(finish(work()))
    for _ in range(3):
        await anyio.wait_all_tasks_blocked()
        for other in asyncio.all_tasks() - {asyncio.current_task()}:
            other.cancel()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [1]


async def test_what_the_work_catches_stays_with_it() -> None:
    """The work can catch errors and cancellations of what it awaits; a cancelled future raises through `finish`."""

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    async def work() -> list[str]:
        caught = []
        never = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(never.cancel)
        for awaited in (fail(), never):
            try:
                await awaited
            except (ZeroDivisionError, asyncio.CancelledError) as error:
                caught.append(type(error).__name__)
        return caught

    assert await finish(work()) == ["ZeroDivisionError", "CancelledError"]
    cancelled = asyncio.get_running_loop().create_future()
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await finish(cancelled)
