"""Group commit, tested on an in-memory log that commits when it is told to."""

import asyncio
from collections.abc import Callable, Sequence

import anyio
import pytest

from engine.commands import Record, Request
from engine.errors import EngineClosed, RunNotFound, StoreUnavailable
from engine.events import RecordedEvent
from engine.ports import Answer, Capabilities, EventFilter, Recorded
from engine.writer import ShieldedResult, Writer


class StubLog:
    """A log that only keeps the batches it is given; each one commits after `release`."""

    def __init__(self, *, batch_requests_max: int = 100) -> None:
        self.capabilities = Capabilities(1000, batch_requests_max, dense_order=True)
        self.batches: list[list[str]] = []
        self.answer: Callable[[str], Answer] = lambda _: Recorded((), 1)
        self.failure: BaseException | None = None
        self.gate = asyncio.Event()
        self.appended: list[asyncio.Future[list[Answer]]] = []

    def release(self) -> None:
        """Let every batch commit at once from now on."""
        self.gate.set()

    def append(self, requests: Sequence[Request]) -> asyncio.Future[list[Answer]]:
        self.appended.append(asyncio.ensure_future(self._answers(requests)))
        return self.appended[-1]

    async def _answers(self, requests: Sequence[Request]) -> list[Answer]:
        self.batches.append([request.run_id for request in requests])
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return [self.answer(request.run_id) for request in requests]

    async def read(
        self, events: EventFilter, after: int, until: int | None, limit: int
    ) -> tuple[list[RecordedEvent], int]:
        raise NotImplementedError

    async def last_position(self) -> int:
        return 0

    async def has_recorded(self, run_id: str, idempotency_key: str) -> bool:
        raise NotImplementedError

    def on_append(self, callback: Callable[[], None]) -> None:
        raise NotImplementedError

    async def close(self) -> None: ...


def request(name: str) -> Request:
    return Request(run_id=name, commands=(Record(events=()),))


def submit(writer: Writer, *names: str) -> list[asyncio.Task[Recorded]]:
    """Submit one request for each name, each from its own task."""
    return [asyncio.create_task(writer.submit(request(name))) for name in names]


async def settle() -> None:
    """Let every task run until it has to wait."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_what_comes_while_a_batch_commits_becomes_the_next_batch() -> None:
    """The first request commits alone at once; those submitted meanwhile form the next batch, in order."""
    log = StubLog()
    writer = Writer(log)
    first = submit(writer, "a")
    await settle()
    others = submit(writer, "b", "c", "d")
    await settle()
    assert log.batches == [["a"]]
    log.release()
    await asyncio.gather(*first, *others)
    assert log.batches == [["a"], ["b", "c", "d"]]


async def test_a_batch_keeps_to_what_the_log_can_take() -> None:
    """A batch holds no more requests than the log's `batch_requests_max`."""
    log = StubLog(batch_requests_max=2)
    log.release()
    writer = Writer(log)
    await asyncio.gather(*submit(writer, "a", "b", "c", "d", "e"))
    assert log.batches == [["a", "b"], ["c", "d"], ["e"]]


async def test_a_full_queue_makes_callers_wait_and_drops_nothing() -> None:
    """Requests beyond the queue's limit wait and are recorded later, in order."""
    log = StubLog()
    writer = Writer(log, queued_requests_max=2)
    tasks = submit(writer, "a", "b", "c", "d", "e")
    await settle()
    assert log.batches == [["a", "b"]]
    log.release()
    await asyncio.gather(*tasks)
    assert [name for batch in log.batches for name in batch] == ["a", "b", "c", "d", "e"]
    assert max(len(batch) for batch in log.batches) <= 2


async def test_each_answer_reaches_its_own_caller() -> None:
    """Each caller gets the answer to its own request, and only the refused one raises."""
    log = StubLog()
    log.answer = lambda name: RunNotFound(name) if name == "b" else Recorded((), ord(name))
    log.release()
    writer = Writer(log)
    a, b, c = await asyncio.gather(*submit(writer, "a", "b", "c"), return_exceptions=True)
    assert (a, c) == (Recorded((), ord("a")), Recorded((), ord("c")))
    assert isinstance(b, RunNotFound)


