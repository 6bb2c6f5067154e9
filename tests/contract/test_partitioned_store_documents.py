"""Documents: repeated ones record nothing, partial ones delete nothing, and unreadable ones are refused."""

import json
import sys
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, Literal

import msgspec
import pytest
from msgspec import structs

from engine import Engine
from engine.commands import Fork, MergeParameters, OpenRun, Reduce
from engine.errors import BranchNotFound, InvalidValue, JobNotFound, RunNotFound
from engine.events import BranchForked, ParametersReduced, ParametersSet
from engine.model import Parameter, Source
from engine.stores import BranchLog, JobLog, PartitionedRunLogStore, RunLog, StepAttempt, StepLog
from engine.stores.host_json import host_json
from tests.contract.run_log_stores import values


@pytest.fixture
def store(engine: Engine) -> PartitionedRunLogStore:
    return PartitionedRunLogStore(engine)


def nested_log() -> RunLog:
    """A run log with every kind of content."""
    attempt = StepAttempt(attempt_number=1, status="SUCCESS", output_parameters={"y": Parameter(2)})
    inner = BranchLog(
        internal_name="map.1",
        status="SUCCESS",
        parameters={"y": Parameter(2)},
        steps={"map.1.work": StepLog(name="work", internal_name="map.1.work", attempts=[attempt])},
    )
    step = StepLog(name="map", internal_name="map", step_type="map", branches={"map.1": inner})
    return RunLog(
        run_id="r",
        dag_hash="hash",
        tag="t",
        status="SUCCESS",
        steps={"map": step},
        job=JobLog(status="SUCCESS"),
        parameters={"x": Parameter(1)},
        run_config={"a": {"b": 1}},
        branches={"map.1": inner},
    )


async def test_a_whole_run_log_comes_back_as_it_was(store: PartitionedRunLogStore) -> None:
    """A nested run log is read back unchanged, except that a branch also has its parent's parameters."""
    given = nested_log()
    await store.put_run_log(given)
    found = await store.get_run_log_by_id("r", full=True)
    inner = found.branches["map.1"]
    assert values(inner.parameters) == {"x": 1, "y": 2}
    assert (inner.status, inner.steps) == (given.branches["map.1"].status, given.branches["map.1"].steps)
    assert (found.dag_hash, found.tag, found.status, found.job) == ("hash", "t", "SUCCESS", given.job)
    assert (found.parameters, found.run_config) == (given.parameters, given.run_config)


async def test_the_same_document_twice_records_nothing(store: PartitionedRunLogStore, engine: Engine) -> None:
    """Putting a document again, as it was given or as it is read back, records no event."""
    await store.put_run_log(nested_log())
    position = await engine.last_position()
    await store.put_run_log(nested_log())
    await store.put_run_log(await store.get_run_log_by_id("r"))
    await store.put_run_log(await store.get_run_log_by_id("r", full=True))
    await store.add_step_log(await store.get_step_log("map.1.work", "r"), "r")
    await store.add_branch_log(await store.get_branch_log("map.1", "r"), "r")
    await store.add_job_log("r", await store.get_job_log("r"))
    await store.set_run_config("r", await store.get_run_config("r"))
    await store.set_parameters("r", await store.get_parameters("r", "map.1"), "map.1")
    assert await engine.last_position() == position


async def test_what_a_partial_log_leaves_out_stays(store: PartitionedRunLogStore) -> None:
    """Putting a partial run log merges what it holds and keeps everything that it leaves out."""
    await store.put_run_log(nested_log())
    before = await store.get_run_log_by_id("r", full=True)
    await store.put_run_log(RunLog(run_id="r", status="FAIL", parameters={"z": Parameter(3)}))
    found = await store.get_run_log_by_id("r", full=True)
    assert (found.status, values(found.parameters)) == ("FAIL", {"x": 1, "z": 3})
    assert (found.steps, found.run_config, found.job) == (before.steps, before.run_config, before.job)
    assert (found.tag, found.dag_hash) == ("t", "hash")


