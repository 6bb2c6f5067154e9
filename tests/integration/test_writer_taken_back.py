"""The writer's queue and requests whose callers were cancelled."""

import asyncio
import weakref

from engine.commands import Record, Request
from engine.writer import Writer
from tests.unit.test_writer import StubLog, request, settle, submit


class WatchedRequest(Request, frozen=True, weakref=True):
    """A request that supports weak references."""


async def test_a_request_that_was_taken_back_leaves_the_queue_at_once() -> None:
    """A cancelled request leaves the queue, and frees its place, while the batch before it still commits."""
    log = StubLog()
    writer = Writer(log, queued_requests_max=2)
    (committing,) = submit(writer, "a")
    await settle()
    watched = WatchedRequest(run_id="b", commands=(Record(events=()),))
    gone = weakref.ref(watched)
    caller = asyncio.create_task(writer.submit(watched))
    del watched
    await settle()
    caller.cancel()
    await asyncio.wait({caller})
    del caller
    assert gone() is None
    next_caller = asyncio.create_task(writer.submit(request("c")))
    await settle()
    log.release()
    await asyncio.gather(committing, next_caller)
    assert log.batches == [["a"], ["c"]]
