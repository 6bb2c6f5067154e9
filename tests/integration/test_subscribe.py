"""Subscriptions: past events, then new ones of any process, in order, without a gap or a duplicate."""

import asyncio
import itertools
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, Run, Subscription, open_engine
from engine.errors import ReadFailed
from engine.events import BranchForked, ParametersSet, RecordedEvent
from engine.ports import EventFilter
from engine.subscription import POLL_SECONDS, Follower
from tests.faults.children import finished, next_line, start_worker

LOG = logging.getLogger(__name__)


async def _take(events: Subscription, count: int) -> list[RecordedEvent]:
    """Return the next events of a subscription; fail after 30 seconds."""
    async with asyncio.timeout(30):
        return [await anext(events) for _ in range(count)]


async def _positions(events: Subscription, count: int) -> list[int]:
    return [recorded.position for recorded in await _take(events, count)]


async def _write(run: Run, name: str, writes: int) -> None:
    branch = await run.fork(name)
    for value in range(writes):
        await branch.set_parameters({"v": value})


@pytest.mark.parametrize("after", [0, 1, 50, 150])
async def test_catching_up_goes_over_into_following(engine: Engine, after: int) -> None:
    """A subscription yields every event after its position, once and in order, while several tasks write."""
    run = await engine.create_run("r")
    await _write(run, "before", 99)
    async with asyncio.TaskGroup() as tasks:
        read = tasks.create_task(_positions(engine.subscribe(after=after), 101 + 4 * 101 - after))
        for index in range(4):
            tasks.create_task(_write(run, f"during.{index}", 100))
    assert read.result() == list(range(after + 1, 101 + 4 * 101 + 1))


async def test_other_processes_are_followed_too(database: Path, engine: Engine) -> None:
    """Events that three processes and this one write at once arrive as one sequence."""
    await engine.create_run("r")
    own = await engine.create_run("own")
    workers = [await start_worker("write_branches", database, f"w{index}", 4, 50) for index in range(3)]
    async with asyncio.TaskGroup() as tasks:
        read = tasks.create_task(_positions(engine.subscribe(), 2 + 3 * 4 * 51 + 51))
        tasks.create_task(_write(own, "b", 50))
        for worker in workers:
            tasks.create_task(_ended(worker))
    assert read.result() == list(range(1, 2 + 3 * 4 * 51 + 51 + 1))


async def _ended(worker: asyncio.subprocess.Process) -> None:
    await finished(worker)


Wanted = Callable[[RecordedEvent], bool]

FILTERS: dict[str, tuple[dict[str, Any], Wanted]] = {
    "run": ({"run_id": "r"}, lambda e: e.run_id == "r"),
    "root": ({"run_id": "r", "branch": ""}, lambda e: e.run_id == "r" and e.branch == ""),
    "branch": ({"run_id": "r", "branch": "a"}, lambda e: (e.run_id, e.branch) == ("r", "a")),
    "descendants": (
        {"run_id": "r", "branch": "a", "descendants": True},
        lambda e: e.run_id == "r" and e.branch in ("a", "a.early", "a.late", "a.late.later"),
    ),
    "root's descendants": ({"run_id": "r", "branch": "", "descendants": True}, lambda e: e.run_id == "r"),
    "class": ({"types": [BranchForked]}, lambda e: type(e.event) is BranchForked),
    "name": ({"types": ["ParametersSet"]}, lambda e: type(e.event) is ParametersSet),
    "branch and type": (
        {"run_id": "r", "branch": "a", "descendants": True, "types": [ParametersSet]},
        lambda e: e.run_id == "r" and e.branch.split(".")[0] == "a" and type(e.event) is ParametersSet,
    ),
    "no type": ({"types": []}, lambda e: False),
}


async def _family(engine: Engine) -> None:
    """Write two runs with nested branches, some forked late; `a b` only looks like a descendant of `a`."""
    for run_id in ("r", "s"):
        run = await engine.run(run_id)
        a, other = await run.branch("a"), await run.fork("a b")
        late = await a.fork("late")
        later = await late.fork("later")
        for branch in (run, a, other, late, later, await run.branch("a.early")):
            await branch.set_parameters({"v": branch.name})


@pytest.mark.parametrize("case", FILTERS)
async def test_a_filter_lets_through_what_it_names(engine: Engine, case: str) -> None:
    """`events` and `subscribe` select by run, by branch, by its descendants, also later ones, and by type."""
    arguments, wanted = FILTERS[case]
    for run_id in ("r", "s"):
        await (await (await engine.create_run(run_id)).fork("a")).fork("early")
    live = engine.subscribe(**arguments)
    first = asyncio.create_task(_positions(live, 1))  # it starts before anything else is written
    await _family(engine)
    expected = [recorded.position async for recorded in engine.events() if wanted(recorded)]
    assert [recorded.position async for recorded in engine.events(**arguments)] == expected
    if expected:
        assert [*await first, *await _positions(live, len(expected) - 1)] == expected
    first.cancel()


