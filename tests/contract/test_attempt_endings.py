"""How attempts end: with their block, from elsewhere, by cancellation, or with an end that cannot be recorded."""

import asyncio
import fcntl
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio.lowlevel
import pytest
from typing_extensions import override

from engine import Branch, Engine, Run, open_engine
from engine.errors import AlreadyEntered, StoreBusy
from engine.stores import StateStore


async def _never_ending(branch: Branch, step: str) -> None:
    async with branch.attempt(step):
        await anyio.sleep_forever()


async def test_an_attempt_that_is_cancelled_while_it_starts_does_not_stay_running(engine: Engine) -> None:
    """A caller that is cancelled while it starts an attempt leaves no attempt, or one with status CANCELLED."""
    run = await engine.create_run("r")
    for turns in range(60):
        task = asyncio.ensure_future(_never_ending(run, f"step {turns}"))
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert {attempt.status for attempt in await run.attempts()} <= {"CANCELLED"}


async def _failing_behind_a_lock(branch: Branch, database: Path, error: BaseException) -> None:
    with database.with_name(f"{database.name}-lock").open("rb") as file:
        async with branch.attempt("s"):
            fcntl.flock(file, fcntl.LOCK_EX)
            raise error


@pytest.mark.parametrize("error", [ValueError("no convergence"), asyncio.CancelledError()])
async def test_what_the_block_raises_is_raised_even_when_its_outcome_cannot_be_recorded(
    database: Path, error: BaseException
) -> None:
    """When the outcome cannot be recorded, the block's own error is raised, with the store's error in a note."""
    async with open_engine(database, busy_timeout=0.05) as engine:
        run = await engine.create_run("r")
        with pytest.raises(type(error)) as raised:
            await _failing_behind_a_lock(run, database, error)
        assert StoreBusy.__name__ in raised.value.__notes__[0]


@pytest.mark.parametrize("end", ["finish", "update"])
@pytest.mark.parametrize("turns", range(4))
async def test_an_attempt_that_its_block_finished_is_left_as_it_is(engine: Engine, end: str, turns: int) -> None:
    """A block that is cancelled while it ends its attempt leaves that end recorded and raises the cancellation."""
    run = await engine.create_run("r")
    finishing = asyncio.Event()

    async def work() -> None:
        async with run.attempt("s") as attempt:
            finishing.set()
            if end == "finish":
                await attempt.finish("COMPLETED", "exit code 0")
            else:
                await attempt.update(status="COMPLETED", status_reason="exit code 0")

    task = asyncio.create_task(work())
    await finishing.wait()
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (attempt_log,) = await run.attempts()
    assert (attempt_log.status, attempt_log.status_reason) == ("COMPLETED", "exit code 0")


class Wordless(Exception):
    """An error whose `str()` raises."""

    @override
    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"


async def test_an_error_without_a_text_ends_the_attempt_too(engine: Engine) -> None:
    """An error whose text cannot be made is raised and fails the attempt; the reason names the error of its `str()`."""
    run = await engine.create_run("r")
    with pytest.raises(Wordless):
        async with run.attempt("s"):
            raise Wordless("alone")
    (attempt_log,) = await run.attempts()
    assert attempt_log.status == "FAILED"
    assert attempt_log.status_reason == "Wordless: (its message cannot be formatted: IndexError)"


async def test_an_attempt_that_somebody_else_ended_is_left_as_it_is(engine: Engine) -> None:
    """The end of a block changes neither an attempt that was finished from elsewhere meanwhile nor its step."""
    run = await engine.create_run("r")
    async with run.attempt("s") as attempt:
        elsewhere = await run.find_attempt(attempt.attempt_id)
        await elsewhere.finish("CANCELLED", "the node was drained")
    log = await attempt.log()
    assert (log.status, log.status_reason) == ("CANCELLED", "the node was drained")
    assert (await run.step("s")).status == "CANCELLED"


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_any_status_ends_an_attempt(engine: Engine, elsewhere: bool) -> None:  # noqa: FBT001 - pytest passes it
    """Any status given to `finish`, also a host's own, ends the attempt; the block keeps it, with the end's time."""
    run = await engine.create_run("r")
    async with run.attempt("s") as attempt:
        ending = await run.find_attempt(attempt.attempt_id) if elsewhere else attempt
        await ending.finish("TIMED_OUT", "walltime")
    log = await attempt.log()
    assert (log.status, log.status_reason, (await run.step("s")).status) == ("TIMED_OUT", "walltime", "TIMED_OUT")
    assert log.ended_at is not None


async def test_any_status_ends_an_attempt_whose_step_does_not_change(engine: Engine) -> None:
    """A host's own status ends an attempt also when the step does not change.

    The step does not change when another attempt is its current one, or when it has that status already.
    """
    run = await engine.create_run("r")
    async with run.attempt("s") as attempt:
        await run.start_attempt("s")
        await (await run.find_attempt(attempt.attempt_id)).finish("TIMED_OUT", "too long")
    async with run.attempt("t") as other:
        await run.set_step_status("t", "TIMED_OUT")
        await (await run.find_attempt(other.attempt_id)).finish("TIMED_OUT", "too long")
    for each in (attempt, other):
        log = await each.log()
        assert (log.status, log.status_reason, log.ended_at is not None) == ("TIMED_OUT", "too long", True)
    assert await engine.verify_views() == []


