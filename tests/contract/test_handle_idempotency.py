"""Retries of the handles' writes under an idempotency key are safe, and guarded writes check the stream's version."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import structs

from engine import Branch, Engine, Run
from engine.errors import IdempotencyConflict, InvalidValue, RunNotFound, VersionConflict
from engine.expected_version import NO_STREAM, ExpectedVersion
from engine.model import Parameter
from engine.point import Point

Write = Callable[[Engine, Run, Branch], Awaitable[Any]]


async def update_attempt(run: Run, **guard: Any) -> Any:
    return await (await run.find_attempt("prepared")).update(message="so far", **guard)


async def finish_attempt(run: Run, **guard: Any) -> Any:
    return await (await run.find_attempt("prepared")).finish(**guard)


WRITES: dict[str, Write] = {
    "create_run": lambda engine, run, a: engine.create_run("new", parameters={"x": 1}, idempotency_key="k"),
    "fork_run": lambda engine, run, a: engine.fork_run("r", run_id="new", idempotency_key="k"),
    "fork_run of a branch": lambda engine, run, a: engine.fork_run("r", run_id="new", branch="a", idempotency_key="k"),
    "fork_run at": lambda engine, run, a: engine.fork_run("r", run_id="new", at=1, idempotency_key="k"),
    "fork": lambda engine, run, a: run.fork("new", idempotency_key="k"),
    "set_parameters": lambda engine, run, a: run.set_parameters({"x": 2}, expected_version=3, idempotency_key="k"),
    "set_status": lambda engine, run, a: run.set_status("RUNNING", idempotency_key="k"),
    "log_step": lambda engine, run, a: run.log_step("train", idempotency_key="k"),
    "start_attempt": lambda engine, run, a: run.start_attempt("train", idempotency_key="k"),
    "reduce": lambda engine, run, a: run.reduce([a], rules={"x": "sum"}, idempotency_key="k"),
    "reduce all": lambda engine, run, a: run.reduce(idempotency_key="k"),
    "reduce by a function": lambda engine, run, a: run.reduce(rules={"x": max}, idempotency_key="k"),
    "reduce some by a function": lambda engine, run, a: run.reduce([a], rules={"x": sum}, idempotency_key="k"),
    "finalize": lambda engine, run, a: run.finalize("COMPLETED", idempotency_key="k"),
    "describe": lambda engine, run, a: run.describe({"by": "hand"}, idempotency_key="k"),
    "set_step_status": lambda engine, run, a: run.set_step_status("prepare", "FAILED", idempotency_key="k"),
    "remove_step": lambda engine, run, a: run.remove_step("prepare", idempotency_key="k"),
    "configure": lambda engine, run, a: run.configure({"retries": 3}, idempotency_key="k"),
    "log_job": lambda engine, run, a: run.log_job({"host": "a"}, idempotency_key="k"),
    "attempt.update": lambda engine, run, a: update_attempt(run, idempotency_key="k"),
    "attempt.finish": lambda engine, run, a: finish_attempt(run, idempotency_key="k"),
}

Guarded = Callable[[Run, ExpectedVersion], Awaitable[Any]]

GUARDED: dict[str, Guarded] = {
    "set_parameters": lambda run, expected: run.set_parameters({"x": 2}, expected_version=expected),
    "set_status": lambda run, expected: run.set_status("RUNNING", expected_version=expected),
    "log_step": lambda run, expected: run.log_step("train", expected_version=expected),
    "start_attempt": lambda run, expected: run.start_attempt("train", expected_version=expected),
    "reduce": lambda run, expected: run.reduce(expected_version=expected),
    "finalize": lambda run, expected: run.finalize("COMPLETED", expected_version=expected),
    "describe": lambda run, expected: run.describe({"by": "hand"}, expected_version=expected),
    "set_step_status": lambda run, expected: run.set_step_status("prepare", "FAILED", expected_version=expected),
    "remove_step": lambda run, expected: run.remove_step("prepare", expected_version=expected),
    "configure": lambda run, expected: run.configure({"retries": 3}, expected_version=expected),
    "log_job": lambda run, expected: run.log_job({"host": "a"}, expected_version=expected),
    "attempt.update": lambda run, expected: update_attempt(run, expected_version=expected),
    "attempt.finish": lambda run, expected: finish_attempt(run, expected_version=expected),
}


async def prepared(engine: Engine) -> tuple[Run, Branch]:
    """Create a run with a running attempt, and a branch that has set a parameter."""
    run = await engine.create_run("r")
    await run.start_attempt("prepare", attempt_id="prepared")
    branch = await run.fork("a")
    await branch.set_parameters({"x": 1})
    return run, branch


def plainly(result: Any) -> Any:
    """Return a result's visible attributes, so that handles can be compared."""
    names = ("run_id", "name", "attempt_id", "attempt_index", "stream_version", "values", "children", "events")
    return {name: getattr(result, name) for name in names if not callable(getattr(result, name, len))}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
