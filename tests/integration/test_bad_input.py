"""Requests that do not fit the recorded state: each raises its own error, and nothing is recorded."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from engine import ANY, NO_STREAM, STREAM_EXISTS, Engine, ExpectedVersion, Run, open_engine
from engine.codec import EVENT_BYTES_MAX
from engine.errors import (
    AnabranchError,
    AttemptExists,
    AttemptNotFound,
    BranchExists,
    BranchNotFound,
    EventTooLarge,
    IdempotencyConflict,
    InvalidValue,
    PointNotFound,
    ReductionImpossible,
    RunExists,
    RunNotFound,
    StepNotFound,
    VersionConflict,
)
from tests.integration.refusals import events, refused, subscribed

Call = Callable[[Engine, Run], Awaitable[Any]]


@pytest.fixture
async def run(engine: Engine) -> Run:
    """A run with a branch, a parameter, a step and an attempt."""
    run = await engine.create_run("r", parameters={"a": 1})
    await run.fork("b")
    await run.start_attempt("step", attempt_id="attempt")
    return run


UNKNOWN: dict[str, tuple[Call, type[AnabranchError]]] = {
    "run": (lambda e, r: e.run("none"), RunNotFound),
    "events of a run": (lambda e, r: events(e, run_id="none"), RunNotFound),
    "events of a branch": (lambda e, r: events(e, run_id="r", branch="none"), BranchNotFound),
    "events of a branch of no run": (lambda e, r: events(e, run_id="none", branch="b"), RunNotFound),
    "subscribe to a run": (lambda e, r: subscribed(e, run_id="none"), RunNotFound),
    "subscribe to a branch": (lambda e, r: subscribed(e, run_id="r", branch="none"), BranchNotFound),
    "fork_run": (lambda e, r: e.fork_run("none", run_id="new"), RunNotFound),
    "fork_run of a branch": (lambda e, r: e.fork_run("r", run_id="new", branch="none"), BranchNotFound),
    "fork_run at a version": (lambda e, r: e.fork_run("r", run_id="new", at=99), PointNotFound),
    "branch": (lambda e, r: r.branch("none"), BranchNotFound),
    "reduce": (lambda e, r: r.reduce(["none"]), BranchNotFound),
    "reduce by a function": (lambda e, r: r.reduce(["none"], rules={"a": max}), BranchNotFound),
    "step": (lambda e, r: r.step("none"), StepNotFound),
    "set_step_status": (lambda e, r: r.set_step_status("none", "X"), StepNotFound),
    "remove_step": (lambda e, r: r.remove_step("none"), StepNotFound),
    "find_attempt": (lambda e, r: r.find_attempt("none"), AttemptNotFound),
    "parameters at version 0": (lambda e, r: r.parameters(at=0), PointNotFound),
    "parameters at a version to come": (lambda e, r: r.parameters(at=99), PointNotFound),
    "parameters before the run": (lambda e, r: r.parameters(at=datetime(2000, 1, 1, tzinfo=UTC)), PointNotFound),
}


@pytest.mark.parametrize("case", UNKNOWN)
async def test_what_is_not_there_is_named(engine: Engine, run: Run, case: str) -> None:
    """Naming a run, branch, step, attempt or point that does not exist raises the error of that kind."""
    call, expected = UNKNOWN[case]
    assert type(await refused(engine, call(engine, run))) is expected


TAKEN: dict[str, tuple[Call, type[AnabranchError]]] = {
    "create_run": (lambda e, r: e.create_run("r"), RunExists),
    "fork_run": (lambda e, r: e.fork_run("r", run_id="r"), RunExists),
    "fork": (lambda e, r: r.fork("b"), BranchExists),
    "start_attempt": (lambda e, r: r.start_attempt("other", attempt_id="attempt"), AttemptExists),
}


@pytest.mark.parametrize("case", TAKEN)
async def test_a_name_that_is_taken_is_refused(engine: Engine, run: Run, case: str) -> None:
    """Creating a run, branch or attempt whose name is taken raises the error of that kind and records nothing."""
    call, expected = TAKEN[case]
    assert type(await refused(engine, call(engine, run))) is expected


@pytest.mark.parametrize("expected", [NO_STREAM, 0, 1, 99])
async def test_a_version_that_is_not_the_expected_one_is_refused(
    engine: Engine, run: Run, expected: ExpectedVersion
) -> None:
    """A write with the wrong expected version raises VersionConflict with the expected and the actual version."""
    error = await refused(engine, run.set_parameters({"a": 2}, expected_version=expected))
    assert isinstance(error, VersionConflict)
    assert (error.run_id, error.branch, error.expected, error.actual) == ("r", "", expected, 4)


@pytest.mark.parametrize("expected", [ANY, STREAM_EXISTS, 4])
async def test_a_version_that_is_the_expected_one_is_let_through(run: Run, expected: ExpectedVersion) -> None:
    """ANY, STREAM_EXISTS and the stream's own version let a write through."""
    assert (await run.set_parameters({"a": 2}, expected_version=expected)).stream_version == 5