async def test_a_block_ends_its_subscription(engine: Engine) -> None:
    """Leaving the `async with` block of a subscription ends it."""
    await engine.create_run("r", parameters={"x": 1})
    async with engine.subscribe(run_id="r") as events:
        assert (await anext(events)).position == 1
    assert [recorded async for recorded in events] == []


async def test_a_branch_of_a_forked_run_is_no_descendant(engine: Engine) -> None:
    """A run forked from a branch is no descendant of that branch."""
    run = await engine.create_run("r")
    branch = await run.fork("a")
    copy = await engine.fork_run("r", run_id="copy", branch="a")
    await copy.set_parameters({"v": 1})
    await branch.set_parameters({"v": 1})
    found = [e async for e in engine.events(run_id="r", branch="a", descendants=True)]
    assert {(e.run_id, e.branch) for e in found} == {("r", "a")}
    assert len(found) == 2


async def test_a_slow_subscriber_misses_nothing(engine: Engine) -> None:
    """A subscription yields all events that were recorded since the last one was taken."""
    run = await engine.create_run("r")
    events = engine.subscribe()
    assert await _positions(events, 1) == [1]
    await asyncio.gather(*(run.set_parameters({"v": value}) for value in range(3000)))
    assert await _positions(events, 3000) == list(range(2, 3002))
    await events.aclose()


async def test_many_subscribers_each_see_all(engine: Engine) -> None:
    """A hundred subscriptions from different positions each yield every event after theirs."""
    run = await engine.create_run("r")
    async with asyncio.TaskGroup() as tasks:
        reads = [tasks.create_task(_positions(engine.subscribe(after=n), 201 - n)) for n in range(100)]
        tasks.create_task(_write(run, "b", 199))
    assert [read.result() for read in reads] == [list(range(n + 1, 202)) for n in range(100)]


async def test_a_position_that_is_yet_to_come_is_waited_for(engine: Engine) -> None:
    """A subscription may start after a position that the log has not reached."""
    run = await engine.create_run("r")
    async with asyncio.TaskGroup() as tasks:
        read = tasks.create_task(_positions(engine.subscribe(after=5), 1))
        tasks.create_task(_write(run, "b", 10))
    assert read.result() == [6]


