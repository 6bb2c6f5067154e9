"""What must finish, finishes: then the cancellation that came in the meantime goes on."""

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import Any, TypeVar

import anyio

Result = TypeVar("Result")

LEAVING_SECONDS_MAX = 30.0


class OpenBlocks:
    """The blocks that have yet to end, and the tasks that entered them."""

    def __init__(self) -> None:
        self._open: dict[object, asyncio.Task[Any] | None] = {}
        self._one_ended: asyncio.Future[None] | None = None  # somebody waits for it

    def enter(self, block: object) -> None:
        """Say that a block is about to begin."""
        self._open[block] = asyncio.current_task()

    def leave(self, block: object) -> None:
        """Say that all has been done for the end of a block."""
        del self._open[block]
        if self._one_ended is not None and not self._one_ended.done():
            self._one_ended.set_result(None)

    async def end_of_cancelled(self) -> None:
        """Wait until no task but the caller's that is being cancelled is inside a block, for half a minute at most.

        Who cancels every task there is has cancelled them all before the first of them runs. A task may go on as if it
        had not been: it is not waited for for ever.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVING_SECONDS_MAX):
                await self._end_of_cancelled()

    async def _end_of_cancelled(self) -> None:
        while leaving := [task for task in self._open.values() if task is not None and _is_leaving(task)]:
            if self._one_ended is None or self._one_ended.done():
                self._one_ended = asyncio.get_running_loop().create_future()
            # A task may have left the end of its block to another one, and be done before that.
            await asyncio.wait((self._one_ended, *leaving), return_when=asyncio.FIRST_COMPLETED)


def _is_leaving(task: asyncio.Task[Any]) -> bool:
    return task is not asyncio.current_task() and not task.done() and task.cancelling() > 0


async def finish(work: Awaitable[Result]) -> Result:
    """Await `work` to its end, whatever cancels the caller, then raise the cancellation.

    An asyncio cancellation is caught and raised at the end; an anyio cancel scope is shielded off. The work is no task
    of its own: who cancels every task there is, as `asyncio.run` does at its end, would cancel that one too. So it may
    not count on being cancelled either: `asyncio.timeout` and scopes with a deadline end nothing in it.
    """
    steps = work.__await__()
    end = StopIteration()
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        try:
            while True:
                cancelled = await _to_the_end(next(steps)) or cancelled
        except StopIteration as reached:
            end = reached
        except BaseException as failure:
            if cancelled is None:
                raise
            raise cancelled from failure
    if cancelled is not None:
        raise cancelled
    result: Result = end.value
    return result


async def _to_the_end(awaited: "asyncio.Future[Any] | None") -> asyncio.CancelledError | None:
    """Wait for what a coroutine waits for, None for one turn of the event loop; return what cancelled the caller."""
    cancelled = None
    while True:
        try:
            if awaited is None:
                await asyncio.sleep(0)
            else:
                await asyncio.wait({awaited})
        except asyncio.CancelledError as error:
            cancelled = error
        if awaited is None or awaited.done():
            return cancelled
