"""Reads as of a point against logs that really end there: files cut after it, with rebuilt views."""

import asyncio
import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import Branch, Engine, Parameter, Position, RecordedEvent, open_engine
from engine.events import (
    AttemptCreated,
    AttemptUpdated,
    Event,
    RunForked,
    StepLogged,
    StepRemoved,
    StepStatusChanged,
)
from engine.model import AttemptDocument, Origin
from engine.point import Point
from tests.property.drawn import ATTEMPTS, SOME_PARAMETERS, STATUSES, STEPS

QUICK = settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.too_slow])
MANY = settings(QUICK, max_examples=300)

KINDS = ("fork", "fork_run", "set", "log_step", "log_step", "status", "remove", "attempt", "finish", "reduce", "run")
MOVES = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 20), SOME_PARAMETERS, STEPS, STATUSES, ATTEMPTS),
    min_size=4,
    max_size=22,
)
CHOICES = st.lists(st.integers(0, 10_000), min_size=1, max_size=3)
Move = tuple[str, int, dict[str, Parameter], str, str, list[AttemptDocument]]
Reads = dict[str, str]


class Grower:
    """Makes a move on one of the open branches, or none where it does not apply."""

    def __init__(self, engine: Engine, first: Branch) -> None:
        self.engine = engine
        self.branches = [first]

    async def make(self, move: Move) -> None:
        kind, choice, values, step, status, attempts = move
        branch = self.branches[choice % len(self.branches)]
        match kind:
            case "run":
                self.branches.append(await self.engine.create_run(f"r{len(self.branches)}", parameters=values))
            case "fork":
                self.branches.append(await branch.fork(f"b{len(self.branches)}"))
            case "fork_run":
                version = 1 + choice % (await branch.head()).stream_version
                name = f"r{len(self.branches)}"
                forked = self.engine.fork_run(branch.run_id, run_id=name, branch=branch.name, at=version)
                self.branches.append(await forked)
            case "set" if values:
                await branch.set_parameters(values)
            case "log_step":
                await branch.log_step(step, status=status, attempts=attempts)
            case "status":
                await branch.set_status(status)
            case "reduce":
                await branch.reduce()
            case _:
                await self._step(branch, kind, step, status)

    async def _step(self, branch: Branch, kind: str, step: str, status: str) -> None:
        if kind == "attempt":
            await branch.start_attempt(step, status=status)
        elif step not in await branch.steps():
            return
        elif kind == "remove":
            await branch.remove_step(step)
        elif kind == "finish":
            await branch.set_step_status(step, status, "why")


async def grow(path: Path, moves: list[Move]) -> None:
    async with open_engine(path, durability="relaxed") as engine:
        grower = Grower(engine, await engine.create_run("r0"))
        for move in moves:
            await grower.make(move)


def cut(path: Path, position: int) -> Path:
    """Return a copy of a closed file that ends at a position; its views are still to be rebuilt."""
    shorter = path.with_name(f"until-{position}.db")
    shutil.copyfile(path, shorter)
    with contextlib.closing(sqlite3.connect(shorter)) as connection, connection:
        connection.execute("DELETE FROM events WHERE position > ?", (position,))
        connection.execute("DELETE FROM streams WHERE stream_id NOT IN (SELECT stream_id FROM events)")
        connection.execute(
            "UPDATE streams SET (version, hash) = (SELECT stream_version, hash FROM events"
            " WHERE events.stream_id = streams.stream_id ORDER BY position DESC LIMIT 1)"
        )
    return shorter


async def all_reads(engine: Engine, run_id: str, branch_name: str, *, at: Point, run_at: Point) -> Reads:
    """Return every read of a branch and of its run, as texts, in which every NaN is the same."""
    run = await engine.run(run_id)
    branch = await run.branch(branch_name)
    parameters = await branch.parameters(at=at)
    own = await branch.parameters(at=at, inherited=False)
    steps = await branch.steps(at=at)
    reads = {
        "parameters": (parameters, own, await branch.sources(at=at), await branch.head(at=at)),
        "steps": (steps, [await branch.step(step, at=at) for step in steps]),
        "attempts": (await branch.attempts(at=at), [await branch.attempts(step, at=at) for step in steps]),
        "children": await branch.children(at=at),
        "branch": await branch.compile(at=at),
        "branch alone": await branch.compile(at=at, nested=False, inherited=False),
        "run": await run.compile(at=run_at),
        "info": await run.info(at=run_at),
        "all attempts": await run.all_attempts(at=run_at),
    }
    return {name: repr(read) for name, read in reads.items()}


