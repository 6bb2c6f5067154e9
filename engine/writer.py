"""Group commit: what is asked for while a batch commits becomes the next batch.

Nothing lingers to fill a batch: whatever is pending is committed at once, so a lone writer waits for its own commit
only, and many writers share one. The queue is bounded; a caller of a full one waits, and nothing is ever dropped.

No task stands behind it, only the callbacks of futures: who cancels every task there is, as graceful shutdowns do and
`asyncio.run` does at its end, cancels callers, and what they write on their way out is recorded.
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


Finished: TypeAlias = tuple[Recorded, asyncio.CancelledError | None]
"""What a request recorded that was waited for to its end, and the cancellation that its caller is yet to raise."""


class _Queued:
    """A request, and the future that its caller awaits: cancelling takes the future with it, not the outcome."""

    __slots__ = ("answer", "outcome", "request", "to_the_end")

    def __init__(self, request: Request, *, to_the_end: bool) -> None:
        self.request = request
        self.to_the_end = to_the_end
        self.answer: asyncio.Future[Recorded] = asyncio.get_running_loop().create_future()
        self.outcome: Recorded | BaseException | None = None

    @property
    def is_taken_back(self) -> bool:
        """Whether its caller was cancelled and has not run since."""
        return self.answer.cancelled() and not self.to_the_end

    def settle(self, outcome: Recorded | BaseException) -> None:
        """Wake the caller, unless it was cancelled."""
        self.outcome = outcome
        if self.answer.done():
            return
        if isinstance(outcome, Recorded):
            self.answer.set_result(outcome)
        else:
            self.answer.set_exception(outcome)

    async def outlive(self, cancelled: asyncio.CancelledError) -> Recorded:
        """Return what was recorded although the caller was cancelled, or raise the cancellation."""
        with anyio.CancelScope(shield=True):
            while self.outcome is None:
                self.answer = asyncio.get_running_loop().create_future()
                with contextlib.suppress(asyncio.CancelledError, Exception):  # it is in the outcome
                    await self.answer
        if isinstance(self.outcome, Recorded):
            return self.outcome
        raise cancelled from self.outcome


class Writer:
    """Queues requests and has the log record them in batches, in the order in which they came."""

    def __init__(self, log: EventLog, *, queued_requests_max: int = QUEUED_REQUESTS_MAX) -> None:
        self._log = log
        self._free = anyio.Semaphore(queued_requests_max)
        self._queue: dict[_Queued, None] = {}
        self._recording: asyncio.Future[list[Answer]] | None = None
        self._awaited: set[_Queued] = set()  # what is being recorded and has a caller who waits
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self._owner = Owner()
        self.blocks = OpenBlocks()
        """The blocks of attempts, whose ends are yet to be asked for."""

    async def submit(self, request: Request) -> Recorded:
        """Return once the request is recorded and durable.

        A caller that is cancelled while its request is still queued takes it back, and so do all callers of a batch
        together that the log has not begun with; later, it is recorded whole.

        Raises:
            AnabranchError: it was not; see `engine.ports.Answer`.
        """
        self._owner.check()
        await self._take_place()
        try:
            queued = self._put(request, to_the_end=False)
            try:
                return await queued.answer
            except asyncio.CancelledError:
                self._take_back(queued)
                raise
        finally:
            self._free.release()

    async def has_recorded(self, run_id: str, idempotency_key: str | None) -> bool:
        """Say whether a request of that key was recorded: a retry then need not read again what it was made of."""
        self._owner.check()
        return idempotency_key is not None and await self._log.has_recorded(run_id, idempotency_key)

    async def submit_to_the_end(self, request: Request) -> Finished:
        """Return once the request is recorded and durable, even when the caller is cancelled meanwhile.

        A caller that is cancelled while it waits for a full queue is let in at once. The cancellation comes back with
        what was recorded, for the caller to raise.

        Raises:
            AnabranchError: it was not recorded.
            CancelledError: the same, to a caller that was cancelled; the error is its cause.
        """
        self._owner.check()
        try:
            await self._take_place()
        except asyncio.CancelledError as cancelled:
            try:
                queued = self._put(request, to_the_end=True)
            except EngineClosed as closed:
                raise cancelled from closed
            return await queued.outlive(cancelled), cancelled
        try:
            queued = self._put(request, to_the_end=True)
            try:
                return await queued.answer, None
            except asyncio.CancelledError as cancelled:
                return await queued.outlive(cancelled), cancelled
        finally:
            self._free.release()

    def _take_back(self, queued: _Queued) -> None:
        if queued in self._queue:
            del self._queue[queued]  # its place goes to another caller at once
        elif queued in self._awaited:
            self._awaited.remove(queued)
            if not self._awaited and self._recording is not None:
                self._recording.cancel()

    async def _take_place(self) -> None:
        try:
            self._free.acquire_nowait()
        except anyio.WouldBlock:
            await self._free.acquire()

    def _put(self, request: Request, *, to_the_end: bool) -> _Queued:
        if self._closed:
            raise EngineClosed
        queued = _Queued(request, to_the_end=to_the_end)
        self._queue[queued] = None
        if self._idle.is_set():
            self._idle.clear()
            asyncio.get_running_loop().call_soon(self._record_next)
        return queued

    async def close(self) -> None:
        """Record what is queued, and refuse what comes after."""
        self._closed = True
        await self._idle.wait()

    def _record_next(self) -> None:
        while batch := self._next_batch():
            try:
                recording = self._log.append([queued.request for queued in batch])
                self._recording, self._awaited = recording, set(batch)
                recording.add_done_callback(partial(self._recorded, batch))
            except Exception as error:  # noqa: BLE001 - every caller gets it, and the queue goes on
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
            batch = [queued for queued in taken if not queued.is_taken_back]
        return batch


def _settle(batch: list[_Queued], outcomes: Sequence[Recorded | BaseException]) -> None:
    for queued, outcome in zip(batch, outcomes, strict=True):
        queued.settle(outcome)
