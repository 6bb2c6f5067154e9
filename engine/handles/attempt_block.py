"""Running a block of code as an attempt, which ends when the block does."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from itertools import islice
from types import TracebackType
from typing import Any, TypeAlias

from engine.cancellation import OpenBlocks
from engine.errors import AlreadyEntered, AnabranchError
from engine.handles.attempt import Attempt
from engine.logger import get_logger
from engine.model import CANCELLED, COMPLETED, FAILED

_REASON_CHARACTERS_MAX = 1000
_ERRORS_MAX = 20

_log = get_logger(__name__)

Started: TypeAlias = tuple[Attempt, asyncio.CancelledError | None]
"""A recorded attempt, and the cancellation that arrived while it was being recorded, if any."""


class AttemptBlock:
    """An async context manager that starts an attempt and records how the block ended; see `Branch.attempt`."""

    def __init__(self, start: Callable[[], Coroutine[Any, Any, Started]], blocks: OpenBlocks) -> None:
        self._start = start
        self._blocks = blocks
        self._entered = False
        self._attempt: Attempt | None = None

    async def __aenter__(self) -> Attempt:
        if self._entered:
            raise AlreadyEntered("the block of an attempt")
        self._entered = True
        self._blocks.enter(self)
        try:
            self._attempt = await self._started()
        except BaseException:
            self._blocks.leave(self)
            raise
        return self._attempt

    async def _started(self) -> Attempt:
        attempt, cancelled = await self._start()
        if cancelled is not None:  # the start is recorded, so record the end too
            await _finish_with(attempt, cancelled)
            raise cancelled
        return attempt

    async def __aexit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        assert self._attempt is not None, "entered"
        try:
            if error is not None:
                await _finish_with(self._attempt, error)
            else:
                await self._complete(self._attempt)
        finally:
            self._blocks.leave(self)

    async def _complete(self, attempt: Attempt) -> None:
        try:
            await attempt.finish_unless_finished(COMPLETED)
        except AnabranchError as unrecorded:
            _warn_of(unrecorded, attempt, COMPLETED)
            raise


async def _finish_with(attempt: Attempt, error: BaseException) -> None:
    """Record the error that ended an attempt. A cancellation that arrives meanwhile is raised after that."""
    status = FAILED if isinstance(error, Exception) else CANCELLED
    try:
        await attempt.finish_unless_finished(status, _reason(error))
    except AnabranchError as unrecorded:
        error.add_note(f"and the attempt's outcome is not recorded: {type(unrecorded).__name__}: {unrecorded}")
        _warn_of(unrecorded, attempt, status)


def _warn_of(unrecorded: AnabranchError, attempt: Attempt, status: str) -> None:
    _log.warning(
        "the end of an attempt is not recorded",
        run_id=attempt.run_id,
        branch=attempt.branch,
        step=attempt.step,
        attempt_id=attempt.attempt_id,
        status=status,
        error=f"{type(unrecorded).__name__}: {unrecorded}",
    )


def _reason(error: BaseException) -> str:
    text = "; ".join(_described(each) for each in islice(_single_errors(error), _ERRORS_MAX))
    return text.encode(errors="backslashreplace").decode()[:_REASON_CHARACTERS_MAX]


def _single_errors(error: BaseException) -> Iterator[BaseException]:
    """Yield the single errors of an exception group, in order; an error that is no group is yielded itself."""
    groups = [error]
    while groups:
        match groups.pop():
            case BaseExceptionGroup(exceptions=inner):
                groups.extend(reversed(inner))
            case leaf:
                yield leaf


def _described(error: BaseException) -> str:
    message = _message(error)
    if isinstance(error, asyncio.CancelledError):
        return _cancellation(message)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _cancellation(message: str) -> str:
    task = asyncio.current_task()
    if task is None or not task.cancelling():
        what, instead = "awaited something that was cancelled", ""
    else:  # asyncio does not tell who cancelled a task, nor why, unless they gave a message
        what, instead = "cancelled from outside", ", perhaps by a timeout, a task group or a shutdown"
    return what + (f": {message}" if message else instead)


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001 - the caller has to get the block's own error
        return f"(its message cannot be formatted: {type(broken).__name__})"