async def test_other_processes_wake_a_subscriber(
    database: Path, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """A waiting subscription yields each write of another process; the delay is only logged."""
    await engine.create_run("r")
    events = engine.subscribe(after=1)
    worker = await start_worker("stamp", database, 20)
    assert worker.stdin is not None
    delays = []
    for _ in range(20):
        worker.stdin.write(b"\n")
        [recorded] = await _take(events, 1)
        assert isinstance(recorded.event, ParametersSet)
        delays.append(time.monotonic() - recorded.event.values["at"].value)
        assert await next_line(worker) == "written"
    await events.aclose()
    await finished(worker)
    with caplog.at_level(logging.INFO):
        LOG.info("woken after %.1f ms (median), %.1f ms (most)", sorted(delays)[10] * 1000, max(delays) * 1000)
    assert len(delays) == 20


async def test_a_subscription_goes_on_where_one_was_left(database: Path) -> None:
    """A subscription after the last position handled misses nothing, also in another engine."""
    seen: list[int] = []
    for _ in range(4):
        async with open_engine(database) as engine:
            await _write(await engine.create_run("r", exist_ok=True), f"b{len(seen)}", 4)
            seen += await _positions(engine.subscribe(after=seen[-1] if seen else 0), 5)
    assert seen == list(range(1, 21))


async def _listen(engine: Engine) -> None:
    async for _ in engine.subscribe(after=1):
        pass


async def test_other_processes_are_followed_after_every_task_was_cancelled(database: Path, engine: Engine) -> None:
    """A subscription made after every task was cancelled still sees other processes' events.

    Graceful shutdowns cancel all tasks, the engine's polling task included.
    """
    await engine.create_run("r")
    listening, tasks = asyncio.create_task(_listen(engine)), set[asyncio.Task[Any]]()
    while len(tasks) < 2:  # until the task that polls for other processes' events exists
        await asyncio.sleep(0)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    following = asyncio.ensure_future(_take(engine.subscribe(after=1), 1))
    async with open_engine(database) as other:  # like another process: its writes do not wake this engine
        await (await other.run("r")).set_parameters({"x": 1})
    assert [recorded.position for recorded in await following] == [2]


async def _eagerly(database: Path) -> list[int]:
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
    async with open_engine(database) as engine, open_engine(database) as other:
        await engine.create_run("r")
        following = asyncio.ensure_future(_take(engine.subscribe(after=1), 1))
        await (await other.run("r")).set_parameters({"x": 1})
        return [recorded.position for recorded in await following]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks are eager from 3.12 on")
def test_other_processes_are_followed_with_eager_tasks(database: Path) -> None:
    """With eager tasks a subscription still sees other processes' events."""
    assert asyncio.run(_eagerly(database)) == [2]


class _FailingLog:
    """A log whose position cannot be read at first."""

    def __init__(self, failures: int) -> None:
        self.failures = itertools.repeat(None, failures)
        self.reads = 0

    def on_append(self, callback: Callable[[], None]) -> None:
        pass

    async def last_position(self) -> int:
        for _ in self.failures:
            raise ReadFailed(Path("runs.db"), "disk I/O error")
        return self.reads

    async def read(self, _events: EventFilter, after: int, _until: int | None, _limit: int) -> tuple[list[Any], int]:
        self.reads += 1
        return ([self.reads], after + 1) if self.reads > 3 else ([], after)


async def test_polling_survives_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    """A subscription goes on after failed reads of the log's position."""
    follower = Follower(_FailingLog(failures=2))  # type: ignore[arg-type]
    events = follower.follow(EventFilter(), 0)
    async with asyncio.timeout(30):
        found: Any = await anext(events)
    assert found == 4
    await events.aclose()
    await follower.close()
    assert "polling failed" in caplog.text


class _GrowingLog:
    """A log that another process writes to while a subscriber's first read ends without an event."""

    def __init__(self) -> None:
        self.position = self.polls = 0
        self.polled, self.noticed = asyncio.Event(), asyncio.Event()

    def on_append(self, callback: Callable[[], None]) -> None:
        pass

    async def last_position(self) -> int:
        self.polls += 1
        self.polled.set()
        if self.position and not self.noticed.is_set():
            asyncio.get_running_loop().call_soon(self.noticed.set)
        return self.position

    async def read(self, events: EventFilter, after: int, _until: int | None, _limit: int) -> tuple[list[Any], int]:
        if events.run_id == "waiting":
            return [], self.position
        if not self.position:
            self.position = 1
            await self.noticed.wait()
            return [], after
        return [self.position], self.position


async def test_what_is_recorded_between_reading_and_waiting_is_found() -> None:
    """A subscriber finds an event that was noticed after it had read and before it began to wait."""
    log = _GrowingLog()
    follower = Follower(log)  # type: ignore[arg-type]
    other = asyncio.ensure_future(anext(follower.follow(EventFilter(run_id="waiting"), 0)))
    await log.polled.wait()
    async with asyncio.timeout(30):
        found: Any = await anext(follower.follow(EventFilter(), 0))
    assert found == 1
    await follower.close()
    with pytest.raises(StopAsyncIteration):
        await other


async def test_nobody_polls_for_nobody() -> None:
    """Once nobody waits for events any more, the log is no longer polled."""
    log = _GrowingLog()
    follower = Follower(log)  # type: ignore[arg-type]
    waiting = asyncio.ensure_future(anext(follower.follow(EventFilter(run_id="waiting"), 0)))
    await log.polled.wait()
    waiting.cancel()
    await asyncio.wait({waiting})
    before = log.polls
    await asyncio.sleep(5 * POLL_SECONDS)
    assert log.polls <= before + 1
    await follower.close()


async def test_who_gives_up_waiting_loses_nothing(engine: Engine) -> None:
    """Cancelling a wait for the next event loses no event and does not end the subscription."""
    run = await engine.create_run("r")
    events, given_up = engine.subscribe(), 0
    found: list[int] = []
    writing = asyncio.ensure_future(_set_one_by_one(run, 30))
    while len(found) < 31:
        waiting = asyncio.ensure_future(anext(events))
        for _ in range(given_up % 4):
            await asyncio.sleep(0)
        waiting.cancel()
        try:
            found.append((await waiting).position)
        except asyncio.CancelledError:
            given_up += 1
            found += await _positions(events, 1) if given_up % 8 == 0 else []
    await writing
    assert found == list(range(1, 32))
    assert given_up > 0


async def test_the_engines_own_writes_wake_a_subscriber_at_once(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A subscriber gets what its own engine records without waiting for the next poll of the file."""
    monkeypatch.setattr("engine.subscription.POLL_SECONDS", 3600)
    run = await engine.create_run("r")
    async with asyncio.timeout(60), engine.subscribe(after=1) as events:
        for value in range(3):
            waiting = asyncio.ensure_future(anext(events))
            await engine.last_position()  # meanwhile the subscriber begins to wait
            await run.set_parameters({"a": value})
            assert (await waiting).position == value + 2


async def _set_one_by_one(run: Run, count: int) -> None:
    for value in range(count):
        await run.set_parameters({"v": value})


async def test_several_may_take_from_one_subscription(engine: Engine) -> None:
    """Of several tasks that take from one subscription, each event reaches exactly one."""
    run = await engine.create_run("r")
    events = engine.subscribe()
    taking = [asyncio.create_task(_take(events, 50)) for _ in range(4)]
    await _set_one_by_one(run, 199)
    taken = [recorded.position for found in await asyncio.gather(*taking) for recorded in found]
    assert sorted(taken) == list(range(1, 201))


async def test_a_subscription_that_was_closed_has_ended(engine: Engine) -> None:
    """A closed subscription yields nothing, although events exist."""
    await engine.create_run("r")
    events = engine.subscribe()
    await events.aclose()
    assert [event async for event in events] == []
