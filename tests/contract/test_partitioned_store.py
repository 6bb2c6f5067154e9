"""The partitioned run log store: the rules of partitions, tested on the async store and its blocking twin."""

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.errors import BranchNotFound, InvalidName, InvalidValue, JobNotFound, RunExists, RunNotFound, StepNotFound
from engine.model import Parameter
from engine.stores import BranchLog, JobLog, RunLog, StepAttempt, StepLog
from tests.contract.run_log_stores import opened, recorded, values


@pytest.fixture(params=["async", "blocking"])
async def store(request: pytest.FixtureRequest, database: Path) -> AsyncIterator[Any]:
    async with opened(request.param, database) as twin:
        yield twin


def document(**attributes: Any) -> SimpleNamespace:
    """An object with the attributes of a host's, but of no class of its own."""
    return SimpleNamespace(**attributes)


def parameter(value: Any, kind: str = "json") -> SimpleNamespace:
    return document(kind=kind, value=value)


# Opening


async def test_a_new_run_log_is_what_was_asked_for(store: Any) -> None:
    """`create_run_log` returns the run log that reading it returns."""
    created = await store.create_run_log("r", dag_hash="abc", tag="nightly", original_run_id="q", status="PROCESSING")
    assert created == RunLog(run_id="r", dag_hash="abc", tag="nightly", status="PROCESSING")
    assert await store.get_run_log_by_id("r") == created


async def test_a_run_log_is_created_once(store: Any) -> None:
    """Creating a run log under a taken run id raises RunExists."""
    await store.create_run_log("r")
    with pytest.raises(RunExists):
        await store.create_run_log("r")


@pytest.mark.parametrize("branch", [None, "", "single", "two.segments"])
async def test_writing_to_what_was_never_opened_opens_it(store: Any, branch: str | None) -> None:
    """Setting parameters of an unknown run or branch creates it."""
    await store.set_parameters("r", {"x": parameter(1)}, branch)
    assert values(await store.get_parameters("r", branch)) == {"x": 1}


async def test_a_branch_is_forked_from_the_longest_prefix_that_is_open(store: Any) -> None:
    """A branch that a write creates is forked from the longest dotted prefix that is open, else from the root."""
    await store.set_parameters("r", {"at": parameter("root")})
    await store.set_parameters("r", {"at": parameter("a")}, "a")
    await store.set_parameters("r", {"own": parameter(1)}, "a.b.c")
    await store.set_parameters("r", {"own": parameter(1)}, "other.b")
    assert values(await store.get_parameters("r", "a.b.c")) == {"at": "a", "own": 1}
    assert values(await store.get_parameters("r", "other.b")) == {"at": "root", "own": 1}


# Reading what is not there


async def test_reading_what_is_not_there_says_what_is_missing(store: Any) -> None:
    """Reading an unknown run, branch, step or job raises the error of its kind."""
    for read in (store.get_run_log_by_id, store.get_parameters, store.get_run_config, store.get_job_log):
        with pytest.raises(RunNotFound):
            await read("unknown")
    await store.create_run_log("r")
    with pytest.raises(BranchNotFound):
        await store.get_branch_log("unknown", "r")
    with pytest.raises(BranchNotFound):
        await store.get_parameters("r", "unknown")
    with pytest.raises(StepNotFound):
        await store.get_step_log("unknown.step", "r")
    with pytest.raises(JobNotFound):
        await store.get_job_log("r")


async def test_bad_names_are_refused_and_nothing_is_opened(store: Any) -> None:
    """An invalid run id, branch or parameter name raises InvalidName and creates no run."""
    with pytest.raises(InvalidName):
        await store.set_parameters("r", {"x": parameter(1)}, "line\nbreak")
    with pytest.raises(InvalidName):
        await store.set_parameters("r", {"": parameter(1)}, "b")
    for branch in (None, "b"):
        with pytest.raises(InvalidName):
            await store.get_step_log("s", "r\ud800", branch)
    with pytest.raises(RunNotFound):
        await store.get_run_log_by_id("r")


# Parameters


async def test_a_copy_gives_a_new_branch_what_its_source_has(store: Any) -> None:
    """Copying the root's parameters to a new branch gives the branch those parameters."""
    await store.set_parameters("r", {"config": parameter({"key": "value"})}, None)
    await store.copy_parameters_to_branch("r", None, "branch1")
    assert values(await store.get_parameters("r", "branch1")) == {"config": {"key": "value"}}


async def test_a_copy_to_a_new_branch_copies_nothing(store: Any, database: Path) -> None:
    """Copying parameters to a new branch records only the fork."""
    await store.set_parameters("r", {f"p{index}": parameter(index) for index in range(100)})
    await store.copy_parameters_to_branch("r", None, "branch1")
    kinds = [type(each.event).__name__ for each in await recorded(database)]
    assert kinds == ["RunCreated", "ParametersSet", "BranchForked"]


