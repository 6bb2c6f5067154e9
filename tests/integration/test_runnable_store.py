"""The plug-in's methods compared with the stock store's: the same results, errors and shapes."""

import asyncio
import multiprocessing
import pickle
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from extensions.run_log_store.chunked_fs import ChunkedFileSystemRunLogStore
from pydantic import ValidationError
from runnable import exceptions
from runnable.context import get_service_by_name
from runnable.datastore import (
    BranchLog,
    CodeIdentity,
    DataCatalog,
    JobLog,
    JsonParameter,
    MetricParameter,
    ObjectParameter,
    RunLog,
    StepAttempt,
    StepLog,
)

from engine.errors import EventTooLarge, InvalidName, InvalidValue
from engine.logs.readers import Readers
from engine.stores.runnable_plugin import DEFAULT_PATH, AnabranchRunLogStore
from tests.integration.plugin_children import WRITES, work


def json(value: Any) -> JsonParameter:
    return JsonParameter(kind="json", value=value)


def stock(folder: Path) -> ChunkedFileSystemRunLogStore:
    return ChunkedFileSystemRunLogStore(log_folder=str(folder / "logs"))


@pytest.fixture
def ours(database: Path) -> Iterator[AnabranchRunLogStore]:
    store = AnabranchRunLogStore(path=str(database))
    yield store
    store.engine.close()


@pytest.fixture
def inheriting(database: Path) -> Iterator[AnabranchRunLogStore]:
    store = AnabranchRunLogStore(path=str(database), inherit=True)
    yield store
    store.engine.close()


def full_step() -> StepLog:
    """Return a step log with every field that the host can set, including extra fields of its own."""
    attempt = StepAttempt(
        attempt_number=2,
        start_time="2025-01-01 00:00:00",
        end_time="2025-01-01 00:00:01",
        status="SUCCESS",
        message="done",
        input_parameters={"a": json([1, {"b": None}])},
        output_parameters={"m": MetricParameter(kind="metric", value=0.5)},
        user_defined_metrics={"o": ObjectParameter(kind="object", value="stored")},
        retry_indicator="again",
        code_identities=[CodeIdentity(code_identifier="sha", added={"by": "the host"})],
    )
    catalog = DataCatalog(name="data.csv", stage="put", catalog_relative_path="x", size=[1, 2])
    return StepLog(
        name="step",
        internal_name="step",
        status="SUCCESS",
        step_type="map",
        message="text",
        mock=True,
        attempts=[attempt],
        data_catalog=[catalog],
    )


def small_run(store: Any) -> None:
    """Record a run with a step, a branch of that step, and a step in the branch."""
    store.create_run_log("r", dag_hash="hash", tag="t", status="PROCESSING")
    store.set_parameters("r", {"x": json(1)})
    store.add_step_log(full_step(), "r")
    store.add_branch_log(store.create_branch_log("step.1"), "r")
    store.set_parameters("r", {"y": json("two")}, "step.1")
    store.add_step_log(store.create_step_log("inner", "step.1.inner"), "r")


def outcome(read: Callable[[Any], Any], store: Any) -> tuple[Any, ...]:
    """Return what a call returns, or the type and message of the error that it raises."""
    try:
        return "returned", read(store)
    except Exception as error:  # noqa: BLE001 - the error is what is compared
        return "raised", type(error), str(error)


