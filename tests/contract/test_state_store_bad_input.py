"""Invalid input to the state store, method by method: each raises a typed error and records nothing."""

from collections.abc import AsyncIterator, Callable
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.errors import AmbiguousTask, EventTooLarge, InvalidInput, InvalidName, InvalidValue
from tests.contract.state_stores import TWINS, begin, external, handle, last_position, metadata, opened, task, workflow

LONG = "x" * 513
SURROGATE = "\ud800"
HUGE = "x" * (1024 * 1024)
DEEP: Any = []
for _ in range(70):
    DEEP = [DEEP]

NAMES = [None, 7, "", LONG, SURROGATE, "line\nbreak", b"a", ["a"]]
TEXTS = [7, SURROGATE, b"a", ["a"]]
DOCUMENTS = [7, [], "", [("a", 1)], {1: 2}, {"a": {1}}, {"a": 2**63}, {"a": SURROGATE}, {"a": DEEP}, {"a": b""}]


@pytest.fixture(params=TWINS)
async def store(request: pytest.FixtureRequest, database: Path) -> AsyncIterator[Any]:
    async with opened(request.param, database) as twin:
        await begin(twin, "a")
        twin.attempt_id = await twin.create_attempt("r", "a")
        yield twin


Call = Callable[[Any, Any], Any]

BY_NAME: dict[str, Call] = {
    "create_run": lambda store, bad: store.create_run(handle(bad)),
    "get_run": lambda store, bad: store.get_run(bad),
    "get_run_metadata": lambda store, bad: store.get_run_metadata(bad),
    "get_run_status": lambda store, bad: store.get_run_status(bad),
    "get_run_status_reason": lambda store, bad: store.get_run_status_reason(bad),
    "set_run_status, run": lambda store, bad: store.set_run_status(bad, "FAILED"),
    "set_run_status, status": lambda store, bad: store.set_run_status("r", bad),
    "create_run, status": lambda store, bad: store.create_run(handle("new"), metadata(status=bad)),
    "add_workflow, run": lambda store, bad: store.add_workflow(workflow("b"), bad),
    "add_workflow, no tasks": lambda store, bad: store.add_workflow(workflow(), bad),
    "add_workflow, task": lambda store, bad: store.add_workflow({"tasks": {"b": task(bad)}}, "r"),
    "get_tasks": lambda store, bad: store.get_tasks(bad),
    "get_task_status": lambda store, bad: store.get_task_status(bad),
    "update_task_status, task": lambda store, bad: store.update_task_status(bad, "RUNNING"),
    "update_task_status, status": lambda store, bad: store.update_task_status("a", bad),
    "delete_task": lambda store, bad: store.delete_task(bad),
    "register_external_run, task": lambda store, bad: store.register_external_run(external(bad), "r"),
    "register_external_run, run": lambda store, bad: store.register_external_run(external("a"), bad),
    "register_external_run, status": lambda store, bad: store.register_external_run(external("a", status=bad), "r"),
    "update_external_run": lambda store, bad: store.update_external_run(external(bad)),
    "get_external_run": lambda store, bad: store.get_external_run(bad),
    "get_active_external_runs": lambda store, bad: store.get_active_external_runs(bad),
    "cancel_external_runs": lambda store, bad: store.cancel_external_runs(bad),
    "create_attempt, run": lambda store, bad: store.create_attempt(bad, "a"),
    "create_attempt, task": lambda store, bad: store.create_attempt("r", bad),
    "create_attempt, status": lambda store, bad: store.create_attempt("r", "a", status=bad),
    "list_attempts": lambda store, bad: store.list_attempts(bad),
    "get_attempt_count, run": lambda store, bad: store.get_attempt_count(bad, "a"),
    "get_attempt_count, task": lambda store, bad: store.get_attempt_count("r", bad),
    "get_attempt": lambda store, bad: store.get_attempt(bad),
    "get_current_attempt": lambda store, bad: store.get_current_attempt(bad),
    "get_active_attempts": lambda store, bad: store.get_active_attempts(bad),
    "get_attempt_task_ids": lambda store, bad: store.get_attempt_task_ids(bad),
    "count_active_attempts_by_operator": lambda store, bad: store.count_active_attempts_by_operator(bad),
    "find_orphaned_attempts": lambda store, bad: store.find_orphaned_attempts(bad),
    "update_attempt": lambda store, bad: store.update_attempt(bad, status="FAILED"),
    "mark_attempts_failed_init": lambda store, bad: store.mark_attempts_failed_init([bad]),
}


@pytest.mark.parametrize("call", BY_NAME)
async def test_a_bad_name_is_refused(store: Any, call: str) -> None:
    """An invalid name or status raises InvalidName; valid ones are printable and have 1 to 512 bytes."""
    before = await last_position(store)
    for bad in NAMES:
        with pytest.raises(InvalidName):
            await BY_NAME[call](store, bad)
    assert await last_position(store) == before