async def test_a_log_may_change_the_tag_and_the_hash(store: PartitionedRunLogStore) -> None:
    """`put_run_log` can change the tag and the DAG hash of an existing run."""
    await store.create_run_log("r", dag_hash="old", tag="old")
    await store.put_run_log(RunLog(run_id="r", dag_hash="new", tag="new"))
    found = await store.get_run_log_by_id("r")
    assert (found.dag_hash, found.tag) == ("new", "new")


async def test_a_tag_may_be_none(store: PartitionedRunLogStore) -> None:
    """A run log may have None as its tag."""
    assert (await store.create_run_log("r", tag=None)).tag is None
    assert (await store.get_run_log_by_id("r")).tag is None


async def test_attempts_are_updated_in_their_order(store: PartitionedRunLogStore) -> None:
    """The attempts of a repeated step log update the known ones in order and add the others."""
    await store.add_step_log(StepLog(internal_name="s", attempts=[StepAttempt(status="RUNNING")]), "r")
    both = [StepAttempt(status="FAIL"), StepAttempt(attempt_number=2, status="SUCCESS")]
    await store.add_step_log(StepLog(internal_name="s", attempts=both), "r")
    assert (await store.get_step_log("s", "r")).attempts == both


async def test_attempts_made_through_the_engine_have_its_number_and_times(
    store: PartitionedRunLogStore, engine: Engine
) -> None:
    """An attempt made through the engine is read with the engine's index and times."""
    run = await engine.create_run("r")
    async with run.attempt("s"):
        pass
    [attempt] = (await store.get_step_log("s", "r")).attempts
    assert (attempt.attempt_number, attempt.status) == (1, "COMPLETED")
    assert attempt.start_time <= attempt.end_time
    assert attempt.start_time


async def test_details_that_no_document_gave_are_not_the_documents(
    store: PartitionedRunLogStore, engine: Engine
) -> None:
    """A caller of the engine may use a document's names for details of its own, of any type: they are not read here."""
    run = await engine.create_run("r", tag="t", dag_hash="h")
    await run.describe({"tag": 1, "dag_hash": [], "internal_name": {}})
    branch = await run.fork("b")
    await branch.describe({"internal_name": 5})
    await run.log_step("s", details={"data_catalog": "in S3"})
    own = {"attempt_number": "first", "start_time": 17.5, "retry_indicator": None, "code_identities": {"git": "4f0a"}}
    async with run.attempt("s", details=own):
        pass

    log = await store.get_run_log_by_id("r", full=True)
    assert (log.tag, log.dag_hash, log.branches["b"].internal_name) == ("t", "h", "b")
    step = log.steps["s"]
    (attempt,) = step.attempts
    assert (step.data_catalog, attempt.attempt_number, attempt.retry_indicator) == ([], 1, "")
    assert datetime.fromisoformat(attempt.start_time) <= datetime.fromisoformat(attempt.end_time)
    assert attempt.code_identities == []
    await store.put_run_log(log)
    assert json.loads(await host_json(engine, "r"))["steps"]["s"]["attempts"][0]["attempt_number"] == 1


async def test_documents_leave_other_callers_details_alone(store: PartitionedRunLogStore, engine: Engine) -> None:
    """A step's log that is handed back, or changed, keeps what another caller has recorded with the step."""
    run = await engine.create_run("r")
    await run.log_step("s", details={"note": "mine"})
    async with run.attempt("s", details={"gpu": "a100"}):
        pass
    read = await store.get_step_log("s", "r")
    version = (await run.head()).stream_version
    await store.add_step_log(read, "r")
    assert (await run.head()).stream_version == version

    attempt = structs.replace(read.attempts[0], retry_indicator="2", code_identities=[{"git": "4f0a"}])
    changed = structs.replace(read, data_catalog=[{"name": "d"}], attempts=[attempt])
    await store.add_step_log(changed, "r")
    assert await store.get_step_log("s", "r") == changed
    await store.add_step_log(read, "r")
    assert await store.get_step_log("s", "r") == read
    step = await run.step("s")
    assert (step.details, step.attempts[0].details) == ({"note": "mine"}, {"gpu": "a100"})