@pytest.mark.parametrize(
    "read",
    [
        lambda store: store.get_run_log_by_id("r"),
        lambda store: store.get_run_log_by_id("r", full=True),
        lambda store: store.get_run_log_by_id("unknown"),
        lambda store: store.create_run_log("r"),
        lambda store: store.create_run_log("s", "h", use_cached=True, tag=None, original_run_id="r", status="FAIL"),
        lambda store: store.update_run_log_status("unknown", "FAIL"),
        lambda store: store.get_parameters("r"),
        lambda store: store.get_parameters("r", "step.1"),
        lambda store: store.get_parameters("r", "step.2"),
        lambda store: store.get_parameters("unknown"),
        lambda store: store.get_parameters("unknown", "step.1"),
        lambda store: store.set_parameters("r", {"z": json(1)}, "step.2"),
        lambda store: store.set_parameters("unknown", {"z": json(1)}),
        lambda store: store.get_run_config("r"),
        lambda store: store.get_run_config("unknown"),
        lambda store: store.set_run_config("unknown", {}),
        lambda store: store.get_step_log("step", "r"),
        lambda store: store.get_step_log("step.1.inner", "r"),
        lambda store: store.get_step_log("unknown", "r"),
        lambda store: store.get_step_log("step.1.unknown", "r"),
        lambda store: store.get_step_log("step.2.inner", "r"),
        lambda store: store.get_step_log("step", "unknown"),
        lambda store: store.get_step_log("step.1.inner", "unknown"),
        lambda store: store.add_step_log(store.create_step_log("s", "s"), "unknown"),
        lambda store: store.add_step_log(store.create_step_log("s", "step.2.s"), "r"),
        lambda store: store.get_branch_log("step.1", "r"),
        lambda store: store.get_branch_log("", "r"),
        lambda store: store.get_branch_log(None, "r"),
        lambda store: store.get_branch_log("step.2", "r"),
        lambda store: store.get_branch_log("step.1", "unknown"),
        lambda store: store.get_branch_log("", "unknown"),
        lambda store: store.get_job_log("r"),
        lambda store: store.get_job_log("unknown"),
        lambda store: store.add_job_log("unknown", JobLog()),
    ],
)
def test_every_call_ends_as_with_the_stock_store(
    ours: AnabranchRunLogStore, tmp_path: Path, read: Callable[[Any], Any]
) -> None:
    """Every call returns what the stock store returns, or raises the same error with the same message."""
    other = stock(tmp_path)
    small_run(ours)
    small_run(other)
    assert outcome(read, ours) == outcome(read, other)


@pytest.mark.parametrize(
    "write",
    [
        lambda store: store.update_run_log_status("r", "FAIL"),
        lambda store: store.set_parameters("r", {"x": json({"new": [None]}), "w": json(1)}),
        lambda store: store.set_parameters("r", {"x": json(1), "y": json("three")}, "step.1"),
        lambda store: store.set_parameters("r", {}),
        lambda store: store.set_run_config("r", {"path": Path("a"), "pair": (1, 2), "nested": {"b": None}}),
        lambda store: store.add_job_log("r", JobLog(status="SUCCESS", attempts=full_step().attempts)),
        lambda store: store.add_branch_log(BranchLog(internal_name="step.1", status="SUCCESS"), "r"),
        lambda store: store.add_branch_log(store.get_run_log_by_id("r"), "r"),
        lambda store: store.put_run_log(RunLog(run_id="other", status="FAIL", tag=None)),
    ],
)
def test_what_is_written_reads_as_with_the_stock_store(
    ours: AnabranchRunLogStore, tmp_path: Path, write: Callable[[Any], Any]
) -> None:
    """After every kind of write, the run, its branch and another run read as from the stock store."""
    other = stock(tmp_path)
    for store in (ours, other):
        small_run(store)
        write(store)
    for read in (
        lambda store: store.get_run_log_by_id("r").model_dump(),
        lambda store: store.get_branch_log("step.1", "r").status,
        lambda store: store.get_run_log_by_id("other"),
    ):
        assert outcome(read, ours) == outcome(read, other)


def test_extra_fields_of_the_host_are_kept(ours: AnabranchRunLogStore) -> None:
    """Extra fields that the host adds to a catalog or a code identity are kept."""
    small_run(ours)
    found = ours.get_step_log("step", "r")
    assert found.data_catalog[0].size == [1, 2]
    assert found.attempts[0].code_identities[0].added == {"by": "the host"}
    assert found.model_dump() == full_step().model_dump()


def test_a_partial_run_log_deletes_nothing(ours: AnabranchRunLogStore) -> None:
    """Writing back a run log without its branches or steps deletes none of them."""
    small_run(ours)
    before = ours.get_run_log_by_id("r", full=True)
    ours.put_run_log(ours.get_run_log_by_id("r"))
    ours.put_run_log(RunLog(run_id="r", status=before.status))
    assert ours.get_run_log_by_id("r", full=True) == before