async def test_a_retry_gives_the_first_result_and_records_nothing(engine: Engine, write: Write) -> None:
    """A retry of a write returns the first result and records nothing, whatever other writes came in between."""
    run, branch = await prepared(engine)
    first = await write(engine, run, branch)
    await branch.set_parameters({"x": 100, "y": 1})
    await run.set_parameters({"z": 1})
    await (await run.fork("b")).set_parameters({"x": 7})
    last = await engine.last_position()
    again = await write(engine, run, branch)
    assert plainly(again) == plainly(first)
    assert await engine.last_position() == last


@pytest.mark.parametrize("write", GUARDED.values(), ids=GUARDED.keys())
async def test_a_write_of_a_branch_may_be_guarded_by_where_its_stream_stands(engine: Engine, write: Guarded) -> None:
    """A write with an expected version is recorded only when the branch's stream is at that version."""
    run, _ = await prepared(engine)
    last, version = await engine.last_position(), (await run.head()).stream_version
    for wrong in (NO_STREAM, version - 1, version + 1):
        with pytest.raises(VersionConflict) as caught:
            await write(run, wrong)
        assert (caught.value.expected, caught.value.actual) == (wrong, version)
    assert await engine.last_position() == last
    await write(run, version)
    assert await engine.last_position() > last


@pytest.mark.parametrize("at", [None, datetime(2100, 1, 1, tzinfo=UTC)], ids=str)
async def test_a_retried_fork_is_the_one_fork_wherever_its_point_is_by_now(engine: Engine, at: Point) -> None:
    """A retried `fork_run` by step or time returns the first fork, even if the step has begun since.

    Another point under the same key raises IdempotencyConflict.
    """
    run, _ = await prepared(engine)
    await run.log_step("train", status="PENDING")
    step = "train" if at is None else None

    async def fork(**other: Any) -> Any:
        asked = {"at": at, "from_step": step} | other
        return plainly(await engine.fork_run("r", run_id="new", idempotency_key="k", **asked))

    first = await fork()
    async with run.attempt("train"):
        await run.set_parameters({"z": 1})
    assert await fork() == first
    assert len([each async for each in engine.events(run_id="new")]) == 1
    with pytest.raises(IdempotencyConflict):
        await fork(at=1, from_step=None)
    with pytest.raises(IdempotencyConflict):
        await fork(at=datetime(2100, 1, 2, tzinfo=UTC), from_step=step)
    with pytest.raises(InvalidValue):
        await fork(at="now")


@pytest.mark.parametrize("point", [{"at": 2}, {"from_step": "train"}, {}], ids=str)
async def test_a_retried_fork_outlives_its_source(engine: Engine, point: dict[str, Any]) -> None:
    """A retried `fork_run` returns the first fork even after its source was deleted."""
    run, _ = await prepared(engine)
    await run.log_step("train")
    first = await engine.fork_run("r", run_id="new", idempotency_key="k", **point)
    await engine.delete_run("r", "too old", carry_over=True)
    again = await engine.fork_run("r", run_id="new", idempotency_key="k", **point)
    assert plainly(again) == plainly(first)
    with pytest.raises(IdempotencyConflict):
        await engine.fork_run("r", run_id="new", at=1, idempotency_key="k")
    with pytest.raises(RunNotFound):
        await engine.fork_run("r", run_id="other", idempotency_key="k", **point)