@pytest.mark.parametrize("expected", [-1, "5", 5.0, True, None])
async def test_what_no_version_can_be_is_refused(engine: Engine, run: Run, expected: Any) -> None:
    """An `expected_version` of a wrong type or range raises InvalidValue; none is read as ANY."""
    error = await refused(engine, run.set_parameters({"a": 2}, expected_version=expected))
    assert isinstance(error, InvalidValue)
    assert error.value == expected


async def test_a_key_used_again_with_other_content_is_refused(engine: Engine, run: Run) -> None:
    """Reusing an idempotency key with other content raises IdempotencyConflict.

    With the same content it returns the original events as a duplicate, before any version check.
    """
    first = await run.set_parameters({"a": 2}, idempotency_key="k")
    error = await refused(engine, run.set_parameters({"a": 3}, idempotency_key="k"))
    assert isinstance(error, IdempotencyConflict)
    assert (error.run_id, error.idempotency_key) == ("r", "k")
    again = await run.set_parameters({"a": 2}, idempotency_key="k", expected_version=NO_STREAM)
    assert again.duplicate
    assert again.events == first.events


async def test_a_rule_that_cannot_fold_the_values_is_refused(engine: Engine, run: Run) -> None:
    """Summing a text and a number raises ReductionImpossible, which names the parameter and the rule."""
    for name, value in (("one", 1), ("two", "x")):
        await (await run.fork(name)).set_parameters({"p": value})
    error = await refused(engine, run.reduce(rules={"p": "sum"}))
    assert isinstance(error, ReductionImpossible)
    assert (error.name, error.rule) == ("p", "sum")


async def test_an_event_over_the_limit_is_refused(engine: Engine, run: Run) -> None:
    """An event over the limit raises EventTooLarge with its size and the limit; a slightly smaller one is recorded."""
    error = await refused(engine, run.set_parameters({"p": "x" * EVENT_BYTES_MAX}))
    assert isinstance(error, EventTooLarge)
    assert (error.event_type, error.limit_bytes) == ("ParametersSet", EVENT_BYTES_MAX)
    assert error.size_bytes > EVENT_BYTES_MAX
    await run.set_parameters({"p": "x" * (EVENT_BYTES_MAX - 100)})


async def test_the_limit_of_an_event_can_be_set(database: Path) -> None:
    """`event_bytes_max` sets the limit for new events; events recorded under a higher limit stay readable."""
    async with open_engine(database) as engine:
        await engine.create_run("r", parameters={"p": "x" * 1000})
    async with open_engine(database, event_bytes_max=500) as engine:
        run = await engine.run("r")
        error = await refused(engine, run.set_parameters({"p": "x" * 600}))
        assert isinstance(error, EventTooLarge)
        assert error.limit_bytes == 500
        assert len((await run.parameters())["p"].value) == 1000


async def test_a_bad_request_fails_alone(engine: Engine, run: Run) -> None:
    """Of concurrent requests only the bad ones fail, whether they are refused before the batch or within it."""
    calls = [run.set_parameters({"fine": index}) for index in range(20)]
    calls.insert(7, run.set_parameters({"big": "x" * EVENT_BYTES_MAX}))
    calls.insert(3, run.set_parameters({"late": 1}, expected_version=1))
    answers = await asyncio.gather(*calls, return_exceptions=True)
    refused = {index for index, answer in enumerate(answers) if isinstance(answer, BaseException)}
    assert refused == {3, 8}
    assert await engine.verify_views() == []