@pytest.mark.parametrize("first", ["FAILED", "TIMED_OUT"])
async def test_any_status_after_an_end_reopens_the_attempt(engine: Engine, first: str) -> None:
    """An attempt that gets any other status after its end is open again and ends with its block."""
    run = await engine.create_run("r")
    async with run.attempt("s") as attempt:
        other = await run.find_attempt(attempt.attempt_id)
        await other.finish(first)
        for word in ("RUNNING", "UPLOADING"):
            await other.update(status=word)
        assert (await attempt.log()).ended_at is None
    assert ((await attempt.log()).status, (await run.step("s")).status) == ("COMPLETED", "COMPLETED")


async def test_an_attempt_that_ended_with_any_status_is_not_active(engine: Engine) -> None:
    """An attempt that `finish` ended with a host's own status is not active; one merely updated to such a status is."""
    run = await engine.create_run("r")
    going_on, ended = await run.start_attempt("s", operator_key="k8s"), await run.start_attempt("t", operator_key="k8s")
    await going_on.update(status="UPLOADING")
    await ended.finish("TIMED_OUT")
    store = StateStore(engine)
    assert await store.count_active_attempts_by_operator("r") == {"k8s": 1}
    assert [each.attempt_id for each in await store.get_active_attempts("r")] == [going_on.attempt_id]


async def test_an_attempt_that_was_taken_up_again_ends_with_its_block(engine: Engine) -> None:
    """An attempt set to RUNNING again after its end completes with its block."""
    run = await engine.create_run("r")
    async with run.attempt("s") as attempt:
        other = await run.find_attempt(attempt.attempt_id)
        await other.finish("TIMED_OUT")
        await other.update(status="RUNNING")
    assert (await attempt.log()).status == "COMPLETED"


async def test_a_block_of_a_retried_start_does_not_take_back_a_success(engine: Engine) -> None:
    """A block entered under the idempotency key of a completed attempt leaves it completed, even when it fails."""
    run = await engine.create_run("r")
    async with run.attempt("s", idempotency_key="k"):
        pass
    with pytest.raises(ValueError, match="again"):
        async with run.attempt("s", idempotency_key="k"):
            raise ValueError("again")
    assert [each.status for each in await run.attempts()] == ["COMPLETED"]


async def test_an_end_without_a_reason_leaves_none_of_an_earlier_status(engine: Engine) -> None:
    """`finish` without a reason removes the reason of the earlier status."""
    run = await engine.create_run("r")
    attempt = await run.start_attempt("s")
    await attempt.update(status="QUEUED", status_reason="waits for a node")
    await attempt.finish()
    log = await attempt.log()
    assert (log.status, log.status_reason) == ("COMPLETED", None)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("x"), "ValueError: x"),
        (ValueError(), "ValueError"),
        (
            ExceptionGroup("unhandled errors", [ValueError("a"), ExceptionGroup("below", [KeyError("b")]), OSError()]),
            "ValueError: a; KeyError: 'b'; OSError",
        ),
    ],
)
async def test_the_reason_says_what_went_wrong(engine: Engine, error: Exception, reason: str) -> None:
    """The status reason gives the error's type and text; for an exception group, those of every leaf."""
    run = await engine.create_run("r")
    with pytest.raises(type(error)):
        async with run.attempt("s"):
            raise error
    (log,) = await run.attempts()
    assert log.status_reason == reason


_NO_MESSAGE = "cancelled from outside, perhaps by a timeout, a task group or a shutdown"


async def _cancelled_from_outside(run: Run, message: str | None) -> None:
    async with run.attempt("s"):
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_soon(task.cancel, message)
        await anyio.sleep_forever()


async def _timed_out(run: Run) -> None:
    async with asyncio.timeout(None) as limit, run.attempt("s"):
        limit.reschedule(0)
        await anyio.sleep_forever()


async def _awaiting_something_cancelled(run: Run) -> None:
    async with run.attempt("s"):
        other = asyncio.create_task(asyncio.Event().wait())
        other.cancel("no more of it")
        await other


@pytest.mark.parametrize(
    ("work", "reason"),
    [
        (lambda run: _cancelled_from_outside(run, None), _NO_MESSAGE),
        (lambda run: _cancelled_from_outside(run, "node 7 drains"), "cancelled from outside: node 7 drains"),
        (_timed_out, _NO_MESSAGE),
        (_awaiting_something_cancelled, "awaited something that was cancelled: no more of it"),
    ],
)
async def test_the_reason_says_what_was_cancelled(
    engine: Engine, work: Callable[[Run], Awaitable[None]], reason: str
) -> None:
    """The reason of a cancelled attempt tells whether the block or what it awaited was cancelled, and the message."""
    run = await engine.create_run("r")
    with pytest.raises((asyncio.CancelledError, TimeoutError)):
        await work(run)
    (log,) = await run.attempts()
    assert (log.status, log.status_reason) == ("CANCELLED", reason)


async def test_a_block_serves_once(engine: Engine) -> None:
    """Entering the block of an attempt a second time raises AlreadyEntered and starts no second attempt."""
    run = await engine.create_run("r")
    block = run.attempt("s")
    async with block:
        with pytest.raises(AlreadyEntered, match="the block of an attempt was already entered"):
            await block.__aenter__()
    assert [each.status for each in await run.attempts()] == ["COMPLETED"]