async def test_a_job_of_another_form_is_not_a_run_logs(store: PartitionedRunLogStore, engine: Engine) -> None:
    """A run whose job was logged in another caller's format has a log without a job."""
    run = await engine.create_run("r")
    await run.log_job({"attempts": 3})
    assert (await store.get_run_log_by_id("r")).job is None
    with pytest.raises(JobNotFound):
        await store.get_job_log("r")
    await store.put_run_log(await store.get_run_log_by_id("r"))
    assert (await run.compile()).job == {"attempts": 3}


async def test_an_attempt_has_the_times_of_its_document(store: PartitionedRunLogStore, engine: Engine) -> None:
    """An attempt has the times of its document; a time without zone is in the machine's local time."""
    said = StepAttempt(status="SUCCESS", start_time="2026-01-01T10:00:00+02:00", end_time="2026-01-01 12:30:00.5")
    await store.add_step_log(StepLog(internal_name="s", attempts=[said]), "r")
    [attempt] = await (await engine.run("r")).attempts()
    assert attempt.created_at == attempt.submitted_at == datetime(2026, 1, 1, 8, tzinfo=UTC)
    assert attempt.ended_at == datetime(2026, 1, 1, 12, 30, 0, 500_000).astimezone()
    assert (await store.get_step_log("s", "r")).attempts == [said]


@pytest.mark.parametrize("text", ["", "yesterday", "9999-12-31T23:59:59-12:00", "0001-01-01", "2026-13-01"])
async def test_a_time_that_cannot_be_parsed_is_kept_as_text(
    store: PartitionedRunLogStore, engine: Engine, text: str
) -> None:
    """A time that cannot be parsed is kept as text, and the attempt has the time of recording."""
    said = StepAttempt(status="SUCCESS", start_time=text, end_time=text)
    await store.add_step_log(StepLog(internal_name="s", attempts=[said]), "r")
    [attempt] = await (await engine.run("r")).attempts()
    assert attempt.ended_at is not None
    assert (await store.get_step_log("s", "r")).attempts == [said]


async def test_an_end_that_is_handed_in_later_is_the_attempts(store: PartitionedRunLogStore, engine: Engine) -> None:
    """A step log put again with an end updates the attempt's end once."""
    began = StepAttempt(status="RUNNING", start_time="2026-01-01 10:00:00")
    await store.add_step_log(StepLog(internal_name="s", attempts=[began]), "r")
    ended = structs.replace(began, status="SUCCESS", end_time="2026-01-01 11:00:00")
    for _ in range(2):
        await store.add_step_log(StepLog(internal_name="s", attempts=[ended]), "r")
    [attempt] = await (await engine.run("r")).attempts()
    assert attempt.submitted_at is not None
    assert attempt.ended_at is not None
    assert attempt.ended_at - attempt.submitted_at == timedelta(hours=1)
    assert [type(each.event).__name__ async for each in engine.events(run_id="r")].count("AttemptUpdated") == 1


async def test_an_attempt_that_is_taken_up_again_reads_as_its_document(store: PartitionedRunLogStore) -> None:
    """Each step log for the same attempt is read back as given, whatever times the attempt had before."""
    for said in (
        StepAttempt(status="SUCCESS", start_time="2026-01-01 10:00:00", end_time="2026-01-01 10:00:09"),
        StepAttempt(status="RUNNING", start_time="2026-01-01 10:00:00"),
        StepAttempt(),
        StepAttempt(status="FAIL", start_time="2026-01-01 11:00:00", end_time="2026-01-01 11:00:09"),
    ):
        for _ in range(2):
            await store.add_step_log(StepLog(internal_name="s", attempts=[said]), "r")
            assert (await store.get_step_log("s", "r")).attempts == [said]


