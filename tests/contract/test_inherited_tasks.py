"""What a forked run has from its source, as the stores show it and go on from it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec import structs

from engine import Engine, open_engine
from engine.errors import StepNotFound
from engine.events import AttemptCreated, StepLogged, StepStatusChanged
from engine.stores import PartitionedRunLogStore, StateStore, StepAttempt, StepLog
from tests.contract.state_stores import handle, workflow


@pytest.fixture
async def store(database: Any) -> AsyncIterator[StateStore]:
    """Of a run `r` whose task `relax` is done and whose task `bands` is not, and of a fork of it."""
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


async def _types(engine: Engine) -> list[type]:
    """What was recorded for the fork behind its opening."""
    return [type(each.event) async for each in engine.events(run_id="fork")][1:]


async def test_what_succeeded_is_there(store: StateStore) -> None:
    """Its status and its attempts too; what did not succeed is to be logged anew."""
    assert [(task.task_id, task.status) for task in await store.get_tasks("fork")] == [("relax", "COMPLETED")]
    assert await store.get_task_status("relax", "fork") == "COMPLETED"
    assert await store.get_task_status("bands", "fork") is None
    assert [attempt.status for attempt in await store.list_attempts("relax", "fork")] == ["COMPLETED"]


async def test_the_workflow_again_keeps_what_succeeded(store: StateStore, engine: Engine) -> None:
    """Only what is not there is recorded: who resumes a run does no task twice."""
    await store.add_workflow(workflow("relax", "bands"), "fork")
    found = [(task.task_id, task.status) for task in await store.get_tasks("fork")]
    assert found == [("relax", "COMPLETED"), ("bands", "PENDING")]
    assert await _types(engine) == [StepLogged]


async def test_a_task_that_is_described_anew_is_to_be_done_again(store: StateStore) -> None:
    """It is another task than the one that succeeded."""
    await store.add_workflow(workflow("relax", image="new"), "fork")
    assert [(task.image, task.status) for task in await store.get_tasks("fork")] == [("new", "PENDING")]
    assert await store.list_attempts("relax", "fork") == []


async def test_a_status_makes_it_the_runs_own(store: StateStore, engine: Engine) -> None:
    """The same status changes nothing; another hides what was inherited, and the source stays as it is."""
    await store.update_task_status("relax", "COMPLETED", run_id="fork")
    assert await _types(engine) == []
    await store.update_task_status("relax", "CANCELLED", run_id="fork")
    assert await _types(engine) == [StepLogged, StepStatusChanged]
    assert await store.get_task_status("relax", "fork") == "CANCELLED"
    assert await store.get_task_status("relax", "r") == "COMPLETED"
    step = await (await engine.run("fork")).step("relax")
    assert (step.inherited_from, step.attempts) == (None, [])
    assert await engine.verify_views() == []


async def test_another_attempt_is_the_runs_first(store: StateStore, engine: Engine) -> None:
    """The task becomes the run's own with it, and keeps its status."""
    attempt_id = await store.create_attempt("fork", "relax")
    assert await _types(engine) == [StepLogged, AttemptCreated]
    assert [(each.attempt_id, each.attempt_index) for each in await store.list_attempts("relax", "fork")] == [
        (attempt_id, 1)
    ]
    assert await store.get_task_status("relax", "fork") == "COMPLETED"


async def test_what_is_not_the_branchs_own_is_not_removed(store: StateStore, engine: Engine) -> None:
    """It is the source's."""
    with pytest.raises(StepNotFound):
        await (await engine.run("fork")).remove_step("relax")


async def test_a_run_log_that_is_put_back_records_nothing(engine: Engine) -> None:
    """As it was read of the fork: what is inherited stays so. A step that says something else is the fork's own."""
    runs = PartitionedRunLogStore(engine)
    await runs.create_run_log("logged")
    step = StepLog(name="fit", internal_name="fit", status="SUCCESS", attempts=[StepAttempt(status="SUCCESS")])
    await runs.add_step_log(step, "logged")
    await engine.fork_run("logged", run_id="fork of it")
    before = await engine.last_position()
    log = await runs.get_run_log_by_id("fork of it", full=True)
    assert list(log.steps) == ["fit"]
    await runs.put_run_log(log)
    assert await engine.last_position() == before
    await runs.add_step_log(structs.replace(step, message="again"), "fork of it")
    own = await (await engine.run("fork of it")).step("fit")
    assert (own.message, own.inherited_from, len(own.attempts)) == ("again", None, 1)


async def test_a_source_that_is_looked_at_as_it_was_is_looked_at_once(store: StateStore, engine: Engine) -> None:
    """It has gone on since the fork; a workflow of many tasks asks for each."""
    await store.add_workflow(workflow("relax", image="newer"), "r")
    await store.add_workflow(workflow(*[f"t{index}" for index in range(50)], "relax"), "fork")
    assert len(await store.get_tasks("fork")) == 51
    assert await store.get_task_status("relax", "fork") == "COMPLETED"