@pytest.mark.parametrize("failure", [StoreUnavailable("gone"), RuntimeError("a fault of the log")])
async def test_an_error_of_the_log_reaches_every_caller_and_the_next_batch_goes_on(failure: Exception) -> None:
    """An error of the log is raised in every caller of the batch, and the next batch is recorded."""
    log = StubLog()
    log.failure = failure
    log.release()
    writer = Writer(log)
    results = await asyncio.gather(*submit(writer, "a", "b"), return_exceptions=True)
    assert results == [failure, failure]
    log.failure = None
    assert await writer.submit(request("c")) == Recorded((), 1)


async def test_a_caller_cancelled_while_queued_takes_its_request_back() -> None:
    """A request whose caller is cancelled while it is queued is never sent to the log."""
    log = StubLog()
    writer = Writer(log)
    first, second, third = submit(writer, "a", "b", "c")
    await settle()
    first_batch = log.batches[0]
    late, kept = submit(writer, "late", "kept")
    await settle()
    late.cancel()
    log.release()
    results = await asyncio.gather(first, second, third, late, kept, return_exceptions=True)
    assert first_batch == ["a", "b", "c"]
    assert log.batches[1:] == [["kept"]]
    assert isinstance(results[3], asyncio.CancelledError)


async def test_a_caller_cancelled_just_before_its_batch_is_taken_takes_its_request_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A request whose caller is cancelled just before its batch is taken is not sent; the others of the batch are."""
    log = StubLog()
    append = log.append

    def append_and_cancel(requests: Sequence[Request]) -> asyncio.Future[list[Answer]]:
        appended = append(requests)
        appended.add_done_callback(lambda _: gone.cancel())  # runs just before the writer's own, which takes the next
        return appended

    monkeypatch.setattr(log, "append", append_and_cancel)
    writer = Writer(log)
    (first,) = submit(writer, "a")
    await settle()
    gone, kept = submit(writer, "gone", "kept")
    await settle()
    log.release()
    await asyncio.gather(first, kept)
    assert gone.cancelled()
    assert log.batches == [["a"], ["kept"]]


async def test_a_caller_cancelled_during_the_commit_has_its_request_recorded() -> None:
    """A caller that is cancelled during the commit does not stop the batch; the other callers get their answers."""
    log = StubLog()
    writer = Writer(log)
    gone, kept = submit(writer, "gone", "kept")
    await settle()
    gone.cancel()
    await settle()
    log.release()
    assert await kept == Recorded((), 1)
    assert gone.cancelled()
    assert log.batches == [["gone", "kept"]]


async def test_a_batch_whose_callers_are_all_cancelled_is_taken_back() -> None:
    """The append of a batch is cancelled once all of its callers are, and the next batch is recorded."""
    log = StubLog()
    writer = Writer(log)
    callers = submit(writer, "a", "b")
    await settle()
    callers[0].cancel()
    await settle()
    assert not log.appended[0].done()
    callers[1].cancel()
    await settle()
    assert log.appended[0].cancelled()
    behind = submit(writer, "behind")
    log.release()
    await asyncio.gather(*behind)
    assert log.batches == [["a", "b"], ["behind"]]


async def test_a_batch_that_somebody_follows_to_the_end_is_not_taken_back() -> None:
    """A batch with a `submit_to_the_end` caller is not cancelled, even when all of its callers are."""
    log = StubLog()
    writer = Writer(log)
    followed = asyncio.create_task(writer.submit_shielded(request("followed")))
    (other,) = submit(writer, "other")
    await settle()
    followed.cancel()
    other.cancel()
    await settle()
    log.release()
    recorded, cancelled = await followed
    assert recorded == Recorded((), 1)
    assert cancelled is not None
    assert not log.appended[0].cancelled()


async def test_a_caller_cancelled_before_its_turn_gives_its_place_away() -> None:
    """A caller that is cancelled while it waits for room in the queue takes no place in it."""
    log = StubLog()
    writer = Writer(log, queued_requests_max=1)
    first, second, third = submit(writer, "a", "b", "c")
    await settle()
    second.cancel()
    log.release()
    await asyncio.gather(first, third)
    assert log.batches == [["a"], ["c"]]


async def test_closing_records_what_is_queued() -> None:
    """`close` waits until all queued requests are recorded."""
    log = StubLog()
    writer = Writer(log)
    tasks = submit(writer, "a")
    await settle()
    tasks += submit(writer, "b", "c")
    await settle()
    closing = asyncio.create_task(writer.close())
    await settle()
    assert not closing.done()
    log.release()
    await closing
    assert log.batches == [["a"], ["b", "c"]]
    assert all(task.result() for task in tasks)


async def test_after_closing_requests_are_refused() -> None:
    """After `close`, new requests and those still waiting for room raise EngineClosed."""
    log = StubLog()
    writer = Writer(log, queued_requests_max=1)
    first, waiting = submit(writer, "a", "b")
    await settle()
    closing = asyncio.create_task(writer.close())
    await settle()
    log.release()
    await closing
    await first
    with pytest.raises(EngineClosed):
        await waiting
    with pytest.raises(EngineClosed):
        await writer.submit(request("c"))
    await writer.close()


async def test_cancelling_the_close_does_not_cancel_the_commit() -> None:
    """Cancelling `close` does not cancel the commit."""
    log = StubLog()
    writer = Writer(log)
    (task,) = submit(writer, "a")
    await settle()
    closing = asyncio.create_task(writer.close())
    await settle()
    closing.cancel()
    await settle()
    log.release()
    assert await task == Recorded((), 1)


async def test_a_log_that_is_cancelled_cancels_every_caller_of_the_batch() -> None:
    """A cancellation inside the log cancels every caller of the batch."""
    log = StubLog()
    log.failure = asyncio.CancelledError()
    log.release()
    writer = Writer(log)
    results = await asyncio.gather(*submit(writer, "a", "b"), return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)


def submit_shielded(writer: Writer, name: str) -> asyncio.Task[ShieldedResult]:
    """Submit a request with `submit_to_the_end`, from a task of its own."""
    return asyncio.create_task(writer.submit_shielded(request(name)))


@pytest.mark.parametrize("queued_requests_max", [1, 100], ids=["waiting for room", "in the queue"])
@pytest.mark.parametrize("times", [1, 3])
async def test_to_the_end_a_cancelled_caller_still_learns_what_was_recorded(
    queued_requests_max: int, times: int
) -> None:
    """`submit_to_the_end` returns the result together with the cancellation, however often the caller is cancelled."""
    log = StubLog()
    writer = Writer(log, queued_requests_max=queued_requests_max)
    (first,) = submit(writer, "a")
    await settle()
    task = submit_shielded(writer, "b")
    await settle()
    for _ in range(times):
        task.cancel()
        await settle()
    log.release()
    recorded, cancelled = await task
    assert (await first, recorded) == (Recorded((), 1), Recorded((), 1))
    assert isinstance(cancelled, asyncio.CancelledError)
    assert log.batches == [["a"], ["b"]]


async def test_to_the_end_in_a_cancelled_scope() -> None:
    """`submit_to_the_end` in a cancelled anyio scope returns the result together with the cancellation."""
    log = StubLog()
    writer = Writer(log)
    finished: list[ShieldedResult] = []
    with anyio.CancelScope() as scope:
        asyncio.get_running_loop().call_soon(scope.cancel)
        asyncio.get_running_loop().call_later(0, log.release)
        finished.append(await writer.submit_shielded(request("a")))
    ((recorded, cancelled),) = finished
    assert recorded == Recorded((), 1)
    assert cancelled is not None
    assert await writer.submit_shielded(request("b")) == (Recorded((), 1), None)


@pytest.mark.parametrize("failure", [StoreUnavailable("gone"), asyncio.CancelledError()])
async def test_to_the_end_a_cancelled_caller_of_a_failed_request_is_cancelled(failure: BaseException) -> None:
    """`submit_to_the_end` of a failed request raises the caller's cancellation with the failure as its cause."""
    log = StubLog()
    log.failure = failure
    writer = Writer(log)
    task = submit_shielded(writer, "a")
    await settle()
    task.cancel()
    await settle()
    log.release()
    with pytest.raises(asyncio.CancelledError) as raised:
        await task
    assert raised.value.__cause__ is failure