def check(use: Callable[[Path], Coroutine[Any, Any, None]]) -> None:
    """Call `use` with a path in a temporary folder, in an event loop of its own."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(use(Path(folder) / "runs.db"))


async def check_prefixes(path: Path, moves: list[Move], choices: list[int]) -> None:
    await grow(path, moves)
    async with open_engine(path) as engine:
        events = [recorded async for recorded in engine.events()]
    chosen = {events[choice % len(events)].position: events[choice % len(events)] for choice in choices}
    expected = {}
    for position, recorded in chosen.items():
        async with open_engine(cut(path, position)) as engine:
            await engine.rebuild()
            expected[position] = await all_reads(engine, recorded.run_id, recorded.branch, at=None, run_at=None)
    async with open_engine(path) as engine:
        for position, recorded in chosen.items():
            here = Position(position)
            for point in (here, recorded.stream_version):
                found = await all_reads(engine, recorded.run_id, recorded.branch, at=point, run_at=here)
                assert found == expected[position]


@QUICK
@given(MOVES, CHOICES)
def test_every_read_at_n_is_the_read_of_a_log_that_ends_there(moves: list[Move], choices: list[int]) -> None:
    """Every read at a position or a version equals the same read of a log that ends there."""
    check(lambda path: check_prefixes(path, moves, choices))


@pytest.mark.slow
@MANY
@given(MOVES, CHOICES)
def test_many_logs_and_their_beginnings(moves: list[Move], choices: list[int]) -> None:
    """In many more logs, every read at a position or a version equals the same read of a log that ends there."""
    check(lambda path: check_prefixes(path, moves, choices))


async def check_now_and_times(path: Path, moves: list[Move]) -> None:
    await grow(path, moves)
    async with open_engine(path) as engine:
        events = [recorded async for recorded in engine.events()]
        last = Position(events[-1].position)
        for run_id, branch in {(each.run_id, each.branch) for each in events}:
            now = await all_reads(engine, run_id, branch, at=None, run_at=None)
            assert await all_reads(engine, run_id, branch, at=last, run_at=last) == now
            moment = events[len(events) // 2].recorded_at
            by_then = [each for each in events if each.run_id == run_id and each.recorded_at <= moment]
            if any(each.branch == branch for each in by_then):
                there = Position(by_then[-1].position)
                found = await all_reads(engine, run_id, branch, at=moment, run_at=moment)
                assert found == await all_reads(engine, run_id, branch, at=there, run_at=there)


@QUICK
@given(MOVES)
def test_the_end_is_now_and_a_time_is_its_last_event(moves: list[Move]) -> None:
    """A read at the last position equals a read of now, and a read at a time one at the run's last event by then."""
    check(lambda path: check_now_and_times(path, moves))


def succeeded(events: list[RecordedEvent], run_id: str, branch: str, version: int) -> dict[str, tuple[str, Origin]]:
    """Return what a fork of a branch at a version inherits: each succeeded step's status and where it was logged."""
    stream = [each for each in events if (each.run_id, each.branch) == (run_id, branch)][:version]
    seen: dict[str, tuple[str, Origin]] = {}
    first = stream[0].event
    if isinstance(first, RunForked):
        seen = succeeded(events, first.source_run_id, first.source_branch, first.source_version)
    here = Origin(run_id, branch, version)
    for step in removed_steps(each.event for each in stream):
        seen.pop(step, None)
    own = {step: (status, here) for step, status in own_statuses(each.event for each in stream).items()}
    return {step: found for step, found in (seen | own).items() if found[0] == "COMPLETED"}


def removed_steps(events: Iterable[Event]) -> set[str]:
    """Return the steps that a stream has removed at least once."""
    return {event.step for event in events if isinstance(event, StepRemoved)}


def own_statuses(events: Iterable[Event]) -> dict[str, str]:
    """Return the statuses of the steps that a stream logged itself."""
    statuses: dict[str, str] = {}
    for event in events:
        match event:
            case StepLogged(step=step, status=status) | StepStatusChanged(step=step, status=status):
                statuses[step] = status
            case (
                AttemptCreated(step=step, step_status=str(status)) | AttemptUpdated(step=step, step_status=str(status))
            ):
                statuses[step] = status
            case StepRemoved(step=step):
                statuses.pop(step, None)
            case _:
                pass
    return statuses


async def check_inherited(path: Path, moves: list[Move]) -> None:
    await grow(path, moves)
    async with open_engine(path) as engine:
        events = [recorded async for recorded in engine.events()]
        for recorded in events:
            if isinstance(recorded.event, RunForked):
                source = recorded.event
                run = await engine.run(recorded.run_id)
                steps = await run.steps(at=1)
                expected = succeeded(events, source.source_run_id, source.source_branch, source.source_version)
                assert {name: (log.status, log.inherited_from) for name, log in steps.items()} == expected
                stream = [each.event for each in events if each.run_id == run.run_id and each.branch == ""]
                left = {name: status for name, (status, _) in expected.items() if name not in removed_steps(stream)}
                now = {name: log.status for name, log in (await run.steps()).items()}
                assert now == left | own_statuses(stream)


@QUICK
@given(MOVES)
def test_forked_runs_inherit_what_had_succeeded(moves: list[Move]) -> None:
    """A forked run inherits exactly the steps that had succeeded at the fork, through any number of forks."""
    check(lambda path: check_inherited(path, moves))


@pytest.mark.slow
@MANY
@given(MOVES)
def test_many_forked_runs_inherit_what_had_succeeded(moves: list[Move]) -> None:
    """In many more logs, a forked run inherits exactly the steps that had succeeded in its source at the fork."""
    check(lambda path: check_inherited(path, moves))
