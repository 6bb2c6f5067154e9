"""What must finish, finishes: then the cancellation that came in the meantime goes on."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import anyio

Result = TypeVar("Result")


async def finish(work: Awaitable[Result]) -> Result:
    """Await `work` to its end, whatever cancels the caller, then raise the cancellation.

    An asyncio cancellation is caught and raised at the end; an anyio cancel scope is shielded off.
    """
    running = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not running.done():
            try:
                await asyncio.wait({running})
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        if not running.cancelled() and (failure := running.exception()) is not None:
            raise cancelled from failure
        raise cancelled
    return running.result()