async def test_a_copy_to_an_open_branch_merges_what_differs(store: Any) -> None:
    """Copying parameters to an open branch overwrites those that differ and keeps the others."""
    await store.set_parameters("r", {"kept": parameter(1), "both": parameter(1)}, "b")
    await store.set_parameters("r", {"both": parameter(2), "new": parameter(2)})
    await store.copy_parameters_to_branch("r", None, "b")
    assert values(await store.get_parameters("r", "b")) == {"kept": 1, "both": 2, "new": 2}


async def test_a_nested_copy_has_what_all_its_ancestors_have(store: Any) -> None:
    """A nested branch sees the parameters of all its ancestors after copies from level to level."""
    await store.set_parameters("r", {"global": parameter(1)})
    await store.copy_parameters_to_branch("r", None, "branch1")
    await store.set_parameters("r", {**await store.get_parameters("r", "branch1"), "local": parameter(2)}, "branch1")
    await store.copy_parameters_to_branch("r", "branch1", "branch1.nested")
    assert values(await store.get_parameters("r", "branch1.nested")) == {"global": 1, "local": 2}


async def test_parameters_go_where_the_branch_says(store: Any) -> None:
    """Parameters are set in the branch given, also if its name has no dot."""
    await store.set_parameters("r", {"root_param": parameter("root")}, None)
    await store.set_parameters("r", {"branch_param": parameter("branch")}, "branch1")
    assert values(await store.get_parameters("r", None)) == {"root_param": "root"}
    assert values(await store.get_parameters("r", "branch1"))["branch_param"] == "branch"


async def test_branches_are_isolated(store: Any) -> None:
    """A branch's parameters are visible neither to its siblings nor to the root."""
    for branch in (None, "branch1", "branch2"):
        await store.set_parameters("r", {"param": parameter(f"of {branch}")}, branch)
    await store.set_parameters("r", {"param": parameter("updated")}, "branch1")
    assert values(await store.get_parameters("r", None)) == {"param": "of None"}
    assert values(await store.get_parameters("r", "branch2")) == {"param": "of branch2"}
    assert values(await store.get_parameters("r", "branch1")) == {"param": "updated"}


async def test_setting_merges(store: Any) -> None:
    """`set_parameters` keeps the parameters that it does not name."""
    await store.set_parameters("r", {"a": parameter(1), "b": parameter(1)})
    await store.set_parameters("r", {"b": parameter(2)})
    assert values(await store.get_parameters("r")) == {"a": 1, "b": 2}


async def test_every_kind_of_parameter_comes_back_as_it_was(store: Any) -> None:
    """Parameters of every kind are read back with value and kind."""
    given = {"a": Parameter([1, None]), "b": Parameter(0.5, "metric"), "c": Parameter("stored", "object")}
    await store.set_parameters("r", given, "b")
    assert await store.get_parameters("r", "b") == given


# Steps


async def test_steps_are_kept_in_the_branch_that_is_named(store: Any) -> None:
    """A step log is stored in the branch given, and is not found in another."""
    for branch, step in ((None, "root_step"), ("branch1", "branch1.step"), ("branch1.nested", "branch1.nested.step")):
        await store.add_step_log(document(name=step, internal_name=step, status="CREATED"), "r", branch)
    for branch, step in (("", "root_step"), ("branch1", "branch1.step"), ("branch1.nested", "branch1.nested.step")):
        assert (await store.get_step_log(step, "r", branch)).name == step
    with pytest.raises(StepNotFound):
        await store.get_step_log("branch1.step", "r", "")


async def test_a_step_without_a_branch_belongs_where_its_name_says(store: Any) -> None:
    """Without a branch, a step belongs to the longest open dotted prefix of its name, else to the root."""
    await store.set_parameters("r", {"x": 1}, "map.0.5")
    await store.add_step_log(StepLog(internal_name="map.0.5.work"), "r")
    await store.add_step_log(StepLog(internal_name="other.work"), "r")
    assert (await store.get_step_log("map.0.5.work", "r", "map.0.5")).internal_name == "map.0.5.work"
    assert (await store.get_step_log("other.work", "r", "")).internal_name == "other.work"
    assert (await store.get_step_log("map.0.5.work", "r")).internal_name == "map.0.5.work"
    assert (await store.get_step_log("other.work", "r")).internal_name == "other.work"


