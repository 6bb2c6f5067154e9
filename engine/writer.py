"""Group commit: requests that arrive while a batch commits become the next batch.

Batches are not delayed to fill up: pending requests are committed at once, so a lone writer waits only for its own
commit, and many writers share one. The queue is bounded; callers wait while it is full, and no request is dropped.

It runs on callbacks of futures instead of a task of its own. Code that cancels all tasks, as graceful shutdowns and
`asyncio.run` do, therefore cancels only the callers, and what those write while they exit is still recorded.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import TypeAlias

import anyio

from engine.cancellation import OpenBlocks
from engine.commands import Request
from engine.errors import EngineClosed
from engine.owner import Owner
from engine.ports import Answer, EventLog, Recorded

QUEUED_REQUESTS_MAX = 16_384


ShieldedResult: TypeAlias = tuple[Recorded, asyncio.CancelledError | None]
"""The result of a shielded request, and the cancellation that its caller still has to raise, if any."""


class _Queued:
    """A request, and the future that its caller awaits. Cancelling the caller cancels `answer`, not `outcome`."""

    __slots__ = ("answer", "outcome", "request", "shielded")

    def __init__(self, request: Request, *, shielded: bool) -> None:
        self.request = request
        self.shielded = shielded
        self.answer: asyncio.Future[Recorded] = asyncio.get_running_loop().create_future()
        self.outcome: Recorded | BaseException | None = None

    @property
    def is_withdrawn(self) -> bool:
        """Whether its caller was cancelled but has not run since, so that it could not withdraw the request itself."""
        return self.answer.cancelled() and not self.shielded

    def settle(self, outcome: Recorded | BaseException) -> None:
        """Set the outcome, and wake the caller unless it was cancelled."""
        self.outcome = outcome
        if self.answer.done():
            return
        if isinstance(outcome, Recorded):
            self.answer.set_result(outcome)
        else:
            self.answer.set_exception(outcome)

    async def wait_shielded(self, cancelled: asyncio.CancelledError) -> Recorded:
        """Wait for the outcome of a cancelled caller's request; if it failed, raise the cancellation."""
        with anyio.CancelScope(shield=True):
            while self.outcome is None:
                self.answer = asyncio.get_running_loop().create_future()
                with contextlib.suppress(asyncio.CancelledError, Exception):  # an error is in the outcome
                    await self.answer
        if isinstance(self.outcome, Recorded):
            return self.outcome
        raise cancelled from self.outcome


class Writer:
    """Queues requests and appends them to the log in batches, in their order of arrival."""

    def __init__(self, log: EventLog, *, queued_requests_max: int = QUEUED_REQUESTS_MAX) -> None:
        self._log = log
        self._slots = anyio.Semaphore(queued_requests_max)
        self._queue: dict[_Queued, None] = {}
        self._recording: asyncio.Future[list[Answer]] | None = None
        self._awaited: set[_Queued] = set()  # requests of the current batch whose callers are still waiting
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self._owner = Owner()
        self.blocks = OpenBlocks()
        """The open attempt blocks, which will still submit the ends of their attempts."""

    async def submit(self, request: Request) -> Recorded:
        """Return once the request is recorded and durable.

        Cancelling the caller withdraws a request that is still queued. A batch that the log has not begun is withdrawn
        if all of its callers are cancelled. After that, the request is recorded completely.

        Raises:
            AnabranchError: it was not recorded; see `engine.ports.Answer`.
        """
        self._owner.check()
        await self._acquire_slot()
        try:
            queued = self._enqueue(request, shielded=False)
            try:
                return await queued.answer
            except asyncio.CancelledError:
                self._withdraw(queued)
                raise
        finally:
            self._slots.release()

    async def has_recorded(self, run_id: str, idempotency_key: str | None) -> bool:
        """Return whether a request with that key was recorded; if so, a retry can skip preparing it again."""
        self._owner.check()
        return idempotency_key is not None and await self._log.has_recorded(run_id, idempotency_key)

    async def submit_shielded(self, request: Request) -> ShieldedResult:
        """Return once the request is recorded and durable, even if the caller is cancelled meanwhile.

        A caller that is cancelled while the queue is full may exceed its bound. The cancellation is returned along with
        the result, for the caller to raise.

        Raises:
            AnabranchError: it was not recorded.
            CancelledError: it was not recorded, and the caller was cancelled; the error is the cause.
        """
        self._owner.check()
        try:
            await self._acquire_slot()
        except asyncio.CancelledError as cancelled:
            try:
                queued = self._enqueue(request, shielded=True)
            except EngineClosed as closed:
                raise cancelled from closed
            return await queued.wait_shielded(cancelled), cancelled
        try:
            queued = self._enqueue(request, shielded=True)
            try:
                return await queued.answer, None
            except asyncio.CancelledError as cancelled:
                return await queued.wait_shielded(cancelled), cancelled
        finally:
            self._slots.release()

    def _withdraw(self, queued: _Queued) -> None:
        if queued in self._queue:
            del self._queue[queued]
        elif queued in self._awaited:
            self._awaited.remove(queued)
            if not self._awaited and self._recording is not None:
                self._recording.cancel()

    async def _acquire_slot(self) -> None:
        try:  # `acquire` alone would yield to the event loop even if a slot is free
            self._slots.acquire_nowait()
        except anyio.WouldBlock:
            await self._slots.acquire()

    def _enqueue(self, request: Request, *, shielded: bool) -> _Queued:
        if self._closed:
            raise EngineClosed
        queued = _Queued(request, shielded=shielded)
        self._queue[queued] = None
        if self._idle.is_set():
            self._idle.clear()
            asyncio.get_running_loop().call_soon(self._record_next)
        return queued

    async def close(self) -> None:
        """Refuse new requests, and wait until the queued ones are recorded."""
        self._closed = True
        await self._idle.wait()

    def _record_next(self) -> None:
        while batch := self._next_batch():
            try:
                recording = self._log.append([queued.request for queued in batch])
                self._recording, self._awaited = recording, set(batch)
                recording.add_done_callback(partial(self._recorded, batch))
            except Exception as error:  # noqa: BLE001 - every caller of the batch gets it, and the queue continues
                _settle(batch, [error] * len(batch))
            else:
                return
        self._idle.set()

    def _recorded(self, batch: list[_Queued], recording: asyncio.Future[list[Answer]]) -> None:
        self._recording = None
        self._awaited.clear()
        try:
            outcomes: Sequence[Answer | BaseException] = recording.result()
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - as above
            outcomes = [error] * len(batch)
        _settle(batch, outcomes)
        self._record_next()

    def _next_batch(self) -> list[_Queued]:
        batch: list[_Queued] = []
        while self._queue and not batch:
            taken = list(islice(self._queue, self._log.capabilities.batch_requests_max))
            for queued in taken:
                del self._queue[queued]
            batch = [queued for queued in taken if not queued.is_withdrawn]
        return batch


def _settle(batch: list[_Queued], outcomes: Sequence[Recorded | BaseException]) -> None:
    for queued, outcome in zip(batch, outcomes, strict=True):
        queued.settle(outcome)
