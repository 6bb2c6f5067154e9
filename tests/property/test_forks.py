"""Forks against a model that copies at every fork, and past states against folds of the first events."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from engine import Branch, Engine, Position, open_engine
from engine.errors import RunNotFound
from engine.events import BranchForked, ParametersReduced, ParametersSet, RunCreated
from engine.model import Parameter, branches_of
from tests.property.naive_reduction import key
from tests.strategies import documents, names, parameters

QUICK = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
MANY = settings(QUICK, max_examples=500)

NAMES = st.sampled_from(["x", "y", "z"])
WRITES = st.dictionaries(NAMES, parameters, min_size=1, max_size=2)
MOVES = st.lists(st.tuples(st.sampled_from(["fork", "set", "set"]), st.integers(0, 20), WRITES), max_size=25)
Moves = list[tuple[str, int, dict[str, Parameter]]]


def check(use: Callable[[Engine], Awaitable[None]]) -> None:
    """Call `use` with a fresh engine, in a temporary folder and an event loop of its own."""

    async def on_engine(folder: str) -> None:
        async with open_engine(Path(folder) / "runs.db", durability="relaxed") as engine:
            await use(engine)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(on_engine(folder))


async def grow(engine: Engine, moves: Moves) -> tuple[list[Branch], list[dict[str, Parameter]]]:
    """Fork and set as the moves say; return the branches, and what each would see if every fork had copied."""
    branches: list[Branch] = [await _run(engine)]
    copies: list[dict[str, Parameter]] = [{}]
    for move, choice, values in moves:
        place = choice % len(branches)
        if move == "fork":
            branches.append(await branches[place].fork(f"b{len(branches)}"))
            copies.append(dict(copies[place]))
        else:
            await branches[place].set_parameters(values)
            copies[place].update(values)
    return branches, copies


async def _run(engine: Engine) -> Branch:
    try:
        return await engine.run("r")
    except RunNotFound:
        return await engine.create_run("r")


async def check_against_copies(engine: Engine, moves: Moves) -> None:
    branches, copies = await grow(engine, moves)
    for branch, copied in zip(branches, copies, strict=True):
        assert key(await branch.parameters()) == key(copied)
        assert key(await branch.parameters(names=["x", "z"])) == key(
            {name: value for name, value in copied.items() if name in ("x", "z")}
        )


@QUICK
@given(MOVES)
def test_a_fork_without_copies_reads_like_one_with_copies(moves: Moves) -> None:
    """Every branch of every tree sees what it would see had each fork copied all parameters."""
    check(lambda engine: check_against_copies(engine, moves))


@pytest.mark.slow
@MANY
@given(MOVES)
def test_many_trees_of_forks(moves: Moves) -> None:
    """In many more trees, every branch sees what it would see had each fork copied all parameters."""
    check(lambda engine: check_against_copies(engine, moves))


async def check_compiled(engine: Engine, moves: Moves) -> None:
    """Compile every branch of a run forked from another run, now and at two positions; compare with its own reads."""
    source = await engine.create_run("source", parameters={"x": 0, "w": 1})
    await source.set_parameters({"w": 2})
    await engine.fork_run("source", run_id="r")
    branches, _ = await grow(engine, moves)
    await branches[0].reduce()
    position = await engine.last_position()
    for at in (None, Position(position), Position(position // 2 + 2)):
        for top in branches:
            if at is not None and await _opened_at(engine, top) > at.n:
                continue
            for inherited in (True, False):
                compiled = await top.compile(at=at, inherited=inherited)
                for log in branches_of(compiled):
                    branch = next(each for each in branches if each.name == log.branch)
                    seen = await branch.parameters(at=at, inherited=inherited or log.branch == "")
                    assert key(log.parameters) == key(seen)
                    assert list(log.branches) == await branch.children(at=at)
                    assert log.stream_version == (await branch.head(at=at)).stream_version
                alone = await top.compile(at=at, inherited=inherited, nested=False)
                assert structs.replace(compiled, branches={}) == alone


async def _opened_at(engine: Engine, branch: Branch) -> int:
    async for recorded in engine.events(run_id="r", branch=branch.name):
        return recorded.position
    raise AssertionError("the branch has no events")


@QUICK
@given(MOVES)
@example([("fork", 0, {}), ("fork", 1, {}), ("fork", 2, {}), ("fork", 1, {})])  # older than its parent's sibling
def test_a_compiled_log_says_of_each_branch_what_it_says_itself(moves: Moves) -> None:
    """A compiled log agrees with each branch's own reads, whichever branch is compiled, with or without inherited
    values, now and at a position.
    """
    check(lambda engine: check_compiled(engine, moves))


async def check_history(engine: Engine, moves: Moves) -> None:
    branches, _ = await grow(engine, moves)
    await branches[0].reduce()
    events = [recorded async for recorded in engine.events()]
    for branch in branches:
        head = await branch.head()
        for version in range(1, head.stream_version + 1):
            assert key(await branch.parameters(at=version)) == key(folded(events, branch.name, version))


def folded(events: list[Any], branch: str, version: int) -> dict[str, Parameter]:
    """Fold the first events of a branch's stream, and of the streams that it was forked from."""
    seen: dict[str, Parameter] = {}
    for recorded in [each for each in events if each.branch == branch][:version]:
        match recorded.event:
            case BranchForked(parent=parent, parent_version=parent_version):
                seen.update(folded(events, parent, parent_version))
            case ParametersSet(values=values) | ParametersReduced(values=values):
                seen.update(values)
            case other:
                assert isinstance(other, RunCreated)
    return seen


@QUICK
@given(MOVES)
def test_state_at_a_version_is_the_fold_of_that_many_events(moves: Moves) -> None:
    """The state at version N is the fold of the stream's first N events and of nothing later."""
    check(lambda engine: check_history(engine, moves))


async def check_times(engine: Engine, moves: Moves) -> None:
    branches, _ = await grow(engine, moves)
    for branch in branches:
        by_time = {
            each.recorded_at: each.stream_version async for each in engine.events(run_id="r", branch=branch.name)
        }
        for moment, version in by_time.items():
            assert key(await branch.parameters(at=moment)) == key(await branch.parameters(at=version))


@QUICK
@given(MOVES)
def test_state_at_a_time_is_that_of_the_last_version_by_then(moves: Moves) -> None:
    """A read at an event's recorded time equals a read at the last version recorded by then, that event included."""
    check(lambda engine: check_times(engine, moves))


async def check_any_name(engine: Engine, name: str, parameter: Parameter, details: dict[str, Any]) -> None:
    run = await engine.create_run(name, parameters={name: parameter}, tags=details)
    branch = await run.fork(name[:100])
    await branch.log_step(name, details=details, message=name)
    attempt = await branch.start_attempt(name, outputs={name: parameter}, details=details)
    await attempt.finish()
    await run.reduce()
    log = await run.compile()
    below = log.branches[branch.name]
    step = below.steps[name]
    assert key(log.parameters) == key(below.parameters) == key({name: parameter})
    assert key(step.details) == key(step.attempts[0].details) == key(details)
    assert key(step.attempts[0].outputs) == key({name: parameter})
    assert (await engine.runs()).runs[0].run_id == name
    assert await engine.verify_views() == []


@QUICK
@given(names.filter(lambda name: len(name.encode()) < 400), parameters, documents)
def test_any_name_and_value_goes_through_unchanged(name: str, parameter: Parameter, details: dict[str, Any]) -> None:
    """Any name and any value come back unchanged from compiled logs and listings, and the views verify."""
    check(lambda engine: check_any_name(engine, name, parameter, details))
