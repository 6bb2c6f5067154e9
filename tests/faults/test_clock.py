"""Clocks that jump: order is by position, no duration is negative, and nothing is deleted before its time."""

import asyncio
import itertools
import random
import re
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, Run, open_engine
from engine.cli import main
from engine.commands import CreateAttempt, LogTask
from engine.errors import PointNotFound
from engine.events import RecordedEvent
from engine.model import COMPLETED, FAILED, TaskSpec
from engine.point import Position
from engine.removal import Collected, Expiry
from engine.stores import StateStore
from tests.faults.audit import assert_whole
from tests.faults.jumping_clock import MOMENTS, TODAY, JumpingClock

DAY = timedelta(days=1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> JumpingClock:
    clock = JumpingClock()
    clock.install(monkeypatch)
    return clock


async def _write(run: Run, name: str, events: int) -> None:
    branch = await run.fork(name)
    for value in range(events - 1):
        await branch.set_parameters({"value": value})


async def _followed(engine: Engine, events: int) -> list[RecordedEvent]:
    found = []
    async for recorded in engine.subscribe():
        found.append(recorded)
        if len(found) == events:
            break
    return found


@pytest.mark.parametrize("events", [60, pytest.param(2500, marks=pytest.mark.slow)])
async def test_order_is_by_position(database: Path, engine: Engine, clock: JumpingClock, events: int) -> None:
    """While the clock jumps, eight writers get gapless positions, and a subscriber sees every event in their order."""
    chance = random.Random(1)
    run = await engine.create_run("r")
    following = asyncio.create_task(_followed(engine, 1 + 8 * events))
    writing = [asyncio.create_task(_write(run, f"b{index}", events)) for index in range(8)]
    while not all(task.done() for task in writing):
        clock.jump(chance.choice(MOMENTS))
        await asyncio.sleep(0)
    await asyncio.gather(*writing)
    found = await following
    assert [recorded.position for recorded in found] == list(range(1, len(found) + 1))
    assert found == [recorded async for recorded in engine.events()]
    assert len({recorded.event_id for recorded in found}) == len(found)
    times = [recorded.recorded_at for recorded in found]
    assert times != sorted(times)
    assert len({moment.year for moment in times}) > 3
    assert (await engine.verify()).problems == []
    assert await engine.verify_views() == []
    assert_whole(database)


async def test_ids_are_unique_while_the_clock_stands(engine: Engine, clock: JumpingClock) -> None:
    """Event ids are unique even when times repeat."""
    run = await engine.create_run("r")
    for index in range(200):
        clock.jump(MOMENTS[index % len(MOMENTS)])
        await run.set_parameters({"value": index})
    ids = [recorded.event_id async for recorded in engine.events()]
    assert len(set(ids)) == len(ids) == 201


async def test_a_time_means_the_last_event_recorded_by_then(engine: Engine, clock: JumpingClock) -> None:
    """A read at a time is a read at the last version recorded by then, whatever the times of the versions before it."""
    run = await engine.create_run("r")
    for value, moment in enumerate(random.Random(2).choices(MOMENTS, k=40)):
        clock.jump(moment)
        await run.set_parameters({"value": value})
    events = [recorded async for recorded in engine.events()]
    for moment in (each + shift for each in MOMENTS for shift in (-DAY, timedelta(), DAY)):
        expected = max((each.stream_version for each in events if each.recorded_at <= moment), default=0)
        if expected:
            assert (await run.head(at=moment)).stream_version == expected
            assert await run.parameters(at=moment) == await run.parameters(at=expected)
            assert await run.compile(at=moment) == await run.compile(at=expected)
        else:
            with pytest.raises(PointNotFound):
                await run.parameters(at=moment)


@pytest.fixture
async def tried(database: Path, clock: JumpingClock) -> Path:
    """A run with a task and an attempt for any three moments, at which it was created, submitted and ended."""
    async with open_engine(database, durability="relaxed") as engine:
        run = await engine.create_run("r")
        await run.write(LogTask(task_id="t", spec=TaskSpec()))
        for index, moments in enumerate(itertools.permutations(MOMENTS, 3)):
            await _try(run, clock, f"a{index}", moments)
        clock.jump(MOMENTS[3])
        await run.finalize(FAILED)
    return database


async def _try(run: Run, clock: JumpingClock, attempt_id: str, moments: tuple[datetime, ...]) -> None:
    steps: tuple[Callable[[], Awaitable[object]], ...] = (
        lambda: run.write(CreateAttempt(task_id="t", attempt_id=attempt_id)),
        lambda: attempt.update(status="SUBMITTED", external_id="job"),
        lambda: attempt.finish(FAILED),
    )
    for moment, step in zip(moments, steps, strict=True):
        clock.jump(moment)
        await step()
        attempt = await run.find_attempt(attempt_id)


async def test_no_attempt_lasts_less_than_no_time(tried: Path) -> None:
    """In every view, an attempt is submitted no earlier than it was created, and ended no earlier than that."""
    async with open_engine(tried) as engine:
        run = await engine.run("r")
        attempts = [*await run.attempts(), *await run.attempts(at=Position(await engine.last_position()))]
        stored: list[Any] = await StateStore(engine).list_attempts("t", "r")
        assert len(attempts) == 2 * len(stored) == 2 * 120
        for each in (*attempts, *stored):
            assert each.submitted_at is not None
            assert each.ended_at is not None
            assert each.created_at <= each.submitted_at <= each.ended_at
        assert await StateStore(engine).find_orphaned_attempts("r") == []
        assert await engine.verify_views() == []
    with closing(sqlite3.connect(tried)) as connection:
        backwards = "SELECT count(*) FROM task_attempts WHERE ended_at < submitted_at OR submitted_at < created_at"
        assert connection.execute(backwards).fetchone() == (0,)


async def test_what_a_caller_says_of_times_is_kept(engine: Engine, clock: JumpingClock) -> None:
    """Times that a caller gives are kept; only those that the engine stamps itself are put in order."""
    run = await engine.create_run("r")
    attempt = await run.start_attempt("step")
    await attempt.update(status=FAILED, submitted_at=TODAY, ended_at=TODAY - DAY)
    log = await attempt.log()
    assert (log.submitted_at, log.ended_at) == (TODAY, TODAY - DAY)


_COMMANDS = (
    "runs", "show r", "steps r", "attempts r", "tasks r", "explain r", "events r", "verify", "doctor", "checkpoint",
)  # fmt: skip


def test_no_command_shows_a_duration_below_zero(tried: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every reading command succeeds and prints no negative number."""
    for command in _COMMANDS:
        code = main([*command.split(), "--db", str(tried)])
        printed = capsys.readouterr()
        assert code == 0, printed.err
        assert re.findall(r"(?<![\w.:-])-\d.*", printed.out) == [], command


def test_evidence_of_a_run_whose_clock_jumped(tried: Path, tmp_path: Path) -> None:
    """Evidence of a run can be exported although its clock jumped."""
    folder = str(tmp_path / "evidence")
    assert main(["export", "evidence", "r", "--to", folder, "--db", str(tried)]) == 0


async def _ended(engine: Engine, clock: JumpingClock, run_id: str, moment: datetime) -> None:
    """Create and end a run at a moment."""
    clock.jump(moment)
    await (await engine.create_run(run_id)).set_status(COMPLETED)


async def _collected(engine: Engine, clock: JumpingClock, now: datetime) -> set[str]:
    """Return the runs that a collection of everything older than thirty days would delete."""
    clock.jump(now)
    found = await engine.collect(now - 30 * DAY, dry_run=True)
    return {run.run_id for run in found.deleted}


@pytest.mark.parametrize("back", MOMENTS[2:5])
async def test_a_run_that_ended_while_the_clock_was_set_back_is_not_old(
    engine: Engine, clock: JumpingClock, back: datetime
) -> None:
    """A run that ended while the clock was set back is no older than the events before it in the log."""
    await _ended(engine, clock, "old", TODAY - 60 * DAY)
    await _ended(engine, clock, "new", TODAY)
    await _ended(engine, clock, "back", back)
    await _ended(engine, clock, "newer", TODAY + DAY)
    assert await _collected(engine, clock, TODAY + DAY) == {"old"}
    assert {run.run_id for run in (await engine.collect(TODAY - 29 * DAY)).deleted} == {"old"}
    assert await _collected(engine, clock, TODAY + 40 * DAY) == {"new", "back", "newer"}


async def test_a_time_that_is_yet_to_come_ends_nothing_but_itself(engine: Engine, clock: JumpingClock) -> None:
    """A run that ended in the future is kept until then, and keeps no other run from being collected."""
    await _ended(engine, clock, "ahead", MOMENTS[-1])
    await _ended(engine, clock, "old", TODAY - 60 * DAY)
    await _ended(engine, clock, "new", TODAY)
    assert await _collected(engine, clock, TODAY) == {"old"}
    assert await _collected(engine, clock, TODAY + 40 * DAY) == {"old", "new"}


async def test_a_run_that_goes_on_while_the_clock_is_set_back_is_kept(
    engine: Engine, clock: JumpingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is written to between its selection and its deletion is kept, even if the clock was set back."""
    await _ended(engine, clock, "r", TODAY - 60 * DAY)
    expired = engine._removal.expired

    async def going_on(expiry: Expiry) -> Collected:
        found = await expired(expiry)
        clock.jump(MOMENTS[3])
        await (await engine.run("r")).set_parameters({"a": 1})
        return found

    monkeypatch.setattr(engine._removal, "expired", going_on)
    found = await engine.collect(TODAY - 30 * DAY)
    assert (found.deleted, [*found.kept]) == ([], ["r"])


async def test_a_checkpoint_of_another_time_proves_what_it_saw(engine: Engine, clock: JumpingClock) -> None:
    """Verification tells what was added and deleted after a checkpoint by order, not by the clock."""
    for index, moment in enumerate(MOMENTS):
        await _ended(engine, clock, f"r{index}", moment)
    checkpoint = await engine.checkpoint()
    clock.jump(MOMENTS[3])
    await engine.delete_run("r1", "why")
    await engine.create_run("later")
    verified = await engine.verify(since=checkpoint)
    assert [(problem.kind, problem.run_id) for problem in verified.problems] == [("deleted", "r1")]