async def test_a_log_that_is_handed_back_as_it_was_read_says_nothing_new(
    store: PartitionedRunLogStore, engine: Engine
) -> None:
    """Putting back a step log as it was read records nothing; an end by the engine is then read as its end time."""
    run = await engine.create_run("r")
    attempt = await run.start_attempt("s")
    before = await run.head()
    await store.add_step_log(await store.get_step_log("s", "r"), "r")
    assert await run.head() == before
    await attempt.finish()
    [found] = (await store.get_step_log("s", "r")).attempts
    assert found.end_time == str((await attempt.log()).ended_at)


async def test_mappings_are_documents_too(store: PartitionedRunLogStore) -> None:
    """A document may be a mapping instead of an object."""
    await store.add_step_log({"internal_name": "s", "attempts": [{"status": "FAIL"}]}, "r")
    await store.add_branch_log({"internal_name": "b"}, "r")
    await store.add_branch_log({"run_id": "r", "status": "FAIL"}, "r")
    log = await store.get_run_log_by_id("r", full=True)
    assert (log.status, log.steps["s"].attempts[0].status, list(log.branches)) == ("FAIL", "FAIL", ["b"])


async def test_objects_inside_documents_are_kept_by_their_attributes(store: PartitionedRunLogStore) -> None:
    """Objects in a data catalog are recorded with all their attributes."""
    item = SimpleNamespace(name="data.csv", data_hash="h", more={"a": 1})
    struct = StepAttempt(attempt_number=7)
    await store.add_step_log(SimpleNamespace(internal_name="s", data_catalog=[item, struct]), "r")
    assert (await store.get_step_log("s", "r")).data_catalog == [vars(item), msgspec.to_builtins(struct)]


@pytest.mark.parametrize(
    "bad",
    [
        SimpleNamespace(name="no internal name"),
        SimpleNamespace(internal_name="s", attempts=3),
        SimpleNamespace(internal_name="s", data_catalog=[object()]),
        SimpleNamespace(internal_name="s", data_catalog=[SimpleNamespace(huge=2**70)]),
        StepLog(internal_name="s", attempts=3),  # type: ignore[arg-type] # on purpose
        StepLog(internal_name="s", attempts=[StepAttempt(code_identities=3)]),  # type: ignore[arg-type] # on purpose
        StepLog(internal_name="s", branches={"b": 3}),  # type: ignore[dict-item] # on purpose
        StepLog(internal_name="s", attempts=[StepAttempt(input_parameters={"x": Parameter(object())})]),
    ],
)
async def test_what_is_no_document_is_refused(store: PartitionedRunLogStore, bad: Any) -> None:
    """An unreadable step log raises InvalidValue and creates no run."""
    with pytest.raises(InvalidValue):
        await store.add_step_log(bad, "r")
    with pytest.raises(RunNotFound):
        await store.get_run_log_by_id("r")


@pytest.mark.parametrize(
    "bad",
    [
        JobLog(attempts=[StepAttempt(output_parameters={"x": Parameter(2**70)})]),
        JobLog(attempts=[StepAttempt(code_identities=[3])]),
        JobLog(code_identities=[3]),
        JobLog(data_catalog=[3]),
        SimpleNamespace(status=3),
    ],
)
async def test_what_is_no_job_log_is_refused(store: PartitionedRunLogStore, bad: Any) -> None:
    """An unreadable job log raises InvalidValue and creates no run."""
    with pytest.raises(InvalidValue):
        await store.add_job_log("r", bad)
    with pytest.raises(RunNotFound):
        await store.get_run_log_by_id("r")


