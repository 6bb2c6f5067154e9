"""What a forked run inherits from its source, as the stores show it and build on it."""

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from engine import Engine, TaskSpec, open_engine
from engine.commands import SOURCE_HEAD, Configure, LogStep, OpenRun, SetStepStatus
from engine.errors import ReadFailed, TaskNotFound
from engine.events import AttemptCreated, RunConfigured, RunForked, StepLogged, StepRemoved, StepStatusChanged
from engine.model import StepDocument
from engine.stores import PartitionedRunLogStore, StateStore
from engine.stores.documents import StepAttempt, StepLog
from tests.contract.state_stores import external, handle, workflow


@pytest.fixture
async def store(database: Any) -> AsyncIterator[StateStore]:
    """A store with a run `r`, whose task `relax` is completed and `bands` failed, and a fork of it."""
    async with open_engine(database) as engine:
        store = StateStore(engine)
        await store.create_run(handle())
        await store.add_workflow(workflow("relax", "bands"), "r")
        for task_id, status in (("relax", "COMPLETED"), ("bands", "FAILED")):
            attempt_id = await store.create_attempt("r", task_id)
            await store.update_attempt(attempt_id, status=status)
            await store.update_task_status(task_id, status, run_id="r")
        await engine.fork_run("r", run_id="fork")
        yield store


@pytest.fixture
def engine(store: StateStore) -> Engine:
    return store._engine


async def _types(engine: Engine, run_id: str = "fork") -> list[type]:
    """Return the types of the events of a run, without the first."""
    return [type(each.event) async for each in engine.events(run_id=run_id)][1:]


async def test_what_succeeded_is_there(store: StateStore) -> None:
    """A fork shows its source's completed task with status and attempts, and does not show the failed one."""
    assert [(task.task_id, task.status) for task in await store.get_tasks("fork")] == [("relax", "COMPLETED")]
    assert await store.get_task_status("relax", "fork") == "COMPLETED"
    assert await store.get_task_status("bands", "fork") is None
    assert [attempt.status for attempt in await store.list_attempts("relax", "fork")] == ["COMPLETED"]


async def test_an_inherited_attempt_is_the_sources(store: StateStore) -> None:
    """An inherited attempt keeps its source's run id and its state as of the fork, however it is read."""
    (listed,) = await store.list_attempts("relax", "fork")
    assert (listed.run_id, listed.status) == ("r", "COMPLETED")
    assert await store.get_current_attempt("relax", "fork") == listed
    assert await store.get_attempt(listed.attempt_id) == listed
    assert await store.get_attempt_task_ids("fork") == {"relax"}

    await store.update_attempt(listed.attempt_id, status="FAILED")
    assert await store.get_current_attempt("relax", "fork") == listed
    await store.delete_task("relax", "r")
    assert await store.get_current_attempt("relax", "fork") == listed


async def test_the_workflow_again_keeps_what_succeeded(store: StateStore, engine: Engine) -> None:
    """Adding the same workflow to a fork keeps the inherited task as completed and records only the missing task."""
    await store.add_workflow(workflow("relax", "bands"), "fork")
    found = [(task.task_id, task.status) for task in await store.get_tasks("fork")]
    assert found == [("relax", "COMPLETED"), ("bands", "PENDING")]
    assert await _types(engine) == [StepLogged]


async def test_a_task_that_is_described_anew_is_to_be_done_again(store: StateStore) -> None:
    """An inherited task that the fork describes differently is pending, without attempts."""
    await store.add_workflow(workflow("relax", image="new"), "fork")
    assert [(task.image, task.status) for task in await store.get_tasks("fork")] == [("new", "PENDING")]
    assert await store.list_attempts("relax", "fork") == []


async def test_an_inherited_task_is_tried_again_as_what_it_is(store: StateStore, engine: Engine) -> None:
    """A new attempt at an inherited task copies the task to the fork with its spec and status, without old attempts."""
    (before,) = await store.get_tasks("fork")
    attempt_id = await store.create_attempt("fork", "relax")
    (task,) = await store.get_tasks("fork")
    assert structs.replace(task, current_attempt_id=None) == structs.replace(before, current_attempt_id=None)
    (attempt,) = await store.list_attempts("relax", "fork")
    assert (attempt.attempt_id, attempt.run_id, attempt.attempt_index) == (attempt_id, "fork", 1)
    assert await _types(engine) == [StepLogged, AttemptCreated]
    assert len(await store.list_attempts("relax", "r")) == 1


async def test_the_status_of_an_inherited_task_can_be_set(store: StateStore, engine: Engine) -> None:
    """A new status of an inherited task copies the task to the fork; the same status records nothing."""
    await store.update_task_status("relax", "COMPLETED", run_id="fork")
    assert await _types(engine) == []
    await store.update_task_status("relax", "PENDING", run_id="fork")
    assert await _types(engine) == [StepLogged, StepStatusChanged]
    assert [(task.image, task.status) for task in await store.get_tasks("fork")] == [("python:3.12", "PENDING")]
    assert await store.get_task_status("relax", "r") == "COMPLETED"