async def test_to_the_end_a_failure_is_raised() -> None:
    """`submit_to_the_end` raises the failure of the log if the caller is not cancelled."""
    log = StubLog()
    log.failure = StoreUnavailable("gone")
    log.release()
    with pytest.raises(StoreUnavailable):
        await Writer(log).submit_shielded(request("a"))


async def test_to_the_end_a_cancellation_that_comes_with_the_answer_loses_nothing() -> None:
    """A cancellation that arrives together with the answer is returned with the result by `submit_to_the_end`."""
    log = StubLog()
    writer = Writer(log)
    task = submit_shielded(writer, "a")
    await settle()
    log.answer = lambda name: (task.cancel(), Recorded((), ord(name)))[1]
    log.release()
    recorded, cancelled = await task
    assert recorded == Recorded((), ord("a"))
    assert cancelled is not None


async def test_to_the_end_a_full_queue_makes_callers_wait() -> None:
    """`submit_shielded` keeps to the queue's limit, too, unless it is cancelled."""
    log = StubLog()
    writer = Writer(log, queued_requests_max=2)
    tasks = [submit_shielded(writer, name) for name in "abc"]
    await settle()
    assert log.batches == [["a", "b"]]
    log.release()
    await asyncio.gather(*tasks)
    assert log.batches == [["a", "b"], ["c"]]


