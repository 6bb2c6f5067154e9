"""The public API as callers rely on it: the example of the design, line by line."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, open_engine
from engine.errors import BranchExists, BranchNotFound, RunExists, RunNotFound


async def _example(seen: dict[str, Any]) -> None:
    async with open_engine("runs.db") as engine:  # path or URL; creates or migrates the file
        run = await engine.create_run("r1", parameters={"lr": 0.1}, tag="nightly")  # RunExists if taken
        run = await engine.run("r1")  # RunNotFound
        a, b = await run.fork("fit.a"), await run.fork("fit.b")  # BranchExists; run is its own root branch
        await a.set_parameters({"loss": 0.3})  # plain values, or Parameter(kind=…, value=…)
        async with a.attempt("train", operator_key="local") as attempt:  # created → running → completed/failed
            await attempt.update(external_id="job-7")
        await run.reduce([a, b], rules={"loss": "min"})  # children default to all of this branch's
        params = await run.parameters()  # {"lr": Parameter, "loss": Parameter}
        past = await run.parameters(at=3)  # as of a stream version, or a datetime
        before = await run.parameters(at=2)
        log = await run.compile()  # the nested run log: steps, branches, attempts
        async for recorded in engine.events(run_id="r1", after=0):
            seen.setdefault("events", []).append(recorded)
        seen.update(params=params, past=past, before=before, log=log)
        async for recorded in engine.subscribe(run_id="r1", after=0):  # catch-up, then live, across processes
            seen.setdefault("subscribed", []).append(recorded)


@pytest.fixture
async def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the example has read once its subscription has caught up."""
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    example = asyncio.create_task(_example(found))
    async with asyncio.timeout(30), open_engine("runs.db") as engine:
        async for recorded in engine.subscribe(types=["ParametersReduced"]):
            found["reduced"] = recorded
            break
        while len(found.get("subscribed", ())) < len(found.get("events", "?")):
            await engine.last_position()
    example.cancel()
    await asyncio.gather(example, return_exceptions=True)
    return found


async def test_the_example_resolves_and_reduces(seen: dict[str, Any]) -> None:
    """The example's parameters are resolved with the reduced value, which names the branch that set it."""
    assert {name: parameter.value for name, parameter in seen["params"].items()} == {"lr": 0.1, "loss": 0.3}
    assert {name: parameter.value for name, parameter in seen["past"].items()} == {"lr": 0.1, "loss": 0.3}
    assert {name: parameter.value for name, parameter in seen["before"].items()} == {"lr": 0.1}
    assert seen["reduced"].event.sources["loss"][0].branch == "fit.a"


async def test_the_example_compiles(seen: dict[str, Any]) -> None:
    """A compiled log has steps with attempts, branches by full name, resolved parameters and a status."""
    log = seen["log"]
    assert (log.status, log.steps, list(log.branches)) == ("CREATED", {}, ["fit.a", "fit.b"])
    assert log.parameters == seen["params"]
    [attempt] = log.branches["fit.a"].steps["train"].attempts
    assert (attempt.status, attempt.operator_key, attempt.external_id) == ("COMPLETED", "local", "job-7")


async def test_the_example_reads_and_follows_the_same_events(seen: dict[str, Any]) -> None:
    """A subscription from the start yields the same recorded events as `events`, with a complete envelope."""
    assert seen["subscribed"] == seen["events"]
    assert [recorded.position for recorded in seen["events"]] == list(range(1, len(seen["events"]) + 1))
    for recorded in seen["events"]:
        assert recorded.run_id == "r1"
        assert recorded.branch == recorded.event.branch
        assert recorded.stream_version >= 1
        assert (len(recorded.event_id), len(recorded.hash)) == (32, 32)
        assert str(recorded.recorded_at.tzinfo) == "UTC"


async def test_a_nested_fork_is_relative_to_its_parent(engine: Engine) -> None:
    """`a.fork("inner")` opens the branch `fit.a.inner`, which is found by that name and compiled inside its parent."""
    run = await engine.create_run("r1")
    inner = await (await run.fork("fit.a")).fork("inner")
    assert inner.name == "fit.a.inner"
    assert (await run.branch("fit.a.inner")).name == "fit.a.inner"
    assert list((await run.compile()).branches["fit.a"].branches) == ["fit.a.inner"]


async def test_the_errors_that_the_example_names(engine: Engine) -> None:
    """RunExists, RunNotFound, BranchExists and BranchNotFound are raised where the example says so."""
    with pytest.raises(RunNotFound):
        await engine.run("r1")
    run = await engine.create_run("r1")
    await run.fork("fit.a")
    with pytest.raises(RunExists):
        await engine.create_run("r1")
    with pytest.raises(BranchExists):
        await run.fork("fit.a")
    with pytest.raises(BranchNotFound):
        await run.branch("fit.b")


async def test_an_attempt_that_fails_says_why(engine: Engine) -> None:
    """An error in an attempt block propagates, and the attempt, with the error as reason, and its step are FAILED."""
    run = await engine.create_run("r1")
    with pytest.raises(ZeroDivisionError):
        async with run.attempt("train"):
            raise ZeroDivisionError("no data")
    [attempt] = await run.attempts("train")
    assert (attempt.status, attempt.status_reason) == ("FAILED", "ZeroDivisionError: no data")
    assert (await run.step("train")).status == "FAILED"


async def test_a_finalised_run_goes_on(engine: Engine) -> None:
    """`finalize` records the head of every branch, and the run can still be written."""
    run = await engine.create_run("r1")
    branch = await run.fork("a")
    recorded = await run.finalize("COMPLETED")
    heads = {head.branch: head.stream_version for head in recorded.events[-1].event.heads}  # type: ignore[union-attr]
    assert heads == {"": 2, "a": 1}
    await branch.set_parameters({"again": 1})
    assert (await run.info()).finalized
