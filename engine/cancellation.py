"""What must finish, finishes: then the cancellation that came in the meantime goes on."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

import anyio

Result = TypeVar("Result")


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