async def test_a_step_that_was_logged_before_its_branch_is_still_found(store: Any) -> None:
    """A step that went to the root is still found after a branch of its prefix is opened."""
    await store.add_step_log(StepLog(internal_name="late.work"), "r")
    await store.set_parameters("r", {"x": 1}, "late")
    assert (await store.get_step_log("late.work", "r")).internal_name == "late.work"


async def test_a_step_log_comes_back_as_it_was(store: Any) -> None:
    """A step log with every field, including attempts and the host's own details, is read back unchanged."""
    attempt = StepAttempt(
        attempt_number=3,
        start_time="2025-01-01 00:00:00",
        end_time="2025-01-01 00:00:01",
        status="SUCCESS",
        message="done",
        input_parameters={"a": Parameter(1)},
        output_parameters={"b": Parameter(2, "metric")},
        user_defined_metrics={"m": Parameter(0.5, "metric")},
        retry_indicator="again",
        code_identities=[{"code_identifier": "sha", "extra": [1]}],
    )
    log = StepLog(
        name="step",
        internal_name="b.step",
        status="SUCCESS",
        step_type="parallel",
        message="text",
        mock=True,
        attempts=[attempt],
        data_catalog=[{"name": "data.csv", "stage": "put", "extra": None}],
    )
    await store.add_step_log(log, "r", "b")
    assert await store.get_step_log("b.step", "r", "b") == log


# Branch logs


async def test_branch_logs_are_kept_below_their_parents(store: Any) -> None:
    """A branch log is found by its name relative to its parent and by its full name."""
    await store.add_branch_log(document(internal_name="branch1", status="SUCCESS"), "r", None)
    await store.add_branch_log(document(internal_name="nested", status="FAIL"), "r", "branch1")
    assert (await store.get_branch_log("branch1", "r", None)).status == "SUCCESS"
    nested = await store.get_branch_log("nested", "r", "branch1")
    assert (nested.internal_name, nested.status) == ("nested", "FAIL")
    assert await store.get_branch_log("branch1.nested", "r") == nested


async def test_a_branch_log_opens_the_parent_it_is_given(store: Any) -> None:
    """Adding a branch log under an unknown parent creates the parent and forks the branch from it."""
    await store.add_branch_log(document(internal_name="new_branch"), "r", "parent")
    assert set((await store.get_branch_log("parent", "r")).branches) == {"parent.new_branch"}


async def test_a_child_is_found_whatever_its_name(store: Any) -> None:
    """A child is found below the branch that it was forked from, whatever its name begins with."""
    await store.set_parameters("r", {"x": 1}, "parent")
    await store.copy_parameters_to_branch("r", "parent", "elsewhere")
    await store.add_branch_log(document(internal_name="elsewhere", status="DONE"), "r", "parent")
    assert (await store.get_branch_log("elsewhere", "r", "parent")).status == "DONE"
    assert set((await store.get_branch_log("parent", "r")).branches) == {"elsewhere"}


async def test_no_branch_name_means_the_run_log(store: Any) -> None:
    """Without a branch name, `get_branch_log` and `add_branch_log` read and write the run log."""
    await store.create_run_log("r", tag="t")
    for name in (None, ""):
        assert isinstance(await store.get_branch_log(name, "r"), RunLog)
    await store.add_branch_log(document(run_id="r", status="SUCCESS"), "r")
    log = await store.get_run_log_by_id("r")
    assert (log.status, log.tag) == ("SUCCESS", "t")


# The run as a whole


async def test_status_and_configuration(store: Any) -> None:
    """`update_run_log_status` sets the status, and `set_run_config` merges the configuration key by key."""
    await store.create_run_log("r")
    await store.update_run_log_status("r", "FAIL")
    await store.set_run_config("r", {"a": 1, "b": 1})
    await store.set_run_config("r", {"b": {"c": [2]}})
    assert (await store.get_run_log_by_id("r")).status == "FAIL"
    assert await store.get_run_config("r") == {"a": 1, "b": {"c": [2]}}


async def test_the_status_of_a_job_is_the_status_of_its_run(store: Any) -> None:
    """A job log is read back unchanged, and its status becomes the run's."""
    job = JobLog(
        status="SUCCESS",
        message="m",
        attempts=[StepAttempt(output_parameters={"x": Parameter(1)}, code_identities=[{"a": 1}])],
        code_identities=[{"code_identifier": "sha"}],
        data_catalog=[{"name": "n"}],
    )
    await store.add_job_log("r", job)
    assert await store.get_job_log("r") == job
    log = await store.get_run_log_by_id("r")
    assert (log.job, log.status) == (job, "SUCCESS")


# Reduction and compilation


async def three_levels(store: Any) -> None:
    """Create a root, a branch and a nested branch, each of which sets `x` and a parameter of its own name."""
    for branch, name in ((None, "root"), ("a", "a"), ("a.b", "b")):
        await store.set_parameters("r", {"x": name, name: name}, branch)


