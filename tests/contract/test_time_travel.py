"""Reads of a run or branch as of a version, a position or a time."""

from datetime import UTC, datetime
from typing import Any

import pytest

from engine import Engine, Position, RecordedEvent, Run
from engine.errors import InvalidValue, PointNotFound, StepNotFound
from engine.events import AttemptCreated, AttemptUpdated, BranchForked, RunStatusChanged, StepLogged
from engine.model import Parameter, RunLog

LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)
FAR_AHEAD = datetime(2999, 1, 1, tzinfo=UTC)


@pytest.fixture
async def run(engine: Engine) -> Run:
    """A run with two branches and every kind of change, and another run recorded in between."""
    run = await engine.create_run("r", parameters={"x": 1}, tag="nightly")
    await engine.create_run("other", parameters={"x": "other's"})
    a = await run.fork("a")
    async with a.attempt("train") as attempt:
        await attempt.update(external_id="job-7")
        await a.set_parameters({"loss": 0.3})
    await run.configure({"k": 1})
    await run.set_status("RUNNING")
    await run.fork("b")
    await run.reduce()
    await run.log_step("report", status="FAILED")
    await run.remove_step("report")
    await run.finalize("COMPLETED")
    return run


async def event_of(engine: Engine, kind: type, branch: str | None = None) -> RecordedEvent:
    """Return the run's first event of a type."""
    found = [each async for each in engine.events(run_id="r", branch=branch, types=[kind])]
    return found[0]


async def test_a_whole_run_is_compiled_as_it_stood(engine: Engine, run: Run) -> None:
    """`compile` at a version of the root shows every branch's status, steps, attempts and parameters as of then."""
    began = await event_of(engine, RunStatusChanged)
    log = await run.compile(at=began.stream_version)
    assert (log.status, log.stream_version, list(log.branches), log.config) == (
        "RUNNING",
        began.stream_version,
        ["a"],
        {"k": 1},
    )
    assert log.parameters == {"x": Parameter(1)}
    assert log.branches["a"].parameters == {"loss": Parameter(0.3), "x": Parameter(1)}
    assert [each.status for each in log.branches["a"].steps["train"].attempts] == ["COMPLETED"]
    assert not log.finalized


async def test_what_was_removed_since_is_there_again(engine: Engine, run: Run) -> None:
    """A removed step is shown at the points at which it existed, and only there."""
    logged = await event_of(engine, StepLogged, "")
    assert "report" not in await run.steps()
    assert (await run.steps(at=logged.stream_version))["report"].status == "FAILED"
    assert (await run.step("report", at=Position(logged.position))).status == "FAILED"
    with pytest.raises(StepNotFound):
        await run.step("report", at=logged.stream_version - 1)


async def test_attempts_are_seen_as_they_went(engine: Engine, run: Run) -> None:
    """Attempts read at a point have the status and fields that they had then."""
    a = await run.branch("a")
    events = [each async for each in engine.events(run_id="r", types=[AttemptCreated, AttemptUpdated])]
    then = [(await a.attempts("train", at=each.stream_version))[0] for each in events]
    assert [(each.status, each.external_id) for each in then] == [
        ("RUNNING", None),
        ("RUNNING", "job-7"),
        ("COMPLETED", "job-7"),
    ]
    assert [await run.all_attempts(at=Position(each.position)) for each in events] == [[("a", one)] for one in then]
    assert await a.attempts(at=1) == []


async def test_a_step_goes_on_with_its_attempt(engine: Engine) -> None:
    """At every version, a step has the status of its latest attempt."""
    run = await engine.create_run("r")
    for status in ("FAILED", "COMPLETED"):
        attempt = await run.start_attempt("train")
        await attempt.finish(status)
    begun = await event_of(engine, AttemptCreated)
    seen = []
    for version in range(begun.stream_version, (await run.head()).stream_version + 1):
        step = await run.step("train", at=version)
        seen.append((step.status, step.attempts[-1].status))
    assert seen == [(status, status) for status in ("RUNNING", "FAILED", "RUNNING", "COMPLETED")]


async def test_children_are_those_forked_by_then(engine: Engine, run: Run) -> None:
    """`children` at a position lists only branches forked by then."""
    forks = [each async for each in engine.events(run_id="r", types=[BranchForked])]
    assert await run.children(at=Position(forks[0].position - 1)) == []
    assert await run.children(at=Position(forks[0].position)) == ["a"]
    assert await run.children(at=Position(forks[1].position)) == await run.children() == ["a", "b"]


async def test_the_head_is_now(run: Run) -> None:
    """Reads at the last version, or at a time in the future, equal reads of the present."""
    now = await run.compile()
    for point in (now.stream_version, FAR_AHEAD):
        assert await run.compile(at=point) == now
        assert await run.info(at=point) == await run.info()
        assert await run.head(at=point) == await run.head()


async def test_a_point_of_a_branch_is_when_its_event_was_recorded(engine: Engine, run: Run) -> None:
    """A compiled branch shows its descendants as of the position of the branch's own event."""
    a = await run.branch("a")
    inner = await a.fork("inner")
    head = await a.head()
    await inner.set_parameters({"y": 1})
    assert (await a.compile(at=head.stream_version)).branches == {}  # the child's first event came later
    await a.set_parameters({"z": 1})
    log = await a.compile(at=head.stream_version + 1)
    assert log.branches["a.inner"].parameters["y"] == Parameter(1)


async def test_a_root_alone_needs_no_branches(run: Run) -> None:
    """`compile` at a version with `nested=False` leaves out branches and keeps the parameters."""
    log = await run.compile(at=(await run.head()).stream_version, nested=False)
    assert (log.branches, log.parameters) == ({}, (await run.compile()).parameters)