@pytest.mark.parametrize(
    "bad",
    [
        {"internal_name": "s", "message": "a\ud800"},
        {"internal_name": "s", "attempts": {"\ud800": 1}},
        {"internal_name": "s", "branches": range(3)},
        {"internal_name": "s", "data_catalog": ["\ud800"]},
    ],
)
async def test_what_no_document_can_be_read_from_is_refused(store: PartitionedRunLogStore, bad: Any) -> None:
    """Text that UTF-8 cannot encode, and a parameter list instead of a mapping, raise InvalidValue."""
    with pytest.raises(InvalidValue):
        await store.add_step_log(bad, "r")
    with pytest.raises(InvalidValue, match="is not a mapping"):
        await store.set_parameters("r", [bad])  # type: ignore[arg-type]


def _nested(innermost: SimpleNamespace, depth: int) -> SimpleNamespace:
    """Return a step with that many steps inside each other below it; with a depth of 0, one that contains itself."""
    step = innermost
    for _ in range(depth):
        below = SimpleNamespace(internal_name="b", steps={"s": step})
        step = SimpleNamespace(internal_name="s", branches={"b": below})
    if not depth:
        step.branches = {"b": SimpleNamespace(internal_name="b", steps={"s": step})}
    return step


@pytest.mark.parametrize("depth", [0, 100])
async def test_a_document_of_any_depth_is_refused_briefly(store: PartitionedRunLogStore, depth: int) -> None:
    """A document that contains itself, or whose fault is deep inside, raises InvalidValue with a short message."""
    with pytest.raises(InvalidValue) as refused:
        await store.add_step_log(_nested(SimpleNamespace(internal_name=5 if depth else "s"), depth), "r")
    assert len(str(refused.value)) < 1000


class Model:
    """An object with the dump method of a host's model class, such as pydantic's."""

    def model_dump(self, *, mode: str) -> dict[str, str]:
        return {"mode": mode}


async def test_a_class_in_place_of_an_object_is_refused(store: PartitionedRunLogStore) -> None:
    """A class passed in place of an instance raises InvalidValue."""
    await store.put_run_log(RunLog(run_id="r"))
    await store.set_parameters("r", {"m": Model()})
    for bad in (store.put_run_log(Model), store.set_parameters("r", {"m": Model}), store.add_job_log("r", Model)):
        with pytest.raises(InvalidValue, match="is a class"):
            await bad
    assert values(await store.get_parameters("r")) == {"m": {"mode": "json"}}


@pytest.mark.parametrize("attribute", ["kind", "value"])
async def test_a_model_is_a_parameter_only_with_both_of_its_attributes(
    store: PartitionedRunLogStore, attribute: str
) -> None:
    """A model that has only a `kind` or only a `value` attribute is the value of a parameter, not a parameter."""
    model = Model()
    setattr(model, attribute, "its own")
    await store.put_run_log(RunLog(run_id="r"))
    await store.set_parameters("r", {"m": model})
    assert await store.get_parameters("r") == {"m": Parameter({"mode": "json"})}


async def test_a_relative_name_keeps_what_else_was_said_of_the_branch(
    store: PartitionedRunLogStore, engine: Engine
) -> None:
    """Adding a branch log under a relative name keeps the other details of the branch."""
    run = await engine.create_run("r")
    branch = await (await run.fork("a")).fork("b")
    await branch.describe({"note": "kept"})
    await store.add_branch_log(BranchLog(internal_name="b"), "r", "a")
    assert (await branch.compile()).details == {"note": "kept", "internal_name": "b"}


# Stores with `open_missing=False` or `inherited=False`, for hosts with other rules


async def test_a_strict_store_opens_nothing(engine: Engine) -> None:
    """With `open_missing=False`, writing to an unknown run or branch raises an error."""
    store = PartitionedRunLogStore(engine, open_missing=False)
    with pytest.raises(RunNotFound):
        await store.set_parameters("r", {"x": 1})
    await store.create_run_log("r")
    with pytest.raises(BranchNotFound):
        await store.set_parameters("r", {}, "b")
    with pytest.raises(BranchNotFound):
        await store.add_step_log(StepLog(internal_name="b.s"), "r", "b")
    await store.add_branch_log(BranchLog(internal_name="b"), "r")
    await store.add_step_log(StepLog(internal_name="b.s"), "r")
    assert list((await store.get_branch_log("b", "r")).steps) == ["b.s"]