async def test_an_inherited_task_can_be_removed(store: StateStore, engine: Engine) -> None:
    """A fork can remove an inherited task for itself and later forks; it is still there at earlier points."""
    await store.delete_task("relax", "fork")
    assert await _types(engine) == [StepRemoved]
    assert await store.get_tasks("fork") == []
    fork = await engine.run("fork")
    assert (await fork.steps(), list(await fork.steps(at=1))) == ({}, ["relax"])
    assert await (await engine.fork_run("fork", run_id="again")).steps() == {}
    assert list(await (await engine.fork_run("fork", run_id="before", at=1)).steps()) == ["relax"]
    for again in (store.delete_task("relax", "fork"), store.update_task_status("relax", "PENDING", run_id="fork")):
        with pytest.raises(TaskNotFound):
            await again
    await engine.delete_run("r", "old", carry_over=True)
    assert (await fork.steps(), await fork.steps(at=2), list(await fork.steps(at=1))) == ({}, {}, ["relax"])
    await engine.rebuild()
    assert await engine.verify_views() == []


async def test_an_own_task_that_is_removed_shows_no_source(store: StateStore) -> None:
    """Removing a fork's own task does not bring back the inherited one."""
    await store.create_attempt("fork", "relax")
    await store.delete_task("relax", "fork")
    assert await store.get_tasks("fork") == []
    await store.add_workflow(workflow("relax"), "fork")
    assert [(task.task_id, task.status) for task in await store.get_tasks("fork")] == [("relax", "PENDING")]


async def test_an_inherited_task_may_have_an_external_run(store: StateStore) -> None:
    """Registering an external run for an inherited task copies the task to the fork; cancelling none does not."""
    await store.cancel_external_runs("relax", "fork")
    await store.register_external_run(external("relax", external_id="1"), "fork")
    assert [task.status for task in await store.get_tasks("fork")] == ["COMPLETED"]
    found = await store.get_external_run("relax", "fork")
    assert found is not None
    assert found.external_id == "1"
    assert await store.get_external_run("relax", "r") is None


async def test_what_a_fork_sees_is_what_its_source_was_within_one_batch(engine: Engine) -> None:
    """A fork sees what its source was at the fork, even when both are written in the same batch."""
    spec = TaskSpec(image="image")
    done = StepDocument(step="s", status="COMPLETED")
    await engine.write("source", OpenRun(), LogStep(document=done, spec=spec), Configure(config={"a": 1}))
    opened = RunForked(
        branch="", source_run_id="source", source_branch="", source_version=SOURCE_HEAD, source_hash=b"", tag=""
    )
    await asyncio.gather(
        engine.write("source", LogStep(document=StepDocument(step="t", status="COMPLETED"))),
        engine.write("forked", OpenRun(event=opened)),
        engine.write("source", SetStepStatus(step="t", status="FAILED"), Configure(config={"a": 2})),
        engine.write("forked", SetStepStatus(step="t", status="PENDING"), Configure(config={"a": 1})),
    )
    forked = await engine.run("forked")
    assert {name: step.status for name, step in (await forked.steps()).items()} == {"s": "COMPLETED", "t": "PENDING"}
    assert await _types(engine, "forked") == [StepLogged, StepStatusChanged]

    await asyncio.gather(
        engine.write("source", Configure(config={"a": 3})),
        engine.write("again", OpenRun(event=opened), Configure(config={"a": 3})),
    )
    assert await _types(engine, "again") == []


async def test_what_is_inherited_is_the_root_branchs(store: StateStore, engine: Engine) -> None:
    """The task of a forked run means the inherited one of the root branch, even if a branch has the same task id."""
    branch = await (await engine.run("fork")).fork("b")
    await branch.log_step("relax", status="RUNNING", spec=TaskSpec())
    assert await store.get_task_status("relax", "fork") == "COMPLETED"


async def test_a_source_that_has_gone_on_is_seen_as_it_was(store: StateStore) -> None:
    """Changes to a source's task after the fork do not affect the fork."""
    await store.update_task_status("relax", "CANCELLED", run_id="r")
    await store.add_workflow(workflow("relax", image="newer"), "r")
    await store.add_workflow(workflow("relax", "bands"), "fork")
    found = [(task.task_id, task.status) for task in await store.get_tasks("fork")]
    assert found == [("relax", "COMPLETED"), ("bands", "PENDING")]


async def test_a_source_that_has_lost_an_event_is_said_to_have(store: StateStore, database: Path) -> None:
    """Reading a fork raises ReadFailed with the version when the source's event at the fork is missing."""
    await store.add_workflow(workflow("later"), "r")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(
            "DELETE FROM events WHERE stream_version = (SELECT parent_version FROM streams WHERE run_id = 'fork')"
            " AND stream_id = (SELECT parent_id FROM streams WHERE run_id = 'fork')"
        )
    with pytest.raises(ReadFailed, match=r"version [0-9]+ of branch '' of run 'r' is missing"):
        await store.get_tasks("fork")


