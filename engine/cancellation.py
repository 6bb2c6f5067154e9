"""Finishing work despite cancellation, and raising the cancellation afterwards."""

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import Any, TypeVar

import anyio

Result = TypeVar("Result")

LEAVING_SECONDS_MAX = 30.0


class OpenBlocks:
    """The attempt blocks that have not ended yet, and the tasks that entered them."""

    def __init__(self) -> None:
        self._open: dict[object, asyncio.Task[Any] | None] = {}
        self._one_ended: asyncio.Future[None] | None = None  # set while `wait_for_cancelled` waits

    def enter(self, block: object) -> None:
        """Register a block that is about to begin."""
        self._open[block] = asyncio.current_task()

    def leave(self, block: object) -> None:
        """Remove a block whose end has been recorded."""
        del self._open[block]
        if self._one_ended is not None and not self._one_ended.done():
            self._one_ended.set_result(None)

    async def wait_for_cancelled(self) -> None:
        """Wait until no other task that is being cancelled is inside a block, for 30 s at most.

        When all tasks are cancelled at once, all are marked before the first of them runs. The time limit is for tasks
        that ignore their cancellation.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVING_SECONDS_MAX):
                await self._wait_for_cancelled()

    async def _wait_for_cancelled(self) -> None:
        while leaving := [task for task in self._open.values() if task is not None and _is_being_cancelled(task)]:
            if self._one_ended is None or self._one_ended.done():
                self._one_ended = asyncio.get_running_loop().create_future()
            # A task may be done before its block: another task may be ending the block.
            await asyncio.wait((self._one_ended, *leaving), return_when=asyncio.FIRST_COMPLETED)


def _is_being_cancelled(task: asyncio.Task[Any]) -> bool:
    return task is not asyncio.current_task() and not task.done() and task.cancelling() > 0


async def finish(work: Awaitable[Result]) -> Result:
    """Await `work` to completion even if the caller is cancelled, then raise the cancellation.

    An asyncio cancellation is caught and raised at the end; an anyio cancel scope is shielded. The work does not run in
    a task of its own, because code that cancels all tasks, as `asyncio.run` does on exit, would cancel that task too.
    Consequently `asyncio.timeout` and cancel scopes with a deadline have no effect inside the work.
    """
    steps = work.__await__()
    end = StopIteration()
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        try:
            while True:
                cancelled = await _wait_shielded(next(steps)) or cancelled
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


async def _wait_shielded(awaited: "asyncio.Future[Any] | None") -> asyncio.CancelledError | None:
    """Wait for a future that a coroutine yielded (None: one event loop turn); return the caller's cancellation."""
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
