"""Group commit: what is asked for while a batch commits becomes the next batch.

Nothing lingers to fill a batch: whatever is pending is committed at once, so a lone writer waits for its own commit
only, and many writers share one. The queue is bounded; a caller of a full one waits, and nothing is ever dropped.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

from engine.commands import Request
from engine.errors import EngineClosed
from engine.owner import OwnerProcess
from engine.ports import Answer, EventLog, Recorded

QUEUED_REQUESTS_MAX = 16_384


class Writer:
    """Queues requests and has the log record them in batches, in the order in which they came."""

    def __init__(self, log: EventLog, *, queued_requests_max: int = QUEUED_REQUESTS_MAX) -> None:
        self._log = log
        self._free = asyncio.Semaphore(queued_requests_max)
        self._queue: OrderedDict[asyncio.Future[Recorded], Request] = OrderedDict()
        self._draining: asyncio.Task[None] | None = None
        self._closed = False
        self._owner = OwnerProcess()

    async def submit(self, request: Request) -> Recorded:
        """Return once the request is recorded and durable.

        A caller that is cancelled while its request is still queued takes it back; later, it is recorded whole.

        Raises:
            AnabranchError: it was not; see `engine.ports.Answer`.
        """
        self._owner.check()
        async with self._free:
            if self._closed:
                raise EngineClosed
            answer: asyncio.Future[Recorded] = asyncio.get_running_loop().create_future()
            self._queue[answer] = request
            if self._draining is None:
                self._draining = asyncio.create_task(self._drain())
            try:
                return await answer
            except asyncio.CancelledError:
                self._queue.pop(answer, None)  # its place goes to another caller at once
                raise

    async def close(self) -> None:
        """Record what is queued, and refuse what comes after."""
        self._closed = True
        if self._draining is not None:
            await asyncio.shield(self._draining)

    async def _drain(self) -> None:
        try:
            while batch := self._next_batch():
                await self._commit(batch)
        finally:
            self._draining = None

    def _next_batch(self) -> list[tuple[Request, asyncio.Future[Recorded]]]:
        batch: list[tuple[Request, asyncio.Future[Recorded]]] = []
        while self._queue and len(batch) < self._log.capabilities.batch_requests_max:
            answer, request = self._queue.popitem(last=False)
            if not answer.done():  # a cancelled caller has taken its request back
                batch.append((request, answer))
        return batch

    async def _commit(self, batch: list[tuple[Request, asyncio.Future[Recorded]]]) -> None:
        try:
            answers: Sequence[Answer] = await self._log.append([request for request, _ in batch])
        except asyncio.CancelledError:  # the event loop is shutting down
            for _, future in batch:
                future.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - every caller gets it, and the queue goes on
            answers = [error] * len(batch)
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Recorded):
                future.set_result(answer)
            else:
                future.set_exception(answer)