def test_a_branch_belongs_to_the_step_that_opened_it(ours: AnabranchRunLogStore) -> None:
    """`step.1.5` is a sibling of `step.1`, and not its descendant, unless a step of `step.1` opened it."""
    small_run(ours)
    ours.add_branch_log(ours.create_branch_log("step.1.5"), "r")
    ours.add_branch_log(ours.create_branch_log("step.1.inner.a"), "r")
    log = ours.get_run_log_by_id("r", full=True)
    assert set(log.steps["step"].branches) == {"step.1", "step.1.5"}
    assert set(log.steps["step"].branches["step.1"].steps["step.1.inner"].branches) == {"step.1.inner.a"}


def test_a_branch_that_no_step_opened_is_found(ours: AnabranchRunLogStore) -> None:
    """A branch log recorded before any step log is found by its name."""
    ours.create_run_log("r")
    for branch in ("a", "a.b"):
        ours.add_branch_log(ours.create_branch_log(branch), "r")
        assert ours.get_branch_log(branch, "r").internal_name == branch


def test_a_branch_log_of_an_unknown_run_is_refused(ours: AnabranchRunLogStore) -> None:
    """Adding a branch log to an unknown run raises RunLogNotFoundError."""
    with pytest.raises(exceptions.RunLogNotFoundError):
        ours.add_branch_log(BranchLog(internal_name="step.1"), "unknown")


def test_the_host_finds_it_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host loads the store through its entry point, with its default file in the current folder."""
    monkeypatch.chdir(tmp_path)
    store = get_service_by_name("run_log_store", {"type": "anabranch"}, None)
    assert store.supports_parallel_writes
    assert store.get_summary() == {"Type": "anabranch", "Location": DEFAULT_PATH}
    store.create_run_log("r")
    assert (tmp_path / DEFAULT_PATH).exists()
    store.engine.close()


def test_unknown_settings_are_refused() -> None:
    """An unknown setting raises ValidationError."""
    with pytest.raises(ValidationError):
        AnabranchRunLogStore(pth="runs.db")


def test_the_largest_event_is_configurable(ours: AnabranchRunLogStore) -> None:
    """A parameter over the event limit raises EventTooLarge; a store with a higher limit accepts it."""
    large = {"x": json("x" * 2**20)}
    roomier = AnabranchRunLogStore(path=ours.path, event_bytes_max=2**21)
    ours.create_run_log("r")
    with pytest.raises(EventTooLarge):
        ours.set_parameters("r", large)
    with roomier.engine:
        roomier.set_parameters("r", large)
    assert ours.get_parameters("r") == large


async def test_it_is_called_from_a_running_event_loop(ours: AnabranchRunLogStore) -> None:
    """The store can be called inside a running event loop, as the host's async pipelines do."""
    small_run(ours)
    await asyncio.sleep(0)
    assert ours.get_parameters("r")["x"].value == 1


@pytest.mark.parametrize(("method", "processes"), [("fork", 4), ("spawn", 2)])
def test_processes_write_at_once_and_lose_nothing(ours: AnabranchRunLogStore, method: str, processes: int) -> None:
    """Branches that run in forked or spawned processes write at once through the store, and lose nothing."""
    small_run(ours)
    branches = [f"step.b{index}" for index in range(processes)]
    for branch in branches:
        ours.add_branch_log(ours.create_branch_log(branch), "r")
    context: Any = multiprocessing.get_context(method)
    children = [context.Process(target=work, args=(ours, branch)) for branch in branches]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * len(branches)
    log = ours.get_run_log_by_id("r", full=True)
    for branch in branches:
        found = log.steps["step"].branches[branch]
        assert (found.status, len(found.steps), len(found.parameters)) == ("SUCCESS", WRITES, WRITES)
        assert {f"{branch}-{index}" for index in range(WRITES)} <= set(log.parameters)


# Inheritance


def stale_branch(store: AnabranchRunLogStore) -> None:
    """Record a branch that set `own`, and inherited an `x` that its parent has changed since."""
    store.create_run_log("r")
    store.set_parameters("r", {"x": json("old"), "y": json("old")})
    store.add_step_log(store.create_step_log("step", "step"), "r")
    store.add_branch_log(store.create_branch_log("step.1"), "r")
    store.set_parameters("r", {"own": json(1)}, "step.1")
    store.set_parameters("r", {"x": json("fresh")})


def values(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: parameter.value for name, parameter in parameters.items()}


