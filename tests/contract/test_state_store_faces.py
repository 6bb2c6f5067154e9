"""One model behind all interfaces: the state store shows what the handles log, and the other way round."""

from collections.abc import Callable
from typing import Any

import pytest

from engine import Engine
from engine.errors import AmbiguousTask, TaskNotFound
from engine.model import TaskSpec
from engine.stores import PartitionedRunLogStore, StateStore, StepLog
from tests.contract.state_stores import begin, external, handle, workflow


@pytest.fixture
def store(engine: Engine) -> StateStore:
    return StateStore(engine)


async def test_a_step_with_a_specification_is_a_task(engine: Engine, store: StateStore) -> None:
    """A step with a spec, logged through a handle in any branch, is a task of its run."""
    run = await engine.create_run("r")
    branch = await run.fork("map.0")
    await run.log_step("a", spec=TaskSpec(image="x"), status="RUNNING")
    await branch.log_step("b", spec=TaskSpec(image="y"))
    await branch.log_step("plain")
    assert [(each.task_id, each.image, each.status) for each in await store.get_tasks("r")] == [
        ("a", "x", "RUNNING"),
        ("b", "y", "CREATED"),
    ]


async def test_a_task_in_a_branch_is_written_where_it_is(engine: Engine, store: StateStore) -> None:
    """The state store writes to a task in the branch where the task was logged."""
    branch = await (await engine.create_run("r")).fork("map.0")
    await branch.log_step("b", spec=TaskSpec(image="y"))
    await store.update_task_status("b", "RUNNING")
    attempt_id = await store.create_attempt("r", "b")
    await store.update_attempt(attempt_id, status="FAILED")
    await store.register_external_run(external("b"), "r")
    await store.cancel_external_runs("b")
    step = await branch.step("b")
    assert (step.status, step.current_attempt_id) == ("RUNNING", attempt_id)
    assert [each.status for each in step.attempts] == ["FAILED"]
    cancelled = await store.get_external_run("b")
    assert cancelled is not None
    assert cancelled.status == "CANCELLED"
    assert {recorded.branch async for recorded in engine.events(after=1)} == {"map.0"}


async def test_an_attempt_of_a_handle_is_seen(engine: Engine, store: StateStore) -> None:
    """The state store shows and counts attempts made through a handle."""
    await begin(store, "a")
    await store.create_attempt("r", "a")
    async with (await engine.run("r")).attempt("a", operator_key="local") as attempt:
        assert await store.count_active_attempts_by_operator("r") == {"": 1, "local": 1}
    found = await store.get_current_attempt("a")
    assert found is not None
    assert (found.attempt_id, found.attempt_index, found.status) == (attempt.attempt_id, 2, "COMPLETED")
    assert found.ended_at is not None
    assert await store.get_task_status("a") == "COMPLETED"


async def test_an_attempt_of_a_step_that_is_no_task_is_seen(engine: Engine, store: StateStore) -> None:
    """The state store lists the attempts of a step without a spec, but neither lists the step nor attempts it."""
    async with (await engine.create_run("r")).attempt("plain") as attempt:
        assert [each.attempt_id for each in await store.list_attempts("plain")] == [attempt.attempt_id]
    assert await store.get_attempt_task_ids("r") == {"plain"}
    assert await store.get_tasks("r") == []
    with pytest.raises(TaskNotFound, match="'plain'"):
        await store.create_attempt("r", "plain")


async def test_a_step_that_becomes_a_task_keeps_what_it_was(engine: Engine, store: StateStore) -> None:
    """A step that a workflow makes a task keeps its status and its attempts."""
    async with (await engine.create_run("r")).attempt("a") as attempt:
        pass
    await store.add_workflow(workflow("a"), "r")
    (task,) = await store.get_tasks("r")
    assert (task.status, task.current_attempt_id) == ("COMPLETED", attempt.attempt_id)
    await store.create_attempt("r", "a")
    assert [each.attempt_index for each in await store.list_attempts("a")] == [1, 2]


async def test_what_the_state_store_writes_is_in_the_run_log(engine: Engine, store: StateStore) -> None:
    """The compiled log and the run log store show a task of the state store as a step."""
    await begin(store, "a")
    attempt_id = await store.create_attempt("r", "a")
    compiled = await (await engine.run("r")).compile()
    assert compiled.steps["a"].spec is not None
    assert [each.attempt_id for each in compiled.steps["a"].attempts] == [attempt_id]
    step = await PartitionedRunLogStore(engine).get_step_log("a", "r")
    assert isinstance(step, StepLog)
    assert (step.internal_name, step.status, len(step.attempts)) == ("a", "PENDING", 1)


USES: dict[str, Callable[[StateStore], Any]] = {
    "read": lambda store: store.get_task_status("a", "r"),
    "write": lambda store: store.update_task_status("a", "RUNNING", "r"),
    "attempt": lambda store: store.create_attempt("r", "a"),
}


@pytest.mark.parametrize("use", USES)
async def test_a_task_in_two_branches_alone_is_ambiguous(engine: Engine, store: StateStore, use: str) -> None:
    """A task that two branches have, but not the root, raises AmbiguousTask with the branches."""
    run = await engine.create_run("r")
    for name in ("x", "y"):
        await (await run.fork(name)).log_step("a", spec=TaskSpec())
    with pytest.raises(AmbiguousTask, match="branch 'x' and run 'r', branch 'y'"):
        await USES[use](store)


@pytest.mark.parametrize("use", USES)
async def test_the_task_of_the_root_is_the_runs_own(engine: Engine, store: StateStore, use: str) -> None:
    """A task id that both the root and a branch have means the root's task."""
    await begin(store, "a")
    await (await (await engine.run("r")).fork("x")).log_step("a", spec=TaskSpec())
    await USES[use](store)
    assert {each.branch async for each in engine.events(run_id="r", types=["StepStatusChanged", "AttemptCreated"])} <= {
        ""
    }


async def test_a_plain_step_makes_no_task_ambiguous(engine: Engine, store: StateStore) -> None:
    """A step without a spec in another run does not make a task id ambiguous."""
    await begin(store, "a")
    await (await engine.create_run("s")).log_step("a")
    assert await store.get_task_status("a") == "PENDING"


async def test_a_run_of_another_face_has_a_handle(engine: Engine, store: StateStore) -> None:
    """The state store returns a run that a handle created, without workspace and root path."""
    await engine.create_run("r", tags={"a": 1}, description="d")
    run, metadata = await store.get_run("r"), await store.get_run_metadata("r")
    assert run is not None
    assert metadata is not None
    assert (run.workspace_slug, run.root_path) == (None, None)
    assert (metadata.tags, metadata.description) == ({"a": 1}, "d")
    await store.create_run(handle("s"))
    assert (await engine.run("s")).run_id == "s"


async def test_a_step_is_found_beside_a_task_of_another_run(engine: Engine, store: StateStore) -> None:
    """With a run given, a step without a spec is found there although another run has a task of that id."""
    run = await engine.create_run("r")
    async with run.attempt("x"):
        pass
    await store.create_run(handle("s"))
    await store.add_workflow(workflow("x"), "s")

    assert [each.status for each in await store.list_attempts("x", "r")] == ["COMPLETED"]
    assert await store.list_attempts("x") == []