async def test_what_was_skipped_is_done(store: StateStore, engine: Engine) -> None:
    """A skipped task is inherited like a completed one, and a skipped attempt is not active."""
    await store.update_task_status("bands", "SKIPPED", run_id="r")
    attempt_id = await store.create_attempt("r", "relax")
    await store.update_attempt(attempt_id, status="SKIPPED")
    assert list(await (await engine.fork_run("r", run_id="later")).steps()) == ["relax", "bands"]
    assert await store.get_active_attempts("r") == []


@pytest.fixture
async def logs(database: Any) -> AsyncIterator[PartitionedRunLogStore]:
    """A store with a run `r` that has a configuration and two completed steps, and a fork of it with a third."""
    async with open_engine(database) as engine:
        store = PartitionedRunLogStore(engine)
        await store.create_run_log("r", dag_hash="h")
        await store.set_run_config("r", {"file": "pipeline.py"})
        for name in ("a", "b"):
            attempt = StepAttempt(status="SUCCESS", start_time="2026-01-02 03:04:05", end_time="2026-01-02 03:04:06")
            await store.add_step_log(StepLog(internal_name=name, status="SUCCESS", attempts=[attempt]), "r")
        await engine.fork_run("r", run_id="fork")
        await store.add_step_log(StepLog(internal_name="c", status="SUCCESS"), "fork")
        yield store


async def test_a_log_that_is_handed_back_leaves_the_sources_steps_alone(logs: PartitionedRunLogStore) -> None:
    """Writing back the log of a fork as it was read records nothing and leaves inherited steps inherited."""
    engine = logs._engine
    before, compiled = await _types(engine), await (await engine.run("fork")).compile()
    await logs.put_run_log(await logs.get_run_log_by_id("fork", full=True))
    await logs.add_branch_log(await logs.get_branch_log("", "fork"), "fork")
    await logs.add_step_log(await logs.get_step_log("a", "fork"), "fork")
    assert await _types(engine) == before
    assert await (await engine.run("fork")).compile() == compiled


async def test_a_log_that_says_more_of_the_sources_steps_is_recorded(logs: PartitionedRunLogStore) -> None:
    """A changed log of an inherited step is recorded as the fork's own step; the source's step is unchanged."""
    step = await logs.get_step_log("a", "fork")
    attempts = [*step.attempts, StepAttempt(status="FAIL", attempt_number=2)]
    await logs.add_step_log(structs.replace(step, status="FAIL", attempts=attempts), "fork")
    found = await logs.get_step_log("a", "fork")
    assert [attempt.status for attempt in found.attempts] == ["SUCCESS", "FAIL"]
    assert [attempt.status for attempt in (await logs.get_step_log("a", "r")).attempts] == ["SUCCESS"]


async def test_a_fork_has_the_sources_configuration(logs: PartitionedRunLogStore) -> None:
    """A fork, or a fork of a fork, has the source's configuration as of the fork until it sets its own."""
    engine = logs._engine
    await logs.set_run_config("r", {"file": "later.py"})
    await engine.fork_run("fork", run_id="again", at=1)
    for run_id in ("fork", "again"):
        assert await logs.get_run_config(run_id) == {"file": "pipeline.py"}
        assert (await logs.get_run_log_by_id(run_id)).run_config == {"file": "pipeline.py"}
    await logs.set_run_config("fork", {"file": "own.py"})
    await logs.set_run_config("fork", {"file": "pipeline.py"})
    assert (await _types(engine))[-2:] == [RunConfigured, RunConfigured]
    assert await logs.get_run_config("fork") == {"file": "pipeline.py"}


async def test_a_fork_whose_source_is_gone_has_what_was_carried_over(logs: PartitionedRunLogStore) -> None:
    """A fork whose source was deleted with `carry_over` keeps the steps and the configuration."""
    await logs._engine.delete_run("r", "old", carry_over=True)
    assert await logs.get_run_config("fork") == {"file": "pipeline.py"}
    await logs.put_run_log(await logs.get_run_log_by_id("fork"))
    assert sorted((await logs.get_run_log_by_id("fork")).steps) == ["a", "b", "c"]


async def test_a_configuration_is_found_however_often_a_run_was_gone_on_from(logs: PartitionedRunLogStore) -> None:
    """A configuration is found through a chain of forks longer than the recursion limit."""
    for number in range(sys.getrecursionlimit()):
        await logs._engine.fork_run(f"fork {number - 1}" if number else "fork", run_id=f"fork {number}")
    assert await logs.get_run_config(f"fork {number}") == {"file": "pipeline.py"}
