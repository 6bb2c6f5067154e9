"""Forking a run from a point: the new run continues from there, and both histories stay valid."""

import sqlite3
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any

import pytest

from engine import Engine, Position, Run, TaskSpec
from engine.errors import (
    BranchNotFound,
    InvalidValue,
    PointNotFound,
    RunExists,
    RunNotFound,
    SourceReplaced,
    StepNotFound,
)
from engine.events import RunForked, StepLogged
from engine.model import Head, Origin, Parameter
from engine.point import Point


@pytest.fixture
async def run(engine: Engine) -> Run:
    """A run that completes "prepare", fails and then completes "train", and fails "report"."""
    run = await engine.create_run("r", parameters={"lr": 0.1})
    async with run.attempt("prepare", outputs={"rows": Parameter(7)}):
        await run.set_parameters({"rows": 7})
    attempt = await run.start_attempt("train")
    await attempt.finish("FAILED", "no memory")
    async with run.attempt("train"):
        await run.set_parameters({"loss": 0.3})
    await (await run.fork("a")).log_step("inside", status="COMPLETED")
    await run.log_step("report", status="FAILED")
    return run


async def forked_from(engine: Engine, run_id: str) -> tuple[str, str, int]:
    """Return the source run, branch and version in a run's `RunForked` event."""
    (recorded,) = [each async for each in engine.events(run_id=run_id, types=[RunForked])]
    event = recorded.event
    assert isinstance(event, RunForked)
    return event.source_run_id, event.source_branch, event.source_version


async def version_of(engine: Engine, step: str) -> int:
    """Return the stream version at which a step of the root branch was first logged."""
    logged = [each async for each in engine.events(run_id="r", branch="", types=[StepLogged])]
    return next(
        each.stream_version for each in logged if isinstance(each.event, StepLogged) and each.event.step == step
    )


async def test_steps_that_had_succeeded_are_inherited(engine: Engine, run: Run) -> None:
    """A fork inherits its source's completed steps with their attempts; failed steps and branches are left out."""
    new = await engine.fork_run("r", run_id="new")
    version = (await run.head()).stream_version
    steps = await new.steps()
    assert list(steps) == ["prepare", "train"]
    assert {step.inherited_from for step in steps.values()} == {Origin("r", "", version)}
    assert steps["prepare"].attempts == await run.attempts("prepare")
    assert [attempt.status for attempt in steps["train"].attempts] == ["FAILED", "COMPLETED"]
    assert await new.step("train") == steps["train"]
    log = await new.compile()
    assert (log.steps, log.branches, log.status) == (steps, {}, "CREATED")


async def test_nothing_is_copied(engine: Engine, run: Run) -> None:
    """Forking a run records one event, and the fork has no attempts of its own."""
    before = await engine.last_position()
    new = await engine.fork_run("r", run_id="new")
    assert await engine.last_position() == before + 1
    assert (await new.attempts(), await new.all_attempts()) == ([], [])


async def test_the_state_is_that_of_the_point(engine: Engine, run: Run) -> None:
    """A run forked at a version, position or time has the source's parameters and steps as of that point."""
    version = await version_of(engine, "train")
    recorded = [each async for each in engine.events(run_id="r", branch="")][version - 1]
    points: dict[str, Point] = {"v": version, "p": Position(recorded.position), "t": recorded.recorded_at}
    for name, point in points.items():
        new = await engine.fork_run("r", run_id=name, at=point)
        found = (await forked_from(engine, name))[2]
        assert found == version if name != "t" else found >= version  # events of a commit share a time
        assert list(await new.steps()) == ["prepare"]
        assert await new.parameters() == {"lr": Parameter(0.1), "rows": Parameter(7)}


async def test_an_inherited_step_that_is_logged_as_it_is_stays_inherited(engine: Engine, run: Run) -> None:
    """Logging an inherited step records nothing unless an argument differs; those not given stay unchanged."""
    new = await engine.fork_run("r", run_id="new")
    assert (await new.log_step("prepare")).events == ()
    assert (await new.log_step("prepare", status="COMPLETED")).events == ()
    assert [type(each.event) for each in (await new.log_step("prepare", message="m")).events] == [StepLogged]
    assert ((await run.step("prepare")).message, (await new.step("prepare")).status) == ("", "COMPLETED")


async def test_a_step_that_changes_later_is_inherited_as_it_was(engine: Engine, run: Run) -> None:
    """Steps that the source changes, removes or completes after the fork do not change the fork's inherited steps."""
    new = await engine.fork_run("r", run_id="new")
    steps = await new.steps()
    await run.set_step_status("prepare", "FAILED")
    await run.remove_step("train")
    await run.log_step("report", status="COMPLETED")
    assert await new.steps() == steps
    assert (await new.compile()).steps == steps
    assert await new.step("prepare") == steps["prepare"]


