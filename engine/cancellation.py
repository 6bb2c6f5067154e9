"""What must finish, finishes: then the cancellation that came in the meantime goes on."""

import asyncio
import contextlib
from collections.abc import Awaitable, Iterator
from typing import Any, TypeVar

import anyio

Result = TypeVar("Result")


class OpenBlocks:
    """The blocks that have yet to end, and the tasks that entered them."""

    def __init__(self) -> None:
        self._open: dict[asyncio.Future[None], asyncio.Task[Any] | None] = {}

    @contextlib.contextmanager
    def one_more(self) -> Iterator[None]:
        """A block, from before it begins until all has been done for its end."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._open[ended] = asyncio.current_task()
        try:
            yield
        finally:
            del self._open[ended]
            ended.set_result(None)

    async def end_of_cancelled(self) -> None:
        """Wait until no task but the caller's that is being cancelled is inside a block.

        Who cancels every task there is has cancelled them all before the first of them runs.
        """
        while leaving := list(self._being_left()):
            await asyncio.wait(leaving, return_when=asyncio.FIRST_COMPLETED)

    def _being_left(self) -> Iterator[asyncio.Future[Any]]:
        for ended, task in self._open.items():
            if task is None or task is asyncio.current_task() or task.done():
                continue
            if task.cancelling():
                yield ended
                yield task  # it may leave the end of its block to another task


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
