"""Reading the log, and following it as it grows: without gaps or duplicates, across processes.

Commits of this process wake subscribers at once; those of other processes are found by polling the last position, one
small read every 20 ms while anyone waits.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from types import TracebackType
from typing import Final, Self

from typing_extensions import override

from engine.errors import AnabranchError, EngineClosed
from engine.events import RecordedEvent
from engine.logger import get_logger
from engine.ports import EventFilter, EventLog

CHUNK_EVENTS: Final = 512
POLL_SECONDS: Final = 0.02

_log = get_logger(__name__)


async def read_log(
    log: EventLog, events: EventFilter, after: int, until: int | None
) -> AsyncGenerator[RecordedEvent, None]:
    """Yield the events that the log holds now, in order.

    No read stays open between chunks, so a slow consumer does not hold up WAL checkpoints.
    """
    last = await log.last_position()
    until = last if until is None else min(until, last)
    while True:  # at least once, to raise an error for a run or branch that does not exist
        found, after = await log.read(events, after, until, CHUNK_EVENTS)
        for recorded in found:
            yield recorded
        if after >= until:
            return


class Follower:
    """Wakes subscribers when the log may have grown. One per engine."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._grown = asyncio.Event()
        self._generation = 0
        self._waiting = 0
        self._polling: asyncio.Task[None] | None = None
        self._closed = False
        log.on_append(self._wake)

    def follow(self, events: EventFilter, after: int) -> "Subscription":
        """Return a subscription to the events after a position that pass the filter.

        Raises:
            EngineClosed
        """
        if self._closed:
            raise EngineClosed
        return Subscription(self, events, after)

    async def read(self, events: EventFilter, after: int) -> tuple[list[RecordedEvent], int] | None:
        """Return events after a position, and the position to continue from; None once closed.

        If there are none, wait until the log may have grown, then return.
        """
        if self._closed:
            return None
        generation = self._generation
        try:
            found, after = await self._log.read(events, after, None, CHUNK_EVENTS)
        except EngineClosed:
            return None
        if not found:
            await self._wait(generation)
        return found, after

    async def close(self) -> None:
        """End every subscription and the polling."""
        self._closed = True
        self._wake()
        if self._polling is not None:
            self._polling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._polling

    async def _wait(self, generation: int) -> None:
        if generation != self._generation or self._closed:
            return
        grown = self._grown
        self._waiting += 1
        try:
            # `_polling.done()`: a task cancelled before its first step never ran `finally`. An eager task starts here.
            if self._polling is None or self._polling.done():
                self._polling = asyncio.create_task(self._poll())
            await grown.wait()
        finally:
            self._waiting -= 1

    def _wake(self) -> None:
        self._generation += 1
        self._grown.set()
        self._grown = asyncio.Event()

    async def _poll(self) -> None:
        # Ends when nobody waits any more; the next waiter starts it again.
        try:
            seen = -1
            while self._waiting:
                last = await self._log.last_position()
                if last != seen:
                    seen = last
                    self._wake()
                await asyncio.sleep(POLL_SECONDS)
        except AnabranchError as error:
            _log.warning("polling failed", error=str(error))
        finally:
            self._wake()  # waiters read again, and get the error themselves


class Subscription(AsyncIterator[RecordedEvent]):
    """Events as they are recorded, until the engine or the subscription is closed.

    Cancelling the wait for the next event, as `asyncio.timeout` does, loses none: the next call returns it.
    """

    def __init__(self, follower: Follower, events: EventFilter, after: int) -> None:
        self._follower = follower
        self._events = events
        self._after = after
        self._found: deque[RecordedEvent] = deque()
        self._reading = asyncio.Lock()
        self._closed = False

    @override
    async def __anext__(self) -> RecordedEvent:
        while not self._found:
            async with self._reading:  # of several concurrent waiters, only one reads
                if not self._found:
                    await self._read()
        return self._found.popleft()

    async def _read(self) -> None:
        read = None if self._closed else await self._follower.read(self._events, self._after)
        if read is None:
            raise StopAsyncIteration
        found, self._after = read
        self._found.extend(found)

    async def aclose(self) -> None:
        """End the subscription; leaving `async with` does the same."""
        self._closed = True
        self._found.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