async def test_a_retried_reduction_does_not_call_its_function(engine: Engine) -> None:
    """A retried reduction returns the recorded result and does not call its function."""
    run, branch = await prepared(engine)
    called = list[list[Any]]()

    def total(values: list[Any]) -> Any:
        called.append(values)
        return sum(values)

    first = await run.reduce(rules={"x": total}, idempotency_key="k")
    await branch.set_parameters({"x": "no number"})
    assert plainly(await run.reduce(rules={"x": total}, idempotency_key="k")) == plainly(first)
    assert called == [[1]]
    with pytest.raises(TypeError):
        await run.reduce(rules={"x": total}, idempotency_key="another")


async def test_a_function_for_another_name_is_other_content(engine: Engine) -> None:
    """Reducing under the same key with functions for other names raises IdempotencyConflict."""
    run, _ = await prepared(engine)
    await run.reduce(rules={"x": max}, idempotency_key="k")
    with pytest.raises(IdempotencyConflict):
        await run.reduce(rules={"y": max}, idempotency_key="k")
    with pytest.raises(IdempotencyConflict):
        await run.reduce(idempotency_key="k")


async def test_a_run_is_forked_from_its_source_as_it_stands_then(engine: Engine) -> None:
    """`fork_run` without `at` forks from the source's head."""
    run, _ = await prepared(engine)
    await run.set_parameters({"z": 1})
    head = await run.head()
    new = await engine.fork_run("r", run_id="new")
    (recorded,) = [each async for each in engine.events(run_id="new")]
    assert (recorded.event.source_version, recorded.event.source_hash) == (head.stream_version, head.hash)  # type: ignore[union-attr]
    assert await new.parameters() == {"z": Parameter(1)}


async def test_a_function_sees_children_that_come_while_it_is_called(engine: Engine) -> None:
    """A child that first writes while a reduction reads its values is included in the function's call."""
    run = await engine.create_run("r")
    asked: list[list[Any]] = []

    def largest(values: list[Any]) -> Any:
        asked.append(values)
        return max(values)

    reading = run._views.own_values

    async def late(run_id: str, branch: str, children: Any) -> Any:
        read = await reading(run_id, branch, children)
        if not read.heads:
            for name, value in (("a", 5), ("b", 3)):
                await (await run.fork(name)).set_parameters({"x": value})
        return read

    run._views.own_values = late  # type: ignore[method-assign]
    reduction = await run.reduce(rules={"x": largest})
    assert asked == [[5, 3]]
    assert reduction.values == {"x": Parameter(5)}


async def test_a_reduction_says_that_it_was_recorded_before(engine: Engine) -> None:
    """A retried reduction is marked as a duplicate and has its original values, though a child has written since."""
    run = await engine.create_run("r")
    child = await run.fork("a")
    await child.set_parameters({"x": 1})
    first = await run.reduce([child], idempotency_key="k")
    await child.set_parameters({"x": 2})
    again = await run.reduce([child], idempotency_key="k")
    assert (first.duplicate, again.duplicate) == (False, True)
    assert (await run.reduce([child])).values["x"].value == 2
    assert structs.replace(again, duplicate=False) == first


async def test_an_attempt_says_that_it_was_started_before(engine: Engine) -> None:
    """A retried start returns the same attempt, marked as a duplicate."""
    run = await engine.create_run("r")
    first = await run.start_attempt("s", idempotency_key="k")
    again = await run.start_attempt("s", idempotency_key="k")
    assert first.attempt_id == again.attempt_id
    assert (first.duplicate, again.duplicate) == (False, True)