async def test_who_is_queued_outlives_a_log_that_is_cancelled() -> None:
    """When the log's task is cancelled, its batch is cancelled and the next queued request is recorded."""
    log = StubLog(batch_requests_max=1)
    writer = Writer(log)
    first, behind = submit_shielded(writer, "a"), submit_shielded(writer, "b")
    await settle()
    recording = next(task for task in asyncio.all_tasks() if "_answers" in repr(task.get_coro()))
    recording.cancel()
    log.release()
    assert await behind == (Recorded((), 1), None)
    with pytest.raises(asyncio.CancelledError):
        await first


@pytest.mark.parametrize("refused", [EngineClosed(), RuntimeError("a fault of the log")])
async def test_a_log_that_refuses_at_once_refuses_every_caller_and_the_next_batch_goes_on(
    monkeypatch: pytest.MonkeyPatch, refused: Exception
) -> None:
    """An error that `append` itself raises reaches every caller of the batch, and the next batch is recorded."""
    log = StubLog()
    log.release()
    writer = Writer(log)

    def refuse(_: Sequence[Request]) -> asyncio.Future[list[Answer]]:
        monkeypatch.undo()
        raise refused

    monkeypatch.setattr(log, "append", refuse)
    assert await asyncio.gather(*submit(writer, "a", "b"), return_exceptions=True) == [refused, refused]
    assert await writer.submit(request("c")) == Recorded((), 1)


async def test_to_the_end_in_front_of_a_closed_writer_a_cancelled_caller_is_cancelled() -> None:
    """A cancelled caller that a closed writer refuses raises its cancellation with EngineClosed as the cause."""
    log = StubLog()
    writer = Writer(log, queued_requests_max=1)
    first, waiting = submit(writer, "a")[0], submit_shielded(writer, "b")
    await settle()
    closing = asyncio.create_task(writer.close())
    await settle()
    waiting.cancel()
    await settle()
    log.release()
    await asyncio.gather(first, closing)
    with pytest.raises(asyncio.CancelledError) as raised:
        await waiting
    assert isinstance(raised.value.__cause__, EngineClosed)


@pytest.mark.parametrize("ending", ["recorded", "failed", "cancelled"])
async def test_to_the_end_a_place_in_the_queue_is_given_back(ending: str) -> None:
    """A request of `submit_shielded` frees its place in the queue however it ends, so the next caller gets it."""
    log = StubLog()
    log.failure = StoreUnavailable("gone") if ending == "failed" else None
    writer = Writer(log, queued_requests_max=1)
    tasks = [submit_shielded(writer, name) for name in "ab"]
    await settle()
    if ending == "cancelled":
        tasks[0].cancel()
    log.release()
    await settle()
    assert log.batches == [["a"], ["b"]]
    await asyncio.gather(*tasks, return_exceptions=True)