BY_OPTIONAL_RUN: dict[str, Call] = {
    "get_task_status": lambda store, bad: store.get_task_status("a", bad),
    "update_task_status": lambda store, bad: store.update_task_status("a", "RUNNING", bad),
    "delete_task": lambda store, bad: store.delete_task("a", bad),
    "update_external_run": lambda store, bad: store.update_external_run(external("a"), bad),
    "get_external_run": lambda store, bad: store.get_external_run("a", bad),
    "cancel_external_runs": lambda store, bad: store.cancel_external_runs("a", bad),
    "list_attempts": lambda store, bad: store.list_attempts("a", bad),
    "get_current_attempt": lambda store, bad: store.get_current_attempt("a", bad),
}


@pytest.mark.parametrize("call", BY_OPTIONAL_RUN)
async def test_a_bad_run_is_refused_where_one_may_be_given(store: Any, call: str) -> None:
    """An invalid run id raises InvalidName where a run may be named or left out as None."""
    before = await last_position(store)
    for bad in NAMES[1:]:
        with pytest.raises(InvalidName):
            await BY_OPTIONAL_RUN[call](store, bad)
    assert await last_position(store) == before


BY_TEXT: dict[str, Call] = {
    "create_run, workspace": lambda store, bad: store.create_run(handle("new", workspace_slug=bad)),
    "create_run, root": lambda store, bad: store.create_run(handle("new", root_path=bad)),
    "create_run, description": lambda store, bad: store.create_run(handle("new"), metadata(description=bad)),
    "set_run_status": lambda store, bad: store.set_run_status("r", "FAILED", bad),
    "register_external_run, type": lambda store, bad: store.register_external_run(
        external("a", operator_type=bad), "r"
    ),
    "register_external_run, id": lambda store, bad: store.register_external_run(external("a", external_id=bad), "r"),
    "register_external_run, path": lambda store, bad: store.register_external_run(
        external("a", relative_path=bad), "r"
    ),
    "create_attempt, type": lambda store, bad: store.create_attempt("r", "a", operator_type=bad),
    "create_attempt, key": lambda store, bad: store.create_attempt("r", "a", operator_key=bad),
    "create_attempt, path": lambda store, bad: store.create_attempt("r", "a", relative_path=bad),
    "mark_attempts_failed_init": lambda store, bad: store.mark_attempts_failed_init([store.attempt_id], bad),
} | {
    f"update_attempt, {name}": lambda store, bad, name=name: store.update_attempt(store.attempt_id, **{name: bad})
    for name in ("operator_type", "operator_key", "external_id", "relative_path", "status_reason")
}


@pytest.mark.parametrize("call", BY_TEXT)
async def test_a_bad_text_is_refused(store: Any, call: str) -> None:
    """A text that UTF-8 cannot encode, or a value that is no text, raises InvalidValue."""
    before = await last_position(store)
    for bad in TEXTS:
        with pytest.raises(InvalidValue):
            await BY_TEXT[call](store, bad)
    assert await last_position(store) == before


BY_DOCUMENT: dict[str, Call] = {
    "create_run": lambda store, bad: store.create_run(handle("new"), metadata(tags=bad)),
    "register_external_run": lambda store, bad: store.register_external_run(external("a", operator_data=bad), "r"),
    "create_attempt": lambda store, bad: store.create_attempt("r", "a", operator_data=bad),
    "update_attempt": lambda store, bad: store.update_attempt(store.attempt_id, operator_data=bad),
}


@pytest.mark.parametrize("call", BY_DOCUMENT)
async def test_a_bad_document_is_refused(store: Any, call: str) -> None:
    """A document that is not a mapping of JSON values raises InvalidValue."""
    before = await last_position(store)
    for bad in DOCUMENTS:
        with pytest.raises(InvalidValue):
            await BY_DOCUMENT[call](store, bad)
    assert await last_position(store) == before


TOO_LARGE: dict[str, Call] = {
    **BY_DOCUMENT,
    "set_run_status": lambda store, bad: store.set_run_status("r", "FAILED", bad["a"]),
    "add_workflow": lambda store, bad: store.add_workflow(workflow("b", files=bad), "r"),
}


@pytest.mark.parametrize("call", TOO_LARGE)
async def test_a_huge_value_is_refused(store: Any, call: str) -> None:
    """A value larger than an event's limit raises EventTooLarge, which names the limit."""
    before = await last_position(store)
    with pytest.raises(EventTooLarge, match="limit is 1048576 bytes"):
        await TOO_LARGE[call](store, {"a": HUGE})
    assert await last_position(store) == before


@pytest.mark.parametrize("call", BY_DOCUMENT)
async def test_what_no_json_has_but_floats_do_is_recorded(store: Any, call: str) -> None:
    """NaN and the infinities are recorded like any other value."""
    before = await last_position(store)
    await BY_DOCUMENT[call](store, {"loss": [float("nan"), float("-inf")]})
    assert await last_position(store) == before + 1