async def test_branches_may_have_only_their_own(engine: Engine) -> None:
    """With `inherited=False`, a branch shows what was set in it, also where that equals its parent's value."""
    store = PartitionedRunLogStore(engine, inherited=False)
    await store.set_parameters("r", {"x": 1, "y": 1})
    await store.set_parameters("r", {"x": 1}, "b")
    assert values(await store.get_parameters("r", "b")) == {"x": 1}
    assert values((await store.get_run_log_by_id("r", full=True)).branches["b"].parameters) == {"x": 1}
    await store.copy_parameters_to_branch("r", None, "c")
    assert values(await store.get_parameters("r", "c")) == {"x": 1, "y": 1}


async def test_a_forked_run_keeps_its_source_s_parameters_even_so(engine: Engine) -> None:
    """With `inherited=False`, a forked run still has its source's parameters."""
    await engine.create_run("source", parameters={"x": 1})
    await engine.fork_run("source", run_id="r")
    store = PartitionedRunLogStore(engine, inherited=False)
    assert values(await store.get_parameters("r")) == {"x": 1}
    assert values((await store.get_run_log_by_id("r")).parameters) == {"x": 1}


# Engine operations that the stores use


async def test_a_log_may_be_compiled_without_what_is_below(engine: Engine) -> None:
    """`compile` leaves out branches with `nested=False`, and inherited parameters with `inherited=False`."""
    run = await engine.create_run("r", parameters={"x": 1})
    branch = await run.fork("a")
    await branch.set_parameters({"y": 2})
    await branch.fork("b")
    assert (await run.compile(nested=False)).branches == {}
    log = await branch.compile(nested=False, inherited=False)
    assert (log.parent, log.branches, values(log.parameters), log.stream_version) == ("", {}, {"y": 2}, 2)


async def test_a_store_that_inherits_nothing_copies_what_it_shows(engine: Engine) -> None:
    """With `inherited=False`, a copy takes only the source's own parameters, once.

    A parameter that the target then sets to its copied value is a write.
    """
    store = PartitionedRunLogStore(engine, inherited=False)
    for run_id, source in (("r", None), ("r", "a")):
        with pytest.raises(RunNotFound):
            await store.copy_parameters_to_branch(run_id, source, "z")
    await store.set_parameters("r", {"x": 1})
    await store.set_parameters("r", {"y": 2}, "a")
    with pytest.raises(BranchNotFound):
        await store.copy_parameters_to_branch("r", "nowhere", "z")
    await store.copy_parameters_to_branch("r", "a", "a.b")
    assert values(await store.get_parameters("r", "a.b")) == {"y": 2}
    before = await engine.last_position()
    await store.copy_parameters_to_branch("r", "a", "a.b")
    assert await engine.last_position() == before, "the branch has that copy already"
    for branch in ("m.0", "m.1"):
        await store.copy_parameters_to_branch("r", None, branch)
    await store.set_parameters("r", {"x": 5}, "m.0")
    await store.set_parameters("r", {"x": 1}, "m.1")
    for branch in ("m.0", "m.1"):
        await store.reduce_parameters_to_parent("r", branch, None)
    assert values(await store.get_parameters("r")) == {"x": 1}


