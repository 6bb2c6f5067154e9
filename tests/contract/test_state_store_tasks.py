"""Tasks in the state store, tested on the async store and its blocking twin."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.errors import AmbiguousTask, RunNotFound, TaskNotFound
from engine.stores import Task
from tests.contract.run_log_stores import recorded
from tests.contract.state_stores import TWINS, begin, external, handle, last_position, opened, task, workflow


@pytest.fixture(params=TWINS)
async def store(request: pytest.FixtureRequest, database: Path) -> AsyncIterator[Any]:
    async with opened(request.param, database) as twin:
        yield twin


# The methods on one task; each is called with a task id and optionally a run id.
WRITES: dict[str, Callable[..., Any]] = {
    "update_task_status": lambda store, *place: store.update_task_status(place[0], "RUNNING", *place[1:]),
    "delete_task": lambda store, *place: store.delete_task(*place),
    "cancel_external_runs": lambda store, *place: store.cancel_external_runs(*place),
    "update_external_run": lambda store, *place: store.update_external_run(external(place[0]), *place[1:]),
}
READS: dict[str, Callable[..., Any]] = {
    "get_task_status": lambda store, *place: store.get_task_status(*place),
    "get_external_run": lambda store, *place: store.get_external_run(*place),
    "list_attempts": lambda store, *place: store.list_attempts(*place),
    "get_current_attempt": lambda store, *place: store.get_current_attempt(*place),
}


async def test_a_task_comes_back_as_it_was_given(store: Any) -> None:
    """A task is read back with every field given."""
    given: dict[str, Any] = {
        "files": {"in.txt": "text", "deep": {"a": [1, None]}},
        "env": {"A": "1"},
        "dependencies": {"b", "c"},
        "cores": 4,
        "memory_gb": 1.5,
        "gpus": 1,
        "time_limit_minutes": 90,
        "allow_dependency_failure": True,
        "allow_failure": True,
        "download_patterns": {"include": ["*.csv"]},
        "task_type": "ExternalTask",
        "operator_key": "hpc.default",
    }
    await store.create_run(handle())
    await store.add_workflow(workflow("a", **given), "r")
    expected = given | {"task_id": "a", "image": "python:3.12", "command": "run a", "dependencies": frozenset("bc")}
    assert await store.get_tasks("r") == [Task(**expected, status="PENDING", current_attempt_id=None)]


async def test_a_task_that_says_little_has_the_defaults(store: Any) -> None:
    """Omitted fields of a task have their defaults; the task type is the name of the object's class."""
    await store.create_run(handle())
    await store.add_workflow(workflow("a"), "r")
    (found,) = await store.get_tasks("r")
    assert (found.files, found.env, found.dependencies, found.cores) == ({}, {}, frozenset(), None)
    assert (found.allow_failure, found.download_patterns, found.task_type) == (False, [], "SimpleNamespace")


async def test_tasks_come_in_the_order_they_were_added(store: Any) -> None:
    """Tasks are listed in the order in which they were first added."""
    await begin(store, "c", "a")
    await store.add_workflow(workflow("b", "c", image="new"), "r")
    assert [each.task_id for each in await store.get_tasks("r")] == ["c", "a", "b"]


async def test_adding_a_known_task_describes_it_anew(store: Any) -> None:
    """Adding a known task again updates its spec and keeps its status and current attempt."""
    await begin(store, "a")
    await store.update_task_status("a", "RUNNING")
    attempt_id = await store.create_attempt("r", "a")
    await store.add_workflow(workflow("a", image="new"), "r")
    (found,) = await store.get_tasks("r")
    assert (found.image, found.status, found.current_attempt_id) == ("new", "RUNNING", attempt_id)


async def test_adding_the_same_workflow_again_records_nothing(store: Any) -> None:
    """Adding the same workflow again records nothing, whatever the order of a set of dependencies."""
    await store.create_run(handle())
    fields = {"memory_gb": float("nan"), "files": {"b": 1, "a": 2}}
    await store.add_workflow(workflow("a", dependencies={"x", "y", "z"}, **fields), "r")
    before = await last_position(store)
    await store.add_workflow(workflow("a", dependencies={"z", "y", "x"}, **fields), "r")
    assert await last_position(store) == before


async def test_a_workflow_is_recorded_whole_or_not_at_all(store: Any) -> None:
    """A workflow with an invalid task records no task."""
    await store.create_run(handle())
    tasks = {"a": task("a"), "b": task("b", cores="many")}
    with pytest.raises(ValueError, match="cores"):
        await store.add_workflow(SimpleNamespace(tasks=tasks), "r")
    assert await store.get_tasks("r") == []
    assert await last_position(store) == 1