async def test_an_own_step_hides_the_inherited_one(engine: Engine, run: Run) -> None:
    """A fork's own step hides the inherited one and numbers its attempts from 1; the source's step is unchanged."""
    new = await engine.fork_run("r", run_id="new")
    attempt = await new.start_attempt("prepare")
    step = await new.step("prepare")
    assert (attempt.attempt_index, step.inherited_from, step.status) == (1, None, "RUNNING")
    assert list(await new.steps()) == ["train", "prepare"]
    assert (await run.step("prepare")).status == "COMPLETED"
    assert list(await new.steps(at=1)) == ["prepare", "train"]


async def test_a_configuration_is_gone_on_with(engine: Engine, run: Run) -> None:
    """A fork inherits the configuration as of the fork, key by key; keys that the fork sets take precedence.

    Nothing of it is copied: the fork's row holds only what the fork configured itself.
    """
    await run.configure({"file": "p.py", "executor": {"n": 1}})
    f = await engine.fork_run("r", run_id="f")
    of_branch = await engine.fork_run("r", run_id="of_branch", branch="a")
    await run.configure({"file": "later.py"})
    await f.configure({"executor": {"n": 2}})
    g = await engine.fork_run("f", run_id="g")
    await f.configure({"executor": {"n": 3}})
    for _ in range(2):
        assert (await run.compile()).config == {"file": "later.py", "executor": {"n": 1}}
        assert (await f.compile()).config == {"file": "p.py", "executor": {"n": 3}}
        assert (await f.compile(at=1)).config == {"file": "p.py", "executor": {"n": 1}}
        assert (await g.compile()).config == {"file": "p.py", "executor": {"n": 2}}
        assert (await of_branch.compile()).config == {}  # it was forked before the run was configured
        await engine.rebuild()
    with closing(sqlite3.connect(engine.path)) as connection:
        rows = dict(connection.execute("SELECT run_id, config FROM runs"))
    assert (rows["f"], rows["g"]) == ('{"executor":{"n":3}}', "{}")


async def test_a_configuration_that_is_erased_is_erased_for_forks(engine: Engine, run: Run) -> None:
    """A configuration that is erased in the source reads as erased in forks; a carried-over copy is named."""
    version = (await run.configure({"token": "s3cret"})).stream_version
    g = await engine.fork_run("r", run_id="g")
    await engine.fork_run("r", run_id="f")
    await run.configure({"token": "later"})
    await engine.fork_run("f", run_id="h")
    await engine.delete_run("f", "old", carry_over=True)
    erasure = await engine.erase("r", None, version, "a token was in it")
    assert (await g.compile()).config == {"token": "(erased)"}
    assert [each.run_id for each in erasure.carried] == ["h"]


async def test_forks_of_forks(engine: Engine, run: Run) -> None:
    """A fork of a fork inherits each step with the run and version where it was really logged."""
    second = await engine.fork_run("r", run_id="second", from_step="train")
    async with second.attempt("train"):
        pass
    third = await engine.fork_run("second", run_id="third")
    await second.remove_step("train")
    origins = {name: step.inherited_from for name, step in (await third.steps()).items()}
    prepared = (await forked_from(engine, "second"))[2]
    trained = (await forked_from(engine, "third"))[2]
    assert origins == {"prepare": Origin("r", "", prepared), "train": Origin("second", "", trained)}


async def test_a_fork_of_a_branch_inherits_the_branch_s_own_steps(engine: Engine, run: Run) -> None:
    """A fork of a branch inherits that branch's own steps, not those of its ancestors."""
    new = await engine.fork_run("r", run_id="new", branch="a")
    assert {name: step.inherited_from for name, step in (await new.steps()).items()} == {"inside": Origin("r", "a", 2)}


async def test_a_fork_of_a_branch_that_goes_on(engine: Engine, run: Run) -> None:
    """A fork of a branch keeps the steps as of the fork, whatever the branch logs or removes later."""
    source = await run.branch("a")
    new = await engine.fork_run("r", run_id="new", branch="a")
    before = await new.steps()
    async with source.attempt("later"):
        pass
    await source.remove_step("inside")
    assert await new.steps() == before
    assert list(before) == ["inside"]


