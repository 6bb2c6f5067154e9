"""The ways to cancel a caller, each at a random point."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import anyio
import anyio.lowlevel
import pytest

Work: TypeAlias = Callable[[], Awaitable[Any]]
Way: TypeAlias = Callable[[Work, random.Random], Awaitable[None]]


def _turns(chance: random.Random) -> int:
    """Return 10 to 1,000 turns, half of them below 100, because calls are short or long."""
    return round(10 ** chance.uniform(1, 3))


def _seconds(chance: random.Random) -> float:
    return float(10 ** chance.uniform(-3.5, -1.5))


async def pass_turns(turns: int) -> None:
    """Let the event loop run this many turns, so that another call gets that far."""
    for _ in range(turns):
        await anyio.lowlevel.checkpoint()


async def by_cancel(work: Work, chance: random.Random) -> None:
    """A task is cancelled."""
    task = asyncio.ensure_future(_awaited(work))
    await pass_turns(_turns(chance))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def by_cancelling_twice(work: Work, chance: random.Random) -> None:
    """A task is cancelled again while it handles its cancellation."""
    task = asyncio.ensure_future(_awaited(work))
    await pass_turns(_turns(chance))
    task.cancel()
    await pass_turns(chance.randrange(4))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def by_wait_for(work: Work, chance: random.Random) -> None:
    """`asyncio.wait_for` times out."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(work(), _seconds(chance))


async def by_timeout(work: Work, chance: random.Random) -> None:
    """`asyncio.timeout` cancels the task that it is in."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_seconds(chance)):
            await work()


async def by_moving_on(work: Work, chance: random.Random) -> None:
    """`anyio.move_on_after` cancels repeatedly until its block has ended."""
    with anyio.move_on_after(_seconds(chance)):
        await work()


async def by_scope(work: Work, chance: random.Random) -> None:
    """The scope of a task group is cancelled."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_awaited, work)
        await pass_turns(_turns(chance))
        tasks.cancel_scope.cancel()


async def by_collapse(work: Work, chance: random.Random) -> None:
    """Another task of the same group fails."""
    with pytest.RaisesGroup(ZeroDivisionError):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_awaited(work))
            await pass_turns(_turns(chance))
            raise ZeroDivisionError


async def _awaited(work: Work) -> None:
    await work()


WAYS: tuple[Way, ...] = (
    by_cancel,
    by_cancelling_twice,
    by_wait_for,
    by_timeout,
    by_moving_on,
    by_scope,
    by_collapse,
)