async def test_copies_are_told_from_writes_wherever_reductions_are_looked_at(
    store: PartitionedRunLogStore, engine: Engine
) -> None:
    """A copied parameter is told from a write in the event, the lineage, reductions, verification and a rebuild."""
    run = await engine.create_run("r", parameters={"p": 1, "q": 1})
    a, b = await run.fork("a"), await run.fork("b")
    await run.set_parameters({"p": 2, "q": 2})
    await store.copy_parameters_to_branch("r", None, "a")
    await a.set_parameters({"q": 5})
    await b.set_parameters({"p": 3})
    copied, _ = [each async for each in engine.events(run_id="r", branch="a", types=["ParametersSet"])]
    assert copied.event == ParametersSet(
        branch="a", values={"p": Parameter(2), "q": Parameter(2)}, copied_from=Source("", 3)
    )
    found = await a.lineage("p")
    assert (found.how, [(each.how, each.branch, each.stream_version) for each in found.sources]) == (
        "copied",
        [("set", "", 3)],
    )
    reduced = await run.reduce(rules={"p": "collect", "q": max})
    assert reduced.values == {"p": Parameter([3]), "q": Parameter(5)}
    assert (await engine.verify()).problems == []
    assert await engine.verify_views() == []
    await engine.rebuild()
    assert (await run.reduce(rules={"p": "collect"})).values["p"] == Parameter([3])


async def test_several_commands_open_and_fill_a_run_together(engine: Engine) -> None:
    """`Engine.write` records all of its commands, or none when one is refused."""
    fork = Fork(branch="a.b", parent=None)
    with pytest.raises(BranchNotFound):
        await engine.write("r", OpenRun(), fork, Reduce(children=("unknown",)))
    with pytest.raises(RunNotFound):
        await engine.run("r")
    await engine.write("r", OpenRun(), fork, Reduce(children=("a.b",)))
    assert await (await engine.run("r")).children() == ["a.b"]


@pytest.mark.parametrize("unless", ["resolved", "own"])
async def test_what_the_same_request_has_set_is_not_set_again(
    engine: Engine, unless: Literal["resolved", "own"]
) -> None:
    """`MergeParameters` omits values that an earlier command of the same request has set."""
    again = MergeParameters(values={"x": Parameter(1), "y": Parameter(2)}, unless=unless)
    recorded = await engine.write("r", OpenRun(parameters={"x": Parameter(1)}), again)
    assert recorded.events[-1].event == ParametersSet(branch="", values={"y": Parameter(2)})


@pytest.mark.parametrize(
    ("name", "parent"),
    [("a.b.c", "a.b"), ("a.b.c.d", "a.b"), ("a.x", "a"), ("ab", ""), ("x.a", ""), (".a", ""), ("a.", "a"), ("..", "")],
)
async def test_the_nearest_open_prefix_is_a_branch_s_parent(engine: Engine, name: str, parent: str) -> None:
    """A fork without a parent is of the longest open dotted prefix of its name, else of the root."""
    forks = (Fork(branch=branch, parent=None) for branch in ("a", "a.b", name))
    await engine.write("r", OpenRun(), *forks)
    branch = await (await engine.run("r")).branch(name)
    assert (await branch.compile(nested=False)).parent == parent


async def test_branches_are_nested_deeper_than_calls_may_be(engine: Engine) -> None:
    """Branches nested deeper than the recursion limit can be reduced, read and put back."""
    store = PartitionedRunLogStore(engine, inherited=False)  # resolving through so many forks is slow
    depth = sys.getrecursionlimit() + 100
    names = [f"b{number}" for number in range(depth)]
    parents = ["", *names[:-1]]
    opening = [Fork(branch=name, parent=parent) for name, parent in zip(names, parents, strict=True)]
    await engine.write("r", OpenRun(), *opening)
    await store.compile_branch_results("r", None)
    reduced = [each.branch async for each in engine.events(run_id="r", types=[ParametersReduced])]
    assert reduced == parents[::-1]
    log = await store.finalize_run_log("r")
    await store.put_run_log(structs.replace(log, run_id="copy"))
    assert [each.event.branch async for each in engine.events(run_id="copy", types=[BranchForked])] == names
    branches = log.branches
    for name in names:
        (found,) = branches.items()
        assert found[0] == name
        branches = found[1].branches
    assert list((await store.get_branch_log(names[-2], "r", full=True)).branches) == names[-1:]
