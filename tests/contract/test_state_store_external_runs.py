"""External runs (the legacy interface) in the state store, tested on the async store and its blocking twin."""

import enum
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from engine import Engine, TaskSpec
from engine.commands import LogExternalRun, LogTask
from engine.errors import ExternalRunNotFound, RunNotFound, TaskNotFound
from engine.events import ExternalRunRegistered
from engine.stores import ExternalRunHandle, StateStore
from tests.contract.state_stores import TWINS, begin, external, last_position, opened


class Status(enum.Enum):
    SUBMITTED = "SUBMITTED"
    COMPLETED = "COMPLETED"


@pytest.fixture(params=TWINS)
async def store(request: pytest.FixtureRequest, database: Path) -> AsyncIterator[Any]:
    async with opened(request.param, database) as twin:
        await begin(twin, "a", "b")
        yield twin


async def test_an_external_run_comes_back_as_it_was_given(store: Any) -> None:
    """An external run is read back as given; its status may be an enum member, and its path is a `Path`."""
    data = {"host": "login1", "loss": [None, 1.5]}
    given = external(
        "a", external_id="77", status=Status.SUBMITTED, operator_data=data, relative_path=PurePosixPath("a/x")
    )
    await store.register_external_run(given, "r")
    assert await store.get_external_run("a") == ExternalRunHandle(
        task_id="a",
        operator_type="slurm",
        external_id="77",
        status="SUBMITTED",
        operator_data=data,
        relative_path=Path("a/x"),
    )


async def test_what_was_not_said_of_it_is_empty(store: Any) -> None:
    """A task without an external run has None; omitted fields of an external run have their defaults."""
    assert await store.get_external_run("a") is None
    await store.register_external_run(external("a"), "r")
    found = await store.get_external_run("a")
    assert (found.status, found.external_id, found.operator_data, found.relative_path) == ("CREATED", None, {}, None)


async def test_registering_again_is_the_newer_one(store: Any) -> None:
    """Registering again replaces a task's external run."""
    await store.register_external_run(external("a", external_id="1", status="FAILED"), "r")
    await store.register_external_run(external("a", external_id="2", operator_type="local"), "r")
    found = await store.get_external_run("a")
    assert (found.external_id, found.status, found.operator_type) == ("2", "CREATED", "local")


async def test_an_update_says_how_it_stands(store: Any) -> None:
    """`update_external_run` replaces everything but the operator type."""
    await store.register_external_run(external("a"), "r")
    changes = {"external_id": "9", "operator_data": {"a": 1}, "relative_path": Path("b")}
    await store.update_external_run(external("a", status=Status.COMPLETED, operator_type="other", **changes))
    found = await store.get_external_run("a")
    assert {name: getattr(found, name) for name in changes} == changes
    assert (found.status, found.operator_type) == ("COMPLETED", "slurm")


async def test_the_same_again_records_nothing(store: Any) -> None:
    """Repeating a registration, an update or a cancellation records nothing."""
    given = external("a", external_id="1", operator_data={"nan": float("nan")})
    await store.register_external_run(given, "r")
    before = await last_position(store)
    await store.register_external_run(given, "r")
    await store.update_external_run(given)
    assert await last_position(store) == before
    await store.cancel_external_runs("a")
    await store.cancel_external_runs("a")
    assert await last_position(store) == before + 1


async def test_active_external_runs_are_those_that_have_not_ended(store: Any) -> None:
    """`get_active_external_runs` leaves out ended external runs and those of other runs."""
    await begin(store, "c", run_id="s")
    await store.register_external_run(external("a", status="RUNNING"), "r")
    await store.register_external_run(external("b"), "r")
    await store.register_external_run(external("c"), "s")
    assert [each.task_id for each in await store.get_active_external_runs("r")] == ["a", "b"]
    for status, task_id in (("COMPLETED", "a"), ("FAILED_INIT", "b")):
        await store.update_external_run(external(task_id, status=status))
    assert await store.get_active_external_runs("r") == []
    assert await store.get_active_external_runs("unknown") == []


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED", "FAILED_INIT", "CANCELLED"])
async def test_cancelling_touches_only_active_ones(store: Any, status: str) -> None:
    """Cancelling leaves an ended external run unchanged and records nothing."""
    await store.register_external_run(external("a", status=status), "r")
    before = await last_position(store)
    await store.cancel_external_runs("a")
    assert (await store.get_external_run("a")).status == status
    assert await last_position(store) == before


async def test_cancelling_keeps_what_else_is_known(store: Any) -> None:
    """Cancelling changes only the status, and only of that task's external run."""
    await store.register_external_run(external("a", external_id="1", operator_data={"a": 1}, relative_path="p"), "r")
    await store.register_external_run(external("b"), "r")
    await store.cancel_external_runs("a")
    found = await store.get_external_run("a")
    assert (found.status, found.external_id, found.operator_data) == ("CANCELLED", "1", {"a": 1})
    assert found.relative_path == Path("p")
    assert [each.task_id for each in await store.get_active_external_runs("r")] == ["b"]


async def test_a_task_without_an_external_run_has_none_to_cancel(store: Any) -> None:
    """For a task without an external run, cancelling does nothing and updating raises ExternalRunNotFound."""
    before = await last_position(store)
    await store.cancel_external_runs("a")
    with pytest.raises(ExternalRunNotFound, match="'a'"):
        await store.update_external_run(external("a"))
    assert await last_position(store) == before


async def test_an_external_run_needs_its_task(store: Any) -> None:
    """An external run of an unknown task or run raises an error that names it, and records nothing."""
    before = await last_position(store)
    with pytest.raises(TaskNotFound, match="'unknown' in run 'r'"):
        await store.register_external_run(external("unknown"), "r")
    with pytest.raises(RunNotFound, match="'unknown'"):
        await store.register_external_run(external("a"), "unknown")
    with pytest.raises(ExternalRunNotFound, match="'unknown'"):
        await store.update_external_run(external("unknown"))
    assert await last_position(store) == before


async def test_an_update_has_to_say_the_status(store: Any) -> None:
    """Updating with a handle that has no status raises ValueError and records nothing."""
    await store.register_external_run(external("a", status="RUNNING"), "r")
    before = await last_position(store)
    with pytest.raises(ValueError, match="has no status"):
        await store.update_external_run({"task_id": "a", "external_id": "1"})
    assert await last_position(store) == before


async def test_what_the_engine_did_not_say_of_it_is_empty(engine: Engine) -> None:
    """An external run that was recorded without operator data is read with an empty mapping."""
    registered = ExternalRunRegistered(branch="", task_id="t", operator_type="HPC", status="SUBMITTED")
    run = await engine.create_run("r")
    await run.write(LogTask(task_id="t", spec=TaskSpec()), LogExternalRun(event=registered))
    found = await StateStore(engine).get_external_run("t")
    assert found is not None
    assert found.operator_data == {}