def test_a_branch_sees_what_its_parent_had(inheriting: AnabranchRunLogStore) -> None:
    """With `inherit`, a branch sees its own parameters and its parent's as of its opening."""
    stale_branch(inheriting)
    assert values(inheriting.get_parameters("r", "step.1")) == {"own": 1, "x": "old", "y": "old"}


def test_merging_a_branch_into_its_parent_takes_only_its_own(inheriting: AnabranchRunLogStore) -> None:
    """Updating the parent's dict with a branch's and writing it back changes only what the branch set.

    The host's parallel and conditional nodes do that at their end.
    """
    stale_branch(inheriting)
    parent = inheriting.get_parameters("r")
    parent.update(inheriting.get_parameters("r", "step.1"))
    inheriting.set_parameters("r", parent)
    assert values(inheriting.get_parameters("r")) == {"own": 1, "x": "fresh", "y": "old"}


def test_writing_a_branch_s_dict_to_its_parent_takes_only_its_own(inheriting: AnabranchRunLogStore) -> None:
    """Writing a branch's dict to its parent changes only what the branch set.

    The host's loops do that at their end.
    """
    stale_branch(inheriting)
    inheriting.set_parameters("r", inheriting.get_parameters("r", "step.1"))
    assert values(inheriting.get_parameters("r")) == {"own": 1, "x": "fresh", "y": "old"}


def test_what_a_branch_sees_and_what_it_inherited_are_of_one_moment(
    inheriting: AnabranchRunLogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value set while the host reads does not make an inherited old value the branch's own."""
    stale_branch(inheriting)
    parent, read = inheriting.get_parameters("r"), Readers.run

    async def set_after_reading(self: Readers, job: Callable[[sqlite3.Connection], Any]) -> Any:
        answer = await read(self, job)
        monkeypatch.undo()
        await asyncio.to_thread(inheriting.set_parameters, "r", {"x": json("new")}, "step.1")
        return answer

    monkeypatch.setattr(Readers, "run", set_after_reading)
    parent.update(inheriting.get_parameters("r", "step.1"))
    assert values(parent) == {"own": 1, "x": "fresh", "y": "old"}


def test_a_value_changed_in_place_counts_as_set(inheriting: AnabranchRunLogStore) -> None:
    """Changing an inherited parameter in place and writing it back sets it in the branch.

    The host's maps do that at their end.
    """
    stale_branch(inheriting)
    parameters = inheriting.get_parameters("r", "step.1")
    parameters["y"].value = "reduced"
    inheriting.set_parameters("r", parameters, "step.1")
    assert values(inheriting.get_parameters("r", "step.1"))["y"] == "reduced"


def test_a_branch_that_changed_nothing_records_nothing(inheriting: AnabranchRunLogStore) -> None:
    """Writing back unchanged everything that a branch sees records nothing."""
    stale_branch(inheriting)
    position = inheriting.engine.call(lambda opened: opened.last_position())
    inheriting.set_parameters("r", dict(inheriting.get_parameters("r", "step.1")), "step.1")
    inheriting.add_branch_log(inheriting.get_branch_log("step.1", "r"), "r")
    assert inheriting.engine.call(lambda opened: opened.last_position()) == position


def test_a_pickled_store_is_the_same_store(inheriting: AnabranchRunLogStore) -> None:
    """An unpickled store equals the original and reads the same."""
    stale_branch(inheriting)
    copy = pickle.loads(pickle.dumps(inheriting))
    assert copy == inheriting
    assert copy.get_parameters("r", "step.1") == inheriting.get_parameters("r", "step.1")


@pytest.mark.parametrize("bad", [{"a\udcffb": 1}, {"k": {"a\udcffb": 1}}, {"k": object()}, {1: 2}, ["k"]])
def test_a_configuration_that_cannot_be_kept_is_refused(ours: AnabranchRunLogStore, bad: Any) -> None:
    """A run configuration that cannot be recorded exactly raises InvalidValue, and nothing is kept of it."""
    ours.create_run_log("r")
    with pytest.raises(InvalidValue, match="run_config"):
        ours.set_run_config("r", bad)
    assert ours.get_run_config("r") == {}


def test_a_step_of_no_name_is_refused(ours: AnabranchRunLogStore) -> None:
    """A step name that is no text raises InvalidName."""
    with pytest.raises(InvalidName):
        ours.get_step_log(5, "r")  # type: ignore[arg-type] # on purpose