async def test_reduction_takes_one_step_up(store: Any) -> None:
    """`reduce_parameters_to_parent` folds a child's parameters into its parent only."""
    await three_levels(store)
    await store.reduce_parameters_to_parent("r", "a.b", "a")
    assert values(await store.get_parameters("r", "a")) == {"root": "root", "a": "a", "b": "b", "x": "b"}
    assert values(await store.get_parameters("r")) == {"root": "root", "x": "root"}
    await store.reduce_parameters_to_parent("r", "a", None)
    assert values(await store.get_parameters("r")) == {"root": "root", "a": "a", "b": "b", "x": "b"}


async def test_only_a_parent_can_take_a_child_in(store: Any) -> None:
    """Reducing a branch into another than its parent raises InvalidValue."""
    await three_levels(store)
    with pytest.raises(InvalidValue):
        await store.reduce_parameters_to_parent("r", "a.b", None)


async def test_compiling_a_branch_folds_everything_below_it(store: Any) -> None:
    """`compile_branch_results` folds all nested branches into the named one, deepest first, and no further."""
    await three_levels(store)
    await store.set_parameters("r", {"deep": 1}, "a.b.c")
    await store.compile_branch_results("r", "a")
    assert values(await store.get_parameters("r", "a"))["deep"] == 1
    assert values(await store.get_parameters("r", "a"))["x"] == "b"
    assert "deep" not in await store.get_parameters("r")


async def test_a_stale_copy_never_overwrites_a_fresh_value(store: Any) -> None:
    """Inherited values that a branch writes back unchanged do not overwrite the parent's newer values."""
    await store.set_parameters("r", {"x": "old"})
    await store.copy_parameters_to_branch("r", None, "b")
    await store.set_parameters("r", {**await store.get_parameters("r", "b"), "own": 1}, "b")
    await store.set_parameters("r", {"x": "fresh"})
    await store.compile_branch_results("r", None)
    assert values(await store.get_parameters("r")) == {"x": "fresh", "own": 1}


async def test_a_copy_that_is_made_again_is_no_write_of_a_branch(store: Any) -> None:
    """Parameters copied to a branch again are not its writes, so a reduction does not fold them.

    A host copies again when it retries a parallel node.
    """
    await store.set_parameters("r", {"p": 1})
    for value in (1, 2):
        await store.set_parameters("r", {"p": value})
        for branch in ("a", "b", "c"):
            await store.copy_parameters_to_branch("r", None, branch)
    await store.set_parameters("r", {"p": 100}, "a")
    await store.set_parameters("r", {"p": 7}, "c")
    await store.copy_parameters_to_branch("r", None, "c")  # this overwrites the value that it had set
    assert values(await store.get_parameters("r", "c")) == {"p": 2}
    await store.compile_branch_results("r", None)
    assert values(await store.get_parameters("r")) == {"p": 100}


async def test_finalising_returns_the_whole_nested_log(store: Any) -> None:
    """`finalize_run_log` returns the full log, with each branch also in the step that opened it."""
    await store.add_step_log(StepLog(internal_name="map", step_type="map"), "r")
    await store.add_branch_log(BranchLog(internal_name="map.0.5"), "r")
    await store.add_step_log(StepLog(internal_name="map.0.5.inner", step_type="parallel"), "r")
    await store.add_branch_log(BranchLog(internal_name="map.0.5.inner.a"), "r")
    await store.add_step_log(StepLog(internal_name="map.0.5.inner.a.work"), "r")
    log = await store.finalize_run_log("r")
    outer = log.steps["map"].branches["map.0.5"]
    inner = outer.steps["map.0.5.inner"].branches["map.0.5.inner.a"]
    assert list(inner.steps) == ["map.0.5.inner.a.work"]
    assert log.branches == {"map.0.5": outer}
    assert log == await store.get_run_log_by_id("r", full=True)


async def test_finalising_names_every_head(store: Any, database: Path) -> None:
    """`finalize_run_log` records the heads of all branches."""
    await three_levels(store)
    await store.finalize_run_log("r")
    last = (await recorded(database))[-1].event
    assert [head.branch for head in last.heads] == ["", "a", "a.b"]  # type: ignore[union-attr] # it is RunFinalized


async def test_without_full_a_run_log_is_the_root_branch_alone(store: Any) -> None:
    """Without `full`, a run log holds no branches."""
    await store.add_step_log(StepLog(internal_name="map"), "r")
    await store.add_branch_log(BranchLog(internal_name="map.1"), "r")
    log = await store.get_run_log_by_id("r")
    assert (log.branches, log.steps["map"].branches) == ({}, {})