async def test_a_chain_of_forks_has_no_end(engine: Engine, run: Run) -> None:
    """A chain of forks longer than the recursion limit allows still shows the first run's steps."""
    first = new = await engine.fork_run("r", run_id="fork")
    for number in range(sys.getrecursionlimit() // 4):
        source, new = new, await engine.fork_run(new.run_id, run_id=f"fork {number}")
        await source.set_status("SUPERSEDED")
    assert await new.steps() == await first.steps()
    assert await new.step("train") == await first.step("train")
    assert (await new.compile()).steps == await first.steps()
    assert (await new.compile(at=1)).steps == await first.steps()


async def test_branches_of_the_new_run_inherit_no_steps(engine: Engine, run: Run) -> None:
    """A branch of a forked run inherits no steps."""
    new = await engine.fork_run("r", run_id="new")
    branch = await new.fork("b")
    assert await branch.steps() == {}
    assert (await new.compile()).branches["b"].steps == {}


async def test_going_on_from_a_step(engine: Engine, run: Run) -> None:
    """`from_step` forks just before the step's first attempt began."""
    new = await engine.fork_run("r", run_id="new", from_step="train")
    assert await forked_from(engine, "new") == ("r", "", await version_of(engine, "train") - 1)
    assert list(await new.steps()) == ["prepare"]
    assert "loss" not in await new.parameters()


async def test_a_task_that_was_declared_long_before_begins_with_its_first_attempt(engine: Engine) -> None:
    """A task begins with its first attempt, not its declaration; one never attempted begins at its declaration."""
    run = await engine.create_run("tasks")
    for task in ("one", "two", "three"):
        await run.log_step(task, status="PENDING", spec=TaskSpec(command=task))
    for task in ("one", "two"):
        await (await run.start_attempt(task)).finish()
    new = await engine.fork_run("tasks", run_id="new", from_step="two")
    assert list(await new.steps()) == ["one"]
    never = await engine.fork_run("tasks", run_id="never", from_step="three")
    assert await forked_from(engine, "never") == ("tasks", "", 3)
    assert await never.steps() == {}


async def test_an_attempt_begins_a_step_whatever_its_status(engine: Engine) -> None:
    """A step begins with its first attempt even if that is only CREATED."""
    run = await engine.create_run("tasks")
    await run.log_step("one")
    await run.set_parameters({"before": 1})
    await run.start_attempt("one", status="CREATED")
    await run.set_parameters({"after": 1})
    assert list(await (await engine.fork_run("tasks", run_id="new", from_step="one")).parameters()) == ["before"]


async def test_a_step_that_was_removed_begins_anew(engine: Engine, run: Run) -> None:
    """A removed step that is attempted again begins at the new attempt; while it is removed, it is not found."""
    await run.remove_step("train", "wrong image")
    await run.set_parameters({"image": "right"})
    removed = await run.head()
    await (await run.start_attempt("train")).finish("FAILED")

    new = await engine.fork_run("r", run_id="new", from_step="train")
    assert (await new.parameters())["image"].value == "right"
    assert await forked_from(engine, "new") == ("r", "", removed.stream_version)
    with pytest.raises(StepNotFound):
        await engine.fork_run("r", run_id="other", from_step="train", at=removed.stream_version)


async def test_both_histories_stay_whole(engine: Engine, run: Run) -> None:
    """Neither forking nor writes to the fork change the source, and all hashes and views verify."""
    before, events = await run.compile(), [each async for each in engine.events(run_id="r")]
    new = await engine.fork_run("r", run_id="new", from_step="train")
    await new.log_step("train", status="FAILED")
    await new.set_parameters({"lr": 1})
    await new.finalize("FAILED")
    assert await run.compile() == before
    assert [each async for each in engine.events(run_id="r")] == events
    assert (await engine.verify()).problems == []
    assert await engine.verify_views() == []


REFUSED: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "an unknown run": ({"source_run_id": "nobody"}, RunNotFound),
    "an unknown branch": ({"branch": "nobody"}, BranchNotFound),
    "a version beyond the end": ({"at": 99}, PointNotFound),
    "version 0": ({"at": 0}, PointNotFound),
    "a position beyond the end": ({"at": Position(9999)}, PointNotFound),
    "no point at all": ({"at": "3"}, InvalidValue),
    "an unknown step": ({"from_step": "nothing"}, StepNotFound),
    "a step of a branch below": ({"from_step": "inside"}, StepNotFound),
    "a step that was not logged yet": ({"from_step": "report", "at": 3}, StepNotFound),
    "a step of a run that is not there": ({"source_run_id": "nobody", "from_step": "train"}, RunNotFound),
    "a name that is taken": ({"run_id": "r"}, RunExists),
}


@pytest.mark.parametrize(("wrong", "error"), REFUSED.values(), ids=REFUSED)
async def test_what_cannot_be_forked_is_refused(
    engine: Engine, run: Run, wrong: dict[str, Any], error: type[Exception]
) -> None:
    """Forking from what is not there, or to a taken run id, raises a typed error and records nothing."""
    before = await engine.last_position()
    with pytest.raises(error):
        await engine.fork_run(**{"source_run_id": "r", "run_id": "new", **wrong})
    assert await engine.last_position() == before


