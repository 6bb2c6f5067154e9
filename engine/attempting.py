"""A block of code as an attempt: whatever ends the block, the attempt ends with it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from engine.attempt import Attempt
from engine.cancellation import finish
from engine.errors import AnabranchError
from engine.model import CANCELLED, COMPLETED, FAILED

_REASON_CHARACTERS_MAX = 1000


@contextlib.asynccontextmanager
async def attempting(start: Callable[[], Coroutine[Any, Any, Attempt]]) -> AsyncIterator[Attempt]:
    """Start an attempt, run the block, and record how it ended; see `Branch.attempt`."""
    starting = asyncio.ensure_future(start())
    try:
        attempt = await finish(starting)
    except asyncio.CancelledError as error:
        if starting.exception() is None:  # it is recorded, so its end is to be recorded too
            await _finish_with(starting.result(), error)
        raise
    try:
        yield attempt
    except BaseException as error:
        await _finish_with(attempt, error)
        raise
    await finish(attempt.finish_unless_finished(COMPLETED, None))


async def _finish_with(attempt: Attempt, error: BaseException) -> None:
    """Record what ended an attempt, even when its caller is cancelled again."""
    status = FAILED if isinstance(error, Exception) else CANCELLED
    try:
        await finish(attempt.finish_unless_finished(status, _reason(error)))
    except AnabranchError as unrecorded:
        error.add_note(f"and the attempt's outcome is not recorded: {type(unrecorded).__name__}: {unrecorded}")


def _reason(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}".encode(errors="backslashreplace").decode()
    return text[:_REASON_CHARACTERS_MAX]