@pytest.mark.parametrize("task_ids", [(), ("a",)])
async def test_a_workflow_needs_its_run(store: Any, task_ids: tuple[str, ...]) -> None:
    """Adding a workflow, even an empty one, to an unknown run raises RunNotFound."""
    with pytest.raises(RunNotFound, match="'unknown'"):
        await store.add_workflow(workflow(*task_ids), "unknown")


async def test_a_status_is_set(store: Any) -> None:
    """`update_task_status` sets the task's status; setting it again records nothing."""
    await begin(store, "a", "b")
    assert await store.get_task_status("a") == "PENDING"
    await store.update_task_status("a", "WAITING_EXTERNAL")
    before = await last_position(store)
    await store.update_task_status("a", "WAITING_EXTERNAL")
    assert (await store.get_task_status("a"), await store.get_task_status("b")) == ("WAITING_EXTERNAL", "PENDING")
    assert await last_position(store) == before


async def test_a_deleted_task_takes_what_hangs_on_it_along(store: Any, database: Path) -> None:
    """Deleting a task removes its attempts and its external run from all reads; the history keeps their events."""
    await begin(store, "a", "b")
    attempt_id = await store.create_attempt("r", "a")
    await store.register_external_run(external("a"), "r")
    before = await recorded(database)
    await store.delete_task("a")
    assert [each.task_id for each in await store.get_tasks("r")] == ["b"]
    assert (await store.get_attempt(attempt_id), await store.list_attempts("a")) == (None, [])
    assert (await store.get_external_run("a"), await store.get_active_external_runs("r")) == (None, [])
    assert await store.get_active_attempts("r") == []
    assert (await recorded(database))[: len(before)] == before


async def test_a_deleted_task_may_be_added_again(store: Any) -> None:
    """A task added again after its deletion is pending and numbers its attempts from 1."""
    await begin(store, "a")
    await store.create_attempt("r", "a")
    await store.update_task_status("a", "FAILED")
    await store.delete_task("a")
    await store.add_workflow(workflow("a"), "r")
    (found,) = await store.get_tasks("r")
    assert (found.status, found.current_attempt_id) == ("PENDING", None)
    attempt_id = await store.create_attempt("r", "a")
    assert (await store.get_attempt(attempt_id)).attempt_index == 1


@pytest.mark.parametrize("write", WRITES)
async def test_writing_to_an_unknown_task_names_it(store: Any, write: str) -> None:
    """Writing to an unknown task raises a ValueError that names the task, and records nothing."""
    await begin(store, "a")
    before = await last_position(store)
    for place in (("unknown",), ("unknown", "r")):
        with pytest.raises(ValueError, match="task 'unknown'"):
            await WRITES[write](store, *place)
    assert await last_position(store) == before


@pytest.mark.parametrize("read", READS)
async def test_reading_an_unknown_task_gives_nothing(store: Any, read: str) -> None:
    """Reading an unknown task, or one of an unknown run, returns nothing."""
    await begin(store, "a")
    for place in (("unknown",), ("a", "unknown"), ("unknown", "r")):
        assert not await READS[read](store, *place)
    assert await store.get_tasks("unknown") == []


@pytest.mark.parametrize("use", [*WRITES, *READS])
async def test_a_task_in_two_runs_is_ambiguous(store: Any, use: str) -> None:
    """A task id that two runs have raises AmbiguousTask with both runs, unless a run is given."""
    await begin(store, "a", run_id="r")
    await begin(store, "a", run_id="s")
    await store.register_external_run(external("a"), "s")
    call = (WRITES | READS)[use]
    with pytest.raises(AmbiguousTask, match="'a' exists in run 'r' and run 's'") as caught:
        await call(store, "a")
    assert set(caught.value.places) == {("r", ""), ("s", "")}
    await call(store, "a", "s")


async def test_the_run_says_which_task_is_meant(store: Any) -> None:
    """With a run given, reads and writes of a task id affect only that run's task."""
    await begin(store, "a", run_id="r")
    await begin(store, "a", run_id="s")
    await store.update_task_status("a", "RUNNING", run_id="s")
    await store.create_attempt("s", "a")
    assert [await store.get_task_status("a", run_id=run) for run in "rs"] == ["PENDING", "RUNNING"]
    assert [await store.get_attempt_count(run, "a") for run in "rs"] == [0, 1]
    await store.delete_task("a", run_id="s")
    assert await store.get_task_status("a") == "PENDING"


async def test_an_unknown_run_is_named_before_the_task(store: Any) -> None:
    """Writing with an unknown run raises RunNotFound; with a known run and an unknown task, TaskNotFound."""
    await begin(store, "a")
    with pytest.raises(RunNotFound, match="'unknown'"):
        await store.update_task_status("a", "RUNNING", run_id="unknown")
    with pytest.raises(TaskNotFound, match="'b' in run 'r'"):
        await store.update_task_status("b", "RUNNING", run_id="r")