async def test_the_run_s_row_is_as_it_stood(run: Run) -> None:
    """`info` at a version has the run's status and finalization as of then."""
    info = await run.info(at=1)
    assert (info.status, info.finalized, info.tag) == ("CREATED", False, "nightly")


async def test_a_forked_run_is_seen_through_its_source(engine: Engine, run: Run) -> None:
    """A forked run's past has the inherited parameters as of the fork, through forks of forks."""
    second = await engine.fork_run("r", run_id="second", branch="a", tag="again")
    await second.set_parameters({"own": 1})
    third = await engine.fork_run("second", run_id="third")
    await second.set_parameters({"own": 2})
    await third.set_parameters({"late": 1})
    log = await third.compile(at=1)
    assert log.parameters == {"loss": Parameter(0.3), "own": Parameter(1), "x": Parameter(1)}
    assert (await second.info(at=1)).original_run_id == "r"


async def test_what_a_run_is_described_as_comes_down_through_forks_of_forks(engine: Engine) -> None:
    """A fork of a fork has the first run's description and tags, now and in the past."""
    await engine.create_run("r", description="the first", root_path="/data", workspace_slug="lab", tags={"k": 1})
    await engine.fork_run("r", run_id="second")
    third = await engine.fork_run("second", run_id="third")
    for info in (await third.info(), await third.info(at=1)):
        found = info.description, info.root_path, info.workspace_slug, info.tags
        assert found == ("the first", "/data", "lab", {"k": 1})


NO_POINTS = [0, -1, 99, 2**80, LONG_AGO, Position(10_000), Position(2**80), Position(1)]
NOT_POINTS: list[Any] = [True, "3", 1.0, datetime(2026, 1, 1), b"3"]  # noqa: DTZ001 - the case


@pytest.mark.parametrize("point", NO_POINTS, ids=repr)
async def test_a_point_that_is_not_there_is_refused(run: Run, point: Any) -> None:
    """A read at a point outside the branch's history raises PointNotFound with the point and the head version."""
    late = await run.branch("b")
    for read in (late.compile, late.steps, late.attempts, late.children, late.parameters, late.sources, late.head):
        with pytest.raises(PointNotFound) as caught:
            await read(at=point)
        assert (caught.value.point, caught.value.branch, caught.value.head_version) == (point, "b", 1)


@pytest.mark.parametrize("point", NOT_POINTS, ids=repr)
async def test_what_is_no_point_is_refused(run: Run, point: Any) -> None:
    """A read at a value that is no point raises InvalidValue."""
    for read in (run.compile, run.steps, run.attempts, run.children, run.parameters, run.all_attempts, run.info):
        with pytest.raises(InvalidValue):
            await read(at=point)


@pytest.mark.parametrize("n", [0, -1, True, 1.0, "1"])
def test_a_position_counts_from_one(n: Any) -> None:
    """`Position` of anything but an integer from 1 raises InvalidValue."""
    with pytest.raises(InvalidValue):
        Position(n)


async def test_looking_back_records_nothing(engine: Engine, run: Run) -> None:
    """Reads of the past record nothing and leave the views unchanged."""
    before = await engine.last_position()
    for version in range(1, (await run.head()).stream_version + 1):
        assert isinstance(await run.compile(at=version), RunLog)
    assert await engine.last_position() == before
    assert await engine.verify_views() == []


async def test_a_clock_that_was_set_back_hides_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A time means the last event recorded by then and all before it, even if the clock was set back."""
    seconds = 300
    monkeypatch.setattr("time.time_ns", lambda: seconds * 10**9)
    run = await engine.create_run("clocks")
    branch = await run.fork("a")
    seconds = 100
    await run.set_parameters({"x": 1})
    seconds = 600
    await branch.set_parameters({"x": 2})
    then = datetime.fromtimestamp(200, UTC)
    assert await run.parameters(at=then) == {"x": Parameter(1)}
    assert (await run.compile(at=then)).parameters == {"x": Parameter(1)}
    assert await run.children(at=then) == ["a"]  # its fork comes earlier in the log, though with a later time
    assert (await branch.head(at=then)).stream_version == 1
    with pytest.raises(PointNotFound):
        await run.parameters(at=datetime.fromtimestamp(99, UTC))


async def test_what_was_erased_is_erased_in_the_past(engine: Engine, run: Run) -> None:
    """An erased message reads as erased at every point, in forks too."""
    recorded = await run.log_step("secret", status="COMPLETED", message="the password")
    version = recorded.stream_version
    forked = await engine.fork_run("r", run_id="forked")
    await engine.erase("r", None, version, reason="a password")
    await run.log_step("later")
    for found in (await run.step("secret", at=version), await forked.step("secret"), await forked.step("secret", at=1)):
        assert (found.status, found.message) == ("COMPLETED", "(erased)")


async def test_a_step_as_it_was_whatever_others_said_of_it(engine: Engine) -> None:
    """A step's past is not affected by other steps whose name, reason or message contains its name."""
    run = await engine.create_run("r")
    await run.log_step("fit", status="COMPLETED")
    await run.log_step("fit again")
    attempt = await run.start_attempt("plot")
    await attempt.update(message="as fit said")
    await run.set_step_status("plot", "FAILED", "fit is to be done anew")
    version = (await run.head()).stream_version
    forked = await engine.fork_run("r", run_id="forked", at=version)
    await run.set_step_status("fit", "RUNNING")
    assert (await run.step("fit", at=version)).status == "COMPLETED"
    assert (await forked.step("fit")).status == "COMPLETED"