async def test_a_retried_fork_is_the_same_fork(engine: Engine, run: Run) -> None:
    """Forking from a step twice under one idempotency key records one fork."""
    for _ in range(2):
        await engine.fork_run("r", run_id="new", from_step="train", idempotency_key="k")
    assert len([each async for each in engine.events(run_id="new")]) == 1


async def test_a_fork_outlives_a_rebuild(engine: Engine, run: Run) -> None:
    """A rebuild does not change what a fork inherits."""
    new = await engine.fork_run("r", run_id="new", at=Position(await engine.last_position()))
    await run.remove_step("train")
    before = await new.compile()
    await engine.rebuild()
    assert await new.compile() == before


async def test_a_source_that_is_deleted_leaves_what_was_seen_of_it(engine: Engine, run: Run) -> None:
    """When the source is deleted with `carry_over`, the fork keeps its parameters and owns the inherited steps."""
    new = await engine.fork_run("r", run_id="new")
    await new.set_parameters({"own": 1})
    before = [await new.parameters(at=version) for version in (1, 2)]
    await engine.delete_run("r", reason="too old", carry_over=True)
    assert [(await new.compile(at=version)).parameters for version in (1, 2)] == before
    assert [await new.parameters(at=version) for version in (1, 2)] == before
    steps = await new.steps()
    assert [(step.step, step.status, step.inherited_from) for step in steps.values()] == [
        ("prepare", "COMPLETED", None),
        ("train", "COMPLETED", None),
    ]


async def test_a_step_that_was_carried_over_begins_where_its_attempt_goes_on(engine: Engine) -> None:
    """`from_step` of a carried-over step forks just before the run first updates the carried-over attempt."""
    source = await engine.create_run("source")
    async with source.attempt("train") as attempt:
        pass
    new = await engine.fork_run("source", run_id="new")
    await engine.delete_run("source", reason="too old", carry_over=True)
    (carried,) = await new.attempts("train")
    assert carried.attempt_id != attempt.attempt_id
    head = await new.head()
    await (await new.find_attempt(carried.attempt_id)).finish("FAILED")
    again = await engine.fork_run("new", run_id="again", from_step="train")
    assert await again.parting(new) == Origin("new", "", head.stream_version)


async def test_where_histories_part(engine: Engine, run: Run) -> None:
    """`parting` finds the last common point of two histories, and None for unrelated runs."""
    early, late = await engine.fork_run("r", run_id="early", at=2), await engine.fork_run("r", run_id="late")
    head = (await run.head()).stream_version
    await run.set_parameters({"lr": 1})
    assert await late.parting(run) == await run.parting(late) == Origin("r", "", head)
    assert await early.parting(late) == await late.parting(run, other_at=2) == Origin("r", "", 2)
    assert await (await run.branch("a")).parting(run) == Origin("r", "", head - 1)
    assert await run.parting(run, at=3) == Origin("r", "", 3)
    assert await run.parting(await engine.create_run("stranger")) is None
    with pytest.raises(PointNotFound):
        await run.parting(late, other_at=99)


def replace_while_forked(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, recreate: Callable[[], Awaitable[object]]
) -> None:
    """Have every fork's source, a run named `source`, deleted and recreated once the fork's point is looked up."""
    find = engine.views.head_at

    async def find_and_replace(run_id: str, branch: str, at: int) -> Head:
        head = await find(run_id, branch, at)
        await engine.delete_run("source", reason="to be made anew")
        await recreate()
        return head

    monkeypatch.setattr(engine.views, "head_at", find_and_replace)


async def test_a_source_that_is_made_anew_while_it_is_forked_is_not_the_one_that_was_asked_for(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`fork_run` raises SourceReplaced when its source is deleted and recreated while the point is looked up."""
    source = await engine.create_run("source", parameters={"x": 1})

    async def recreate() -> None:
        again = await engine.create_run("source", parameters={"x": 10})
        await again.set_parameters({"x": 11})

    replace_while_forked(engine, monkeypatch, recreate)
    await source.set_parameters({"x": 2})
    with pytest.raises(SourceReplaced, match="run 'source' was deleted and recreated"):
        await engine.fork_run("source", run_id="new", at=2)
    assert [run.run_id for run in await engine.runs()] == ["source"]
    monkeypatch.undo()
    assert (await (await engine.fork_run("source", run_id="new", at=2)).parameters())["x"].value == 10
    assert (await engine.verify()).problems == []


async def test_a_source_replaced_by_a_shorter_run_has_no_such_point(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fork whose source is replaced by a shorter run meanwhile raises PointNotFound, and records nothing."""
    source = await engine.create_run("source", parameters={"x": 1})
    replace_while_forked(engine, monkeypatch, lambda: engine.create_run("source"))
    await source.set_parameters({"x": 2})
    with pytest.raises(PointNotFound):
        await engine.fork_run("source", run_id="new", at=3)
    assert [run.run_id for run in await engine.runs()] == ["source"]
