"""The state store takes any object with the right attributes and returns objects of the host's classes."""

import enum
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, make_dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path, PurePosixPath
from types import MappingProxyType, SimpleNamespace
from typing import Any

import msgspec
import pydantic
import pytest

from engine import Engine
from engine.errors import InvalidValue
from engine.stores import Factories, RunHandle, SQLiteStateStore, StateStore, TaskAttempt
from tests.contract.state_stores import BEGUN, TWINS, external, handle, metadata, opened, workflow

RUN: dict[str, Any] = {"run_id": "r", "workspace_slug": "lab", "root_path": Path("/data/r")}
METADATA: dict[str, Any] = {"created_at": BEGUN, "status": "PENDING", "tags": {"team": "x"}, "description": "first"}
TASK: dict[str, Any] = {
    "task_id": "a",
    "image": "python",
    "command": "run",
    "dependencies": {"b"},
    "files": {Path("x"): Path("y")},
}
EXTERNAL_RUN: dict[str, Any] = {"task_id": "a", "operator_type": "slurm", "external_id": "1", "status": "RUNNING"} | {
    "operator_data": {"a": 1},
    "relative_path": PurePosixPath("p/q"),
}


def namespace(fields: dict[str, Any]) -> object:
    return SimpleNamespace(**fields)


def dataclass_object(fields: dict[str, Any]) -> object:
    return make_dataclass("Made", fields)(**fields)


def pydantic_object(fields: dict[str, Any]) -> object:
    types: dict[str, Any] = dict.fromkeys(fields, (Any, ...))
    return pydantic.create_model("Made", **types)(**fields)


def struct(fields: dict[str, Any]) -> object:
    return msgspec.defstruct("Made", [(name, Any) for name in fields])(**fields)