BAD_TASKS: dict[str, list[Any]] = {
    "cores": ["many", 1.5, True, 2**63],
    "memory_gb": ["2", [1]],
    "gpus": ["1", 0.5],
    "time_limit_minutes": ["90", 1.5],
    "image": [7, None, SURROGATE],
    "command": [7, ["ls"]],
    "files": [7, ["x"], {1: "x"}, {"x": b"y"}],
    "env": [{"A": 1}, ["A=1"], {1: "A"}],
    "dependencies": ["b", [1], 7, {"b": 1}],
    "allow_failure": [1, "yes", None],
    "allow_dependency_failure": [0, "no"],
    "download_patterns": ["*.csv", {"include": "*.csv"}, [1]],
    "task_type": [7],
    "operator_key": [7],
}


@pytest.mark.parametrize("name", BAD_TASKS)
async def test_a_field_of_a_task_has_its_type(store: Any, name: str) -> None:
    """A task's field of the wrong type raises InvalidValue."""
    before = await last_position(store)
    for bad in BAD_TASKS[name]:
        with pytest.raises(InvalidValue):
            await store.add_workflow(workflow("b", **{name: bad}), "r")
    assert await last_position(store) == before


@pytest.mark.parametrize("bad", [None, 7, "r", {}, SimpleNamespace(), ["r"]])
async def test_what_has_none_of_the_attributes_is_refused(store: Any, bad: Any) -> None:
    """An object that lacks a required attribute raises InvalidValue, which names the attribute."""
    before = await last_position(store)
    refused: dict[str, Callable[[], Any]] = {
        "has no run_id": lambda: store.create_run(bad),
        "has no tasks": lambda: store.add_workflow(bad, "r"),
        "task_id": lambda: store.add_workflow({"tasks": {"b": bad}}, "r"),
        "has no operator_type": lambda: store.register_external_run(bad, "r"),
        "has no task_id": lambda: store.update_external_run(bad),
    }
    for message, call in refused.items():
        with pytest.raises(InvalidValue, match=message):
            await call()
    assert await last_position(store) == before


@pytest.mark.parametrize("bad", [7, "PENDING", SimpleNamespace(statsu="PENDING")])
async def test_metadata_without_a_known_attribute_is_refused(store: Any, bad: Any) -> None:
    """Metadata with none of the known attributes raises InvalidValue."""
    before = await last_position(store)
    with pytest.raises(InvalidValue, match="created_at"):
        await store.create_run(handle("new"), bad)
    assert await last_position(store) == before


@pytest.mark.parametrize("tasks", [None, 7, "ab", ["a"], {"a"}])
async def test_a_workflow_has_a_mapping_of_tasks(store: Any, tasks: Any) -> None:
    """A workflow whose tasks are not a mapping raises InvalidValue."""
    with pytest.raises(InvalidValue, match=r"workflow\.tasks"):
        await store.add_workflow(SimpleNamespace(tasks=tasks), "r")


@pytest.mark.parametrize("bad", [{"cores": "two"}, {"env": {"A": object()}}, {"command": 5}])
async def test_a_task_that_cannot_be_recorded_is_named(store: Any, bad: dict[str, Any]) -> None:
    """A workflow with one invalid task raises InvalidValue, which names the task, and records none of the tasks."""
    before = await last_position(store)
    tasks = {"good": SimpleNamespace(command="run"), "fit model": SimpleNamespace(**bad)}
    with pytest.raises(InvalidValue, match="task 'fit model'"):
        await store.add_workflow(SimpleNamespace(tasks=tasks), "r")
    assert await last_position(store) == before


WEST, EAST = timezone(timedelta(hours=-12)), timezone(timedelta(hours=14))


@pytest.mark.parametrize(
    "bad", ["2026-01-01", 7, date(2026, 1, 1), datetime.max.replace(tzinfo=WEST), datetime.min.replace(tzinfo=EAST)]
)
async def test_a_time_of_creation_is_a_time(store: Any, bad: Any) -> None:
    """A creation time that is no datetime, or outside the years 1 to 9999 in UTC, raises InvalidValue."""
    before = await last_position(store)
    with pytest.raises(InvalidValue, match="time"):
        await store.create_run(handle("new"), metadata(created_at=bad))
    assert await last_position(store) == before


async def test_one_text_is_not_taken_for_several_ids(store: Any) -> None:
    """A single string given as attempt ids raises InvalidValue, as does a value that is no collection."""
    with pytest.raises(InvalidValue, match="attempt_ids"):
        await store.mark_attempts_failed_init(store.attempt_id)
    for bad in (None, 7):
        with pytest.raises(InvalidValue, match="attempt_ids"):
            await store.mark_attempts_failed_init(bad)


async def test_every_error_of_bad_input_is_a_value_error(store: Any) -> None:
    """The errors for invalid input are ValueErrors."""
    assert issubclass(InvalidInput, ValueError)
    assert issubclass(AmbiguousTask, InvalidInput)
    with pytest.raises(ValueError, match="run id"):
        await store.create_run(handle(LONG))