class Properties:
    """An object with computed attributes."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_fields"][name]
        except KeyError:
            raise AttributeError(name) from None


SHAPES: dict[str, Callable[[dict[str, Any]], object]] = {
    "namespace": namespace,
    "dataclass": dataclass_object,
    "pydantic": pydantic_object,
    "struct": struct,
    "mapping": dict,
    "read-only mapping": MappingProxyType,
    "properties": Properties,
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_any_object_with_the_attributes_is_taken(engine: Engine, shape: str) -> None:
    """The state store accepts objects of any class, and mappings, by their attributes or keys."""
    make, store = SHAPES[shape], StateStore(engine)
    await store.create_run(make(RUN), make(METADATA))
    await store.add_workflow(make({"tasks": {"a": make(TASK)}}), "r")
    await store.register_external_run(make(EXTERNAL_RUN), "r")
    await store.update_external_run(make(EXTERNAL_RUN | {"status": "FAILED"}))
    assert await store.get_run("r") == RunHandle(**RUN)
    found = await store.get_run_metadata("r")
    assert found is not None
    assert {name: getattr(found, name) for name in METADATA} == METADATA
    (task,) = await store.get_tasks("r")
    assert (task.image, task.dependencies, task.files) == ("python", frozenset("b"), {"x": "y"})
    ended = await store.get_external_run("a")
    assert ended is not None
    assert (ended.status, ended.external_id, ended.relative_path) == ("FAILED", "1", Path("p/q"))


async def test_what_the_store_returns_it_also_takes(engine: Engine) -> None:
    """Objects that the store returned can be given back to it and record nothing."""
    store = StateStore(engine)
    await store.create_run(handle(), metadata())
    await store.add_workflow(workflow("a", dependencies=["b"], memory_gb=2), "r")
    await store.register_external_run(external("a", relative_path="p"), "r")
    before = await engine.last_position()
    await store.add_workflow({"tasks": {each.task_id: each for each in await store.get_tasks("r")}}, "r")
    run = await store.get_external_run("a")
    assert run is not None
    await store.update_external_run(run)
    await store.register_external_run(run, "r")
    assert await engine.last_position() == before


async def test_a_task_is_named_by_its_key_unless_it_says_its_id(engine: Engine) -> None:
    """A task without `task_id` has its key in the workflow as its id."""
    store = StateStore(engine)
    await store.create_run(handle())
    await store.add_workflow({"tasks": {"a": {"image": "x"}, "key": {"image": "x", "task_id": "own"}}}, "r")
    assert [each.task_id for each in await store.get_tasks("r")] == ["a", "own"]


class State(enum.Enum):
    RUNNING = "RUNNING"


class Text(enum.StrEnum):
    RUNNING = "RUNNING"


@pytest.mark.parametrize("status", [State.RUNNING, Text.RUNNING])
async def test_a_status_may_be_a_member_of_an_enumeration(engine: Engine, status: Any) -> None:
    """A status given as an enum member is recorded as its plain text value, by every method."""
    store = StateStore(engine)
    await store.create_run(handle(), metadata(status=status))
    await store.add_workflow(workflow("a"), "r")
    await store.update_task_status("a", status)
    made = await store.create_attempt("r", "a", status=status)
    changed = await store.create_attempt("r", "a")
    await store.update_attempt(changed, status=status)
    await store.register_external_run(external("a", status=status), "r")
    said = [await store.get_run_status("r"), await store.get_task_status("a")]
    said += [getattr(await store.get_attempt(each), "status", None) for each in (made, changed)]
    said += [each.status for each in await store.get_active_external_runs("r")]
    assert said == ["RUNNING"] * 5
    assert {type(each) for each in said} == {str}


class OtherText(str):
    """A subclass of `str`, as other libraries have them, that is no enumeration."""

    __slots__ = ()


async def test_ids_may_be_texts_of_other_classes(engine: Engine) -> None:
    """Task and attempt ids may be instances of a subclass of `str`."""
    store, task_id = StateStore(engine), OtherText("a")
    await store.create_run(handle(), metadata())
    await store.add_workflow(workflow("a"), "r")
    attempt_id = await store.create_attempt("r", task_id)
    await store.update_attempt(OtherText(attempt_id), external_id="job-1")
    await store.update_task_status(task_id, "RUNNING")
    await store.register_external_run(external("a"), "r")
    await store.cancel_external_runs(task_id)
    assert getattr(await store.get_current_attempt("a"), "external_id", None) == "job-1"
    assert getattr(await store.get_external_run("a"), "status", None) == "CANCELLED"
    await store.delete_task(task_id)
    assert await store.get_tasks("r") == []


# Factories


@dataclass
class HostRun:
    """A class that takes only some of the fields and has one of its own."""

    run_id: str
    root_path: Path | None
    opened: bool = field(default=False)


class HostMetadata(pydantic.BaseModel):
    created_at: datetime
    status: str
    tags: dict[str, str]


class HostStatus(enum.Enum):
    RUNNING = "RUNNING"


class HostExternalRun(pydantic.BaseModel):
    task_id: str
    status: HostStatus
    relative_path: Path | None


def host_task(**fields: Any) -> SimpleNamespace:
    return SimpleNamespace(kind="host", **fields)


FACTORIES = Factories(
    run=HostRun,
    metadata=HostMetadata,
    task=partial(host_task, extra=1),
    attempt=dict,
    external_run=HostExternalRun,
)


@pytest.fixture(params=TWINS)
async def store(request: pytest.FixtureRequest, database: Path) -> AsyncIterator[Any]:
    async with opened(request.param, database, FACTORIES) as twin:
        await twin.create_run(handle(), metadata())
        await twin.add_workflow(workflow("a"), "r")
        yield twin


async def test_factories_make_what_is_returned(store: Any) -> None:
    """A factory gets the fields that it accepts, or all if it accepts any."""
    await store.register_external_run(external("a", status="RUNNING", relative_path="p"), "r")
    assert await store.get_run("r") == HostRun("r", Path("/data/r"))
    assert await store.get_run_metadata("r") == HostMetadata(created_at=BEGUN, status="PENDING", tags={"team": "x"})
    (task,) = await store.get_tasks("r")
    assert (task.kind, task.extra, task.task_id, task.status) == ("host", 1, "a", "PENDING")
    made = HostExternalRun(task_id="a", status=HostStatus.RUNNING, relative_path=Path("p"))
    assert await store.get_external_run("a") == made
    assert await store.get_active_external_runs("r") == [made]


async def test_a_factory_makes_every_attempt_that_is_returned(store: Any) -> None:
    """Every method that returns attempts makes them with the factory."""
    attempt_id = await store.create_attempt("r", "a")
    one = await store.get_attempt(attempt_id)
    assert type(one) is dict
    assert set(one) == set(TaskAttempt.__struct_fields__)
    assert await store.get_current_attempt("a") == one
    many = [await store.list_attempts("a"), await store.get_active_attempts("r")]
    many.append(await store.find_orphaned_attempts("r", 0))
    assert many == [[one]] * 3


async def test_what_is_not_there_is_made_by_nobody(store: Any) -> None:
    """Reading what is unknown returns None and calls no factory."""
    for read in (store.get_run, store.get_run_metadata, store.get_attempt, store.get_external_run):
        assert await read("unknown") is None


def test_a_factory_that_cannot_be_called_is_refused() -> None:
    """A factory that is not callable raises InvalidValue when `Factories` is made."""
    bad: Any = "HostRun"
    with pytest.raises(InvalidValue, match="factory run: 'HostRun'"):
        Factories(run=bad)


@pytest.mark.parametrize("bad", [HostRun, {"run": HostRun}, False], ids=["a class", "a mapping", "False"])
async def test_anything_but_factories_is_refused(engine: Engine, database: Path, bad: Any) -> None:
    """Both twins refuse a value that is not `Factories` when they are made."""
    for make in (lambda: StateStore(engine, bad), lambda: SQLiteStateStore(database, bad)):
        with pytest.raises(InvalidValue, match="not Factories"):
            make()


@pytest.mark.parametrize("twin", TWINS)
async def test_times_are_naive_for_hosts_that_compute_so(database: Path, twin: str) -> None:
    """With `naive_times`, a store returns times in UTC without a time zone."""
    async with opened(twin, database, Factories(naive_times=True, attempt=dict)) as store:
        await store.create_run(handle(), metadata())
        await store.add_workflow(workflow("a"), "r")
        attempt_id = await store.create_attempt("r", "a")
        await store.update_attempt(attempt_id, status="FAILED")
        attempt = await store.get_attempt(attempt_id)
        assert (await store.get_run_metadata("r")).created_at == BEGUN.replace(tzinfo=None)
        for name in ("created_at", "submitted_at", "ended_at"):
            assert abs(attempt[name] - datetime.now(UTC).replace(tzinfo=None)) < timedelta(hours=1)
    with pytest.raises(InvalidValue, match="naive_times"):
        Factories(naive_times="yes")  # type: ignore[arg-type]


def positional(run_id: str, /, root_path: Path | None = None) -> str:
    return f"{run_id} in {root_path}"


async def test_a_factory_is_given_what_it_takes_by_name(engine: Engine) -> None:
    """A factory gets no positional-only argument, so a required one makes the call fail with a TypeError."""
    store = StateStore(engine, Factories(run=positional))
    await store.create_run(handle())
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'run_id'"):
        await store.get_run("r")


@dataclass
class CountingFactory:
    """A factory with a state; as it can be compared by that, it cannot be hashed."""

    made: int = 0

    def __call__(self, run_id: str) -> str:
        self.made += 1
        return f"{run_id}, read {self.made} times"


async def test_a_factory_need_not_be_hashable(engine: Engine) -> None:
    """A factory may be any callable, also one that cannot be hashed, and gets the fields that it accepts."""
    store: Any = StateStore(engine, Factories(run=CountingFactory()))
    await store.create_run(handle())
    assert [await store.get_run("r"), await store.get_run("r")] == ["r, read 1 times", "r, read 2 times"]


def test_one_factory_alone_leaves_the_others(database: Path) -> None:
    """Without a factory, a store returns its own frozen struct."""
    with SQLiteStateStore(database, Factories(metadata=dict)) as store:
        store.create_run(handle())
        run, found = store.get_run("r"), store.get_run_metadata("r")
    assert isinstance(run, RunHandle)
    assert isinstance(found, dict)
    assert found["created_at"].tzinfo is UTC
    with pytest.raises(AttributeError):
        run.run_id = "other"
