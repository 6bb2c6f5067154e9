"""Deleting runs: completely or not at all, never while forks read through them, and never confused with a later run."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from engine import Branch, Engine, Position, Run, TaskSpec, open_engine
from engine.errors import InvalidValue, RunHasForks, RunIsPinned, RunNotFound
from engine.events import SourceCarriedOver
from engine.logs import carried_over, sqlite_deletion
from engine.model import COMPLETED, ERASED, AttemptLog, Origin, Parameter, RunInfo, RunLog, StepLog
from engine.proof.redaction import ERASED_TEXT
from engine.removal import DeletedRun, Expiry
from engine.times import to_microseconds

NO_AGE = timedelta(0)


def sql(database: Path, statement: str, *values: object) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(database, isolation_level=None, timeout=30)) as connection:
        return connection.execute(statement, values).fetchall()


async def assert_sound(engine: Engine) -> None:
    """Assert that the hash chains are valid and that the views equal a rebuild from the events."""
    assert (await engine.verify()).problems == []
    assert await engine.verify_views() == []


async def run_ids(engine: Engine) -> list[str]:
    return [run.run_id for run in await engine.runs()]


async def a_run(engine: Engine, run_id: str, *, status: str = COMPLETED) -> Run:
    """Create a finished run with a row in every table."""
    run = await engine.create_run(run_id, parameters={"lr": 0.1, "x": 1}, description="d", tags={"k": run_id})
    await run.configure({"file": "p.py", "executor": {"n": 1}})
    branch = await run.fork("a")
    await branch.set_parameters({"x": 2}, idempotency_key="k")
    await run.log_step("task", status="COMPLETED", spec=TaskSpec(command="c"), message="m", details={"d": 1})
    async with run.attempt("train", inputs={"i": 1}, operator_key="slurm", external_id=f"job-{run_id}") as attempt:
        await attempt.update(outputs={"o": 2}, details={"host": "n1"})
    await run.log_step("failed", status="FAILED")
    await run.reduce()
    await run.finalize(status)
    return run


async def test_a_deleted_run_is_gone(engine: Engine) -> None:
    """A deleted run has no row left in any table; its deletion is recorded with time, reason and position range."""
    await a_run(engine, "r")
    rows = "SELECT count(*) FROM"
    assert await engine.delete_run("r", "a test") == DeletedRun(run_id="r", branches=2, events=14)
    tables = (
        "events",
        "streams",
        "idempotency_keys",
        "branches",
        "parameters",
        "step_logs",
        "removed_steps",
        "runs",
        "task_attempts",
    )
    assert [sql(engine.path, f"{rows} {table}") for table in tables] == [[(0,)]] * len(tables)
    assert await run_ids(engine) == []
    (deletion,) = await engine.deletions()
    assert (deletion.run_id, deletion.reason, deletion.events) == ("r", "a test", 14)
    assert (deletion.first_position, deletion.last_position) == (1, 14)
    assert deletion.deleted_at == (await _not_found(engine, "r")).deleted_at
    await assert_sound(engine)
    await engine.rebuild()
    await assert_sound(engine)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("nobody", "why"), RunNotFound),
        (("r", ""), InvalidValue),
        (("r", " \t"), InvalidValue),
        (("r", 1), InvalidValue),
        (("r", None), InvalidValue),
    ],
)
async def test_what_cannot_be_deleted_is_refused_by_name(
    engine: Engine, arguments: Any, error: type[Exception]
) -> None:
    """Deleting an unknown run, or with an invalid reason, raises a typed error and deletes nothing."""
    await a_run(engine, "r")
    with pytest.raises(error):
        await engine.delete_run(*arguments)
    assert await run_ids(engine) == ["r"]


async def _not_found(engine: Engine, run_id: str) -> RunNotFound:
    with pytest.raises(RunNotFound) as raised:
        await engine.run(run_id)
    return raised.value


async def test_a_pinned_run_is_kept_until_it_is_unpinned(engine: Engine) -> None:
    """A pinned run cannot be deleted, not even with `carry_over`, until it is unpinned; pinning twice records once."""
    run = await a_run(engine, "r")
    assert (await engine.pin("r", "figures")).events
    assert not (await engine.pin("r", "figures")).events
    assert (await run.info()).pinned
    with pytest.raises(RunIsPinned):
        await engine.delete_run("r", "old", carry_over=True)
    await engine.unpin("r")
    assert not (await run.info()).pinned
    await engine.delete_run("r", "old")
    with pytest.raises(RunNotFound):
        await engine.pin("r")


async def test_a_run_that_others_read_through_is_kept(engine: Engine) -> None:
    """Deleting a run that has forks, of any branch, raises RunHasForks with their ids; without forks it is deleted."""
    await a_run(engine, "r")
    for fork, branch in (("f", None), ("g", "a")):
        await engine.fork_run("r", run_id=fork, branch=branch)
    with pytest.raises(RunHasForks) as raised:
        await engine.delete_run("r", "old")
    assert raised.value.forks == ("f", "g")
    for run_id in ("g", "f", "r"):
        await engine.delete_run(run_id, "old")
    assert await run_ids(engine) == []
    await assert_sound(engine)


def plain(step: StepLog) -> Any:
    """Return a step without what changes when a run takes it over: its origin and its attempts' ids."""
    return (
        *(step.step, step.name, step.status, step.message, step.spec, step.details),
        [_without_id(attempt) for attempt in step.attempts],
        [attempt.attempt_id == step.current_attempt_id for attempt in step.attempts],
    )


def _without_id(attempt: AttemptLog) -> tuple[Any, ...]:
    return tuple(getattr(attempt, name) for name in attempt.__struct_fields__ if name != "attempt_id")


def described(info: RunInfo) -> tuple[Any, ...]:
    return info.dag_hash, info.original_run_id, info.workspace_slug, info.root_path, info.description, info.tags


async def seen(branch: Branch, at: Any = None) -> Any:
    """Return all that a branch shows of itself at a point."""
    log = await branch.compile(at=at)
    steps = {name: plain(step) for name, step in (await branch.steps(at=at)).items()}
    assert steps == {name: plain(step) for name, step in log.steps.items()}
    assert list(steps) == list(log.steps)
    config = log.config if isinstance(log, RunLog) else {}
    return await branch.parameters(at=at), log.parameters, steps, list(steps), log.status, config


async def history(branch: Branch) -> list[Any]:
    """Return what a branch shows at each of its stream versions."""
    points: list[Any] = list(range(1, (await branch.head()).stream_version + 1))
    return [await seen(branch, at) for at in points]


async def _forks(engine: Engine) -> list[Branch]:
    """Create forks of a run, of a branch and of a fork, with own branches and steps that hide inherited ones."""
    await a_run(engine, "r")
    f = await engine.fork_run("r", run_id="f")
    early = await engine.fork_run("f", run_id="early")
    await f.set_parameters({"x": 5})
    await f.configure({"executor": {"n": 2}})
    await f.log_step("task", status="RUNNING", message="anew")
    await f.log_step("own", status="COMPLETED")
    below = await f.fork("below")
    await below.set_parameters({"y": 1})
    late = await engine.fork_run("f", run_id="late")
    await f.configure({"file": "later.py"})
    await late.log_step("train", status="COMPLETED")
    of_branch = await engine.fork_run("r", run_id="of_branch", branch="a")
    of_below = await engine.fork_run("f", run_id="of_below", branch="below")
    return [f, early, below, late, of_branch, of_below]


async def test_forks_see_what_they_saw(engine: Engine) -> None:
    """Deleting a run with `carry_over` changes nothing that its forks and theirs show, now or at any version."""
    branches = await _forks(engine)
    now = [await seen(branch) for branch in branches]
    before = [await history(branch) for branch in branches]
    infos = [described(await (await engine.run(branch.run_id)).info()) for branch in branches]
    with pytest.raises(RunHasForks):
        await engine.delete_run("r", "old")
    await engine.delete_run("r", "old", carry_over=True)
    for _ in range(2):
        assert [await seen(branch) for branch in branches] == now
        assert [(await history(each))[: len(then)] for each, then in zip(branches, before, strict=True)] == before
        assert [described(await (await engine.run(each.run_id)).info()) for each in branches] == infos
        await assert_sound(engine)
        await engine.rebuild()


async def test_points_by_position_and_by_time_are_as_they_were(engine: Engine) -> None:
    """After `carry_over`, a fork shows the same at every earlier position and time."""
    (f, *_) = await _forks(engine)
    events = [each async for each in engine.events(run_id="f", branch="")]
    points: list[Any] = [Position(each.position) for each in events] + [each.recorded_at for each in events]
    before = [await seen(f, point) for point in points]
    await engine.delete_run("r", "old", carry_over=True)
    assert [await seen(f, point) for point in points] == before


@pytest.mark.parametrize("order", [("r", "f", "late"), ("f", "r", "late"), ("late", "f", "r"), ("f", "late", "r")])
async def test_chains_of_forks_are_deleted_in_any_order(engine: Engine, order: tuple[str, ...]) -> None:
    """Runs in a chain of forks can be deleted in any order; the remaining ones show the same as before."""
    branches = {branch.run_id: branch for branch in await _forks(engine) if branch.name == ""}
    before: dict[str, Any] = {}
    for run_id in order:
        branches.pop(run_id, None)
        before = {name: await seen(branch) for name, branch in branches.items()}
        await engine.delete_run(run_id, "old", carry_over=True)
        assert {name: await seen(branch) for name, branch in branches.items()} == before
        await assert_sound(engine)
    await engine.rebuild()
    assert {name: await seen(branch) for name, branch in branches.items()} == before


async def test_a_steps_own_log_is_not_overwritten(engine: Engine) -> None:
    """A carried-over step is shown only at points before the fork logged that step itself."""
    (f, *_) = await _forks(engine)
    await engine.delete_run("r", "old", carry_over=True)
    assert [(await f.step("task", at=at)).message for at in (3, 4, None)] == ["m", "anew", "anew"]
    assert (await f.step("task")).inherited_from is None


async def test_carried_attempts_are_the_runs_own(engine: Engine) -> None:
    """Carried-over attempts are listed first, and a step's next attempt is numbered after them."""
    await a_run(engine, "r")
    f = await engine.fork_run("r", run_id="f")
    g = await engine.fork_run("r", run_id="g")
    await f.start_attempt("other")
    await engine.delete_run("r", "old", carry_over=True)
    carried, own = await f.attempts()
    assert (carried.step, carried.external_id, own.step) == ("train", "job-r", "other")
    assert (await f.step("train")).current_attempt_id == carried.attempt_id
    assert [each.attempt_id for each in await g.attempts()] != [carried.attempt_id]
    assert (await f.start_attempt("train")).attempt_id in {each.attempt_id for each in await f.attempts("train")}
    assert [each.attempt_index for each in await f.attempts("train")] == [1, 2]
    await assert_sound(engine)


async def test_carried_tasks_are_the_runs_own(engine: Engine) -> None:
    """A carried-over step with a specification is a row of the fork in the `tasks` view."""
    run = await engine.create_run("r")
    await run.log_step("train", status=COMPLETED, spec=TaskSpec(command="python train.py"))
    await engine.fork_run("r", run_id="f")
    tasks = "SELECT run_id, task_id, command, status FROM tasks"
    assert sql(engine.path, tasks) == [("r", "train", "python train.py", COMPLETED)]
    await engine.delete_run("r", "old", carry_over=True)
    assert sql(engine.path, tasks) == [("f", "train", "python train.py", COMPLETED)]


async def test_carried_attempts_are_in_their_order(engine: Engine) -> None:
    """Carried-over attempts are listed step by step, in each step by their index."""
    run = await engine.create_run("r")
    for step, outcomes in (("a", ["FAILED", "FAILED", "FAILED", COMPLETED]), ("b", [COMPLETED])):
        for outcome in outcomes:
            await (await run.start_attempt(step)).finish(outcome)
    f = await engine.fork_run("r", run_id="f")
    await f.start_attempt("c")
    await engine.delete_run("r", "old", carry_over=True)
    listed = [(each.step, each.attempt_index) for each in await f.attempts()]
    assert listed == [*(("a", number) for number in range(1, 5)), ("b", 1), ("c", 1)]
    await assert_sound(engine)


async def test_what_is_carried_over_can_be_more_than_an_event_holds(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What exceeds one event is carried over in several, dividing even a step's attempts and a configuration by key."""
    monkeypatch.setattr(carried_over, "PART_BYTES_MAX", 600)
    parameters = {f"p{number}": "v" * 100 for number in range(20)}
    run = await engine.create_run("r", parameters=parameters, description="d", tags={"t": 1})
    for number in range(5):
        async with run.attempt("train", details={"n": number, "text": "t" * 200}):
            pass
    await run.configure({f"c{number}": "v" * 100 for number in range(20)})
    f = await engine.fork_run("r", run_id="f")
    before, told = await seen(f), described(await f.info())
    await engine.delete_run("r", "old", carry_over=True)
    parts = [each.event async for each in engine.events(run_id="f", types=[SourceCarriedOver])]
    assert len(parts) > 5
    assert await seen(f) == await seen(f, at=1) == before
    assert described(await f.info()) == told
    await assert_sound(engine)


async def test_what_a_source_was_opened_with_is_carried_over(engine: Engine) -> None:
    """A fork's row in `runs` keeps what the deleted source was created with, also after a rebuild."""
    opened: dict[str, Any] = {
        "dag_hash": "hash",
        "workspace_slug": "lab",
        "root_path": "/data",
        "description": "d",
        "tags": {"k": 1},
    }
    await engine.create_run("r", use_cached=True, **opened)
    await engine.fork_run("r", run_id="f")
    row = f"SELECT use_cached, {', '.join(opened)} FROM runs WHERE run_id = 'f'"
    before = sql(engine.path, row)
    assert before == [(1, "hash", "lab", "/data", "d", '{"k":1}')]
    await engine.delete_run("r", "old", carry_over=True)
    await engine.rebuild()
    assert sql(engine.path, row) == before
    await assert_sound(engine)


async def test_what_is_larger_than_a_part_is_one_by_itself(engine: Engine) -> None:
    """A value larger than a part is carried over in an event of its own, and no part is empty."""
    large = {"a": "v" * carried_over.PART_BYTES_MAX, "b": "w" * carried_over.PART_BYTES_MAX}
    await engine.create_run("r", parameters=large)
    f = await engine.fork_run("r", run_id="f")
    await engine.delete_run("r", "old", carry_over=True)
    parts = [each.event async for each in engine.events(run_id="f", types=[SourceCarriedOver])]
    assert [list(part.values) for part in parts if isinstance(part, SourceCarriedOver)] == [["a"], ["b"]]
    assert {name: each.value for name, each in (await f.parameters()).items()} == large
    await assert_sound(engine)


async def test_what_callers_recorded_in_several_events_is_carried_over_in_one(engine: Engine) -> None:
    """A step whose events exceed the size limit together is carried over; the source's tags are recorded only once."""
    large = {"x": "v" * 900_000}
    run = await engine.create_run("r", tags={"t": "t" * 900_000}, parameters={"p": "v" * 900_000})
    async with run.attempt("s") as attempt:
        await attempt.update(inputs=large)
        await attempt.update(outputs=large)
        await attempt.update(details=large)
    f = await engine.fork_run("r", run_id="f")
    before = await seen(f)
    await engine.delete_run("r", "old", carry_over=True)
    assert await seen(f) == before
    parts = [each.event async for each in engine.events(run_id="f", types=[SourceCarriedOver])]
    assert [bool(part.tags) for part in parts if isinstance(part, SourceCarriedOver)] == [True, False]
    await assert_sound(engine)


async def test_the_source_of_what_was_carried_over_is_the_event_that_carried_it(engine: Engine) -> None:
    """`sources` names the event that carried a value over, beside values that the fork has set itself."""
    await engine.create_run("r", parameters={"x": 1, "z": 1})
    f = await engine.fork_run("r", run_id="f")
    await f.set_parameters({"a": 2, "z": 2})
    await engine.delete_run("r", "old", carry_over=True)
    assert await f.sources() == {"a": Origin("f", "", 2), "x": Origin("f", "", 3), "z": Origin("f", "", 2)}


async def test_nothing_that_was_carried_over_is_at_work(engine: Engine) -> None:
    """A carried-over attempt that never ended is not unfinished in the fork until the fork updates it."""
    run = await engine.create_run("r")
    await run.start_attempt("s")
    await run.set_step_status("s", COMPLETED)
    f = await engine.fork_run("r", run_id="f")
    await f.set_parameters({"own": 1})
    await engine.delete_run("r", "old", carry_over=True)
    assert [each.ended_at for each in await f.attempts("s")] == [None]
    assert await engine.views.tasks.unfinished("f") == []
    assert (await f.lineage("own")).during is None
    (left,) = await f.attempts("s")
    await (await f.find_attempt(left.attempt_id)).update(status="RUNNING")  # the fork continues it
    assert [each.log.attempt_id for each in await engine.views.tasks.unfinished("f")] == [left.attempt_id]


@pytest.mark.parametrize("erased", ["f", "g"])
async def test_copies_of_all_that_was_carried_over_are_named(engine: Engine, erased: str) -> None:
    """Erasing a carried-over description, step or configuration names the other fork that holds a copy."""
    for name, value in {"description": "d", "step": "s", "config": "c"}.items():
        run = await engine.create_run(name, description=value if name == "description" else None)
        if name == "step":
            await run.log_step("a", status=COMPLETED, message=value)
        if name == "config":
            await run.configure({"k": value})
        for fork in ("f", "g"):
            await engine.fork_run(name, run_id=f"{name} {fork}")
        await engine.delete_run(name, "old", carry_over=True)
        erasure = await engine.erase(f"{name} {erased}", None, 2, "a name", compact=False)
        assert [each.run_id for each in erasure.carried] == [f"{name} {'g' if erased == 'f' else 'f'}"]


async def test_what_was_carried_over_can_be_erased(engine: Engine) -> None:
    """A carried-over event can be erased; it then reads as erased, also in forks of the fork, and verifies."""
    branches = await _forks(engine)
    await engine.delete_run("r", "old", carry_over=True)
    (carried,) = [each async for each in engine.events(run_id="f", types=[SourceCarriedOver])]
    await engine.erase("f", None, carried.stream_version, "a name")
    assert (await branches[0].parameters())["lr"] == (await branches[1].parameters())["lr"] == ERASED
    assert (await (await engine.run("late")).info()).description == "(erased)"
    assert (await (await engine.run("late")).compile()).config["file"] == ERASED_TEXT
    await assert_sound(engine)
    await engine.delete_run("f", "old", carry_over=True)
    assert (await branches[1].parameters())["lr"] == ERASED
    await assert_sound(engine)


async def test_a_conflict_on_a_value_erased_before_it_was_carried_over_still_verifies(engine: Engine) -> None:
    """A reduction whose conflict's base was erased still verifies after the source was deleted with `carry_over`."""
    await engine.create_run("r", parameters={"x": 1})
    f = await engine.fork_run("r", run_id="f")
    child = await f.fork("a")
    await child.set_parameters({"x": 2})
    await f.set_parameters({"x": 3})
    assert len((await f.reduce()).conflicts) == 1
    await engine.erase("r", None, 2, "wrong", compact=False)
    await assert_sound(engine)
    await engine.delete_run("r", "old", carry_over=True)
    await assert_sound(engine)


async def test_reductions_of_a_fork_still_verify(engine: Engine) -> None:
    """A fork's reductions over inherited values verify after `carry_over`, whether made before or after it."""
    await a_run(engine, "r")
    f = await engine.fork_run("r", run_id="f")
    child = await f.fork("c")
    await child.set_parameters({"x": 7, "lr": 0.2})
    await f.set_parameters({"x": 8})
    await f.reduce(rules={"x": "sum"})
    await engine.delete_run("r", "old", carry_over=True)
    again = await f.fork("d")
    await again.set_parameters({"lr": 0.3})
    await f.reduce([again])
    await assert_sound(engine)
    assert (await f.lineage("lr", history=True)).value == Parameter(0.3)


async def test_cutting_a_fork_off_without_carrying_over_is_found(engine: Engine) -> None:
    """Verification finds a fork whose link to its source was removed without carrying anything over."""
    await a_run(engine, "r")
    await engine.fork_run("r", run_id="f")
    sql(engine.path, "UPDATE streams SET parent_id = NULL, parent_version = 0 WHERE run_id = 'f'")
    assert [each.kind for each in (await engine.verify()).problems] == ["link"]


@pytest.mark.parametrize("forgery", ["DELETE FROM deleted_runs", "UPDATE deleted_runs SET events = 12"])
async def test_a_run_that_just_went_missing_is_found(engine: Engine, forgery: str) -> None:
    """Verification finds a missing run whose deletion record was removed or changed."""
    await a_run(engine, "r")
    await a_run(engine, "s")
    await engine.delete_run("r", "old")
    assert (await engine.verify()).problems == []
    sql(engine.path, forgery)
    assert (await engine.verify()).problems != []


async def test_a_checkpoint_still_holds_after_a_deletion(engine: Engine) -> None:
    """Verification since a checkpoint reports a deleted run as "deleted" only.

    If the checkpoint was taken in the middle of that run, the problem is "checkpoint".
    """
    run = await a_run(engine, "r")
    middle = await engine.checkpoint()
    await run.set_parameters({"later": 1})
    await a_run(engine, "s")
    end = await engine.checkpoint()
    await engine.delete_run("r", "old")
    verified = await engine.verify(since=end)
    assert [(each.kind, each.run_id) for each in verified.problems] == [("deleted", "r")]
    assert "old" in verified.problems[0].message
    assert {each.kind for each in (await engine.verify(since=middle)).problems} == {"checkpoint"}


async def test_a_checkpoint_made_after_a_deletion_commits_to_its_record(engine: Engine) -> None:
    """Changing the reason or time of a deletion is found by verification since a later checkpoint."""
    await a_run(engine, "r")
    await a_run(engine, "s")
    before = await engine.checkpoint()
    await engine.delete_run("r", "old")
    after = await engine.checkpoint()
    assert (await engine.verify(since=after)).problems == []
    sql(engine.path, "UPDATE deleted_runs SET reason = 'a person asked'")
    assert [each.kind for each in (await engine.verify(since=after)).problems] == ["checksum", "checkpoint"]
    sql(engine.path, "UPDATE deleted_runs SET reason = 'old', deleted_at = 0")
    assert [each.kind for each in (await engine.verify(since=after)).problems] == ["checksum", "checkpoint"]
    assert [each.kind for each in (await engine.verify(since=before)).problems] == ["checksum", "deleted"]


@pytest.mark.parametrize("hours", [-1, 0, 1])
async def test_whether_a_checkpoint_saw_a_deletion_is_no_matter_of_clocks(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """Whether a deletion came before or after a checkpoint does not depend on the clock, which may jump."""
    checkpoints = [await engine.checkpoint()]
    for run_id in ("q", "r", "s"):
        await a_run(engine, run_id)
    checkpoints.append(await engine.checkpoint())
    for run_id, jump in (("r", hours), ("q", -hours), ("s", hours)):
        monkeypatch.setattr(sqlite_deletion, "time", _Clock(jump))
        await engine.delete_run(run_id, "old")
        checkpoints.append(await engine.checkpoint())
    gone = [["r", "q", "s"], ["q", "s"], ["s"], []]
    found = [(await engine.verify(since=each)).problems for each in checkpoints]
    assert [{each.kind for each in problems} <= {"deleted"} for problems in found] == [True] * 5
    assert [sorted(str(each.run_id) for each in problems) for problems in found] == [[], *map(sorted, gone)]


class _Clock:
    """A clock that is some hours ahead."""

    def __init__(self, hours: int) -> None:
        self._hours = hours

    def time_ns(self) -> int:
        return time.time_ns() + self._hours * 3600 * 10**9


async def test_a_run_made_anew_under_a_deleted_ones_name_is_no_continuation(engine: Engine) -> None:
    """Verification since a checkpoint reports a deleted run even if a new run has its id."""
    await engine.create_run("pay", parameters={"salary": 1000})
    checkpoint = await engine.checkpoint()
    await engine.delete_run("pay", "a mistake")
    await engine.create_run("pay", parameters={"salary": 9999})
    assert [(each.kind, each.run_id) for each in (await engine.verify(since=checkpoint)).problems] == [
        ("deleted", "pay")
    ]


async def test_positions_and_streams_are_not_used_again(engine: Engine) -> None:
    """Positions and stream ids of a deleted run are not reused, even if it was recorded last."""
    await a_run(engine, "r")
    last = await engine.last_position()
    (before,) = sql(engine.path, "SELECT max(stream_id) FROM streams")
    await engine.delete_run("r", "old")
    assert await engine.last_position() == last
    assert [each async for each in engine.events(after=0)] == []
    await a_run(engine, "r")
    assert (await anext(engine.events(after=last))).position == last + 1
    assert sql(engine.path, "SELECT min(stream_id) FROM streams")[0] > before
    await assert_sound(engine)


async def test_a_run_of_the_same_name_is_another_run(engine: Engine) -> None:
    """A new run with a deleted run's id has its own history and keys; forks of the old run keep what they show."""
    await a_run(engine, "r")
    f = await engine.fork_run("r", run_id="f")
    before = await seen(f)
    await engine.delete_run("r", "old", carry_over=True)
    again = await engine.create_run("r", parameters={"lr": 9}, description="another")
    branch = await again.fork("a")
    assert not (await branch.set_parameters({"x": 3}, idempotency_key="k")).duplicate
    assert await seen(f) == before
    await engine.erase("f", None, 1, "so that it is folded anew")
    assert (await f.info()).description == "d"
    await engine.delete_run("r", "old")
    assert await seen(f) == before
    await assert_sound(engine)


async def test_handles_of_a_deleted_run_find_no_run(engine: Engine) -> None:
    """Every read and write through a handle of a deleted run, or its branch or attempt, raises RunNotFound."""
    run = await a_run(engine, "r")
    branch, attempt = await run.branch("a"), await run.start_attempt("more")
    await engine.delete_run("r", "old")
    for call in (
        *(run.parameters(), run.compile(), run.info(), run.set_parameters({"x": 1}), run.fork("b"), run.finalize()),
        *(branch.parameters(), branch.set_parameters({"x": 1}), attempt.update(message="m")),
    ):
        with pytest.raises(RunNotFound):
            await call


async def test_other_engines_notice_at_once(database: Path) -> None:
    """Another engine's write to a run that was just deleted raises RunNotFound; its other writes are recorded."""
    async with open_engine(database) as engine, open_engine(database) as other:
        gone, stays = await other.create_run("gone"), await other.create_run("stays")
        await gone.set_parameters({"x": 1})
        await engine.delete_run("gone", "old")
        refused, recorded = await asyncio.gather(
            gone.set_parameters({"x": 2}), stays.set_parameters({"x": 2}), return_exceptions=True
        )
        assert isinstance(refused, RunNotFound)
        assert not isinstance(recorded, BaseException)
        await other.create_run("gone")
        await assert_sound(engine)


async def test_subscribers_go_on(engine: Engine) -> None:
    """A subscription to the whole store continues after a deletion and yields the events of later runs."""
    await engine.create_run("r")
    events = engine.subscribe(after=0)
    assert (await anext(events)).run_id == "r"
    waiting = asyncio.ensure_future(anext(events))
    await engine.delete_run("r", "old")
    await engine.create_run("s")
    assert (await waiting).run_id == "s"
    await events.aclose()


async def test_collecting_deletes_what_ended_long_ago(engine: Engine) -> None:
    """`collect` deletes finished runs by status and age, and keeps active and pinned runs and those with forks."""
    for run_id, status in (("done", COMPLETED), ("bad", "FAILED"), ("on", "RUNNING"), ("pinned", COMPLETED)):
        await a_run(engine, run_id, status=status)
    await engine.pin("pinned")
    await a_run(engine, "source")
    await engine.fork_run("source", run_id="fork", status="RUNNING")
    assert (await engine.collect(timedelta(days=1))).deleted == []
    found = await engine.collect(NO_AGE, statuses=["FAILED"])
    assert found.deleted == [DeletedRun(run_id="bad", branches=2, events=14)]
    found = await engine.collect(datetime.now(UTC))
    assert ([each.run_id for each in found.deleted], [*found.kept]) == (["done"], ["source", "pinned"])
    assert found.kept["pinned"] == str(RunIsPinned("pinned"))
    assert sorted(await run_ids(engine)) == ["fork", "on", "pinned", "source"]
    await assert_sound(engine)


async def test_a_run_whose_last_event_is_exactly_as_old_is_collected(engine: Engine) -> None:
    """A run is collected from its last event's time on, to the microsecond, and not before."""
    await a_run(engine, "r")
    *_, last = [recorded async for recorded in engine.events(run_id="r")]
    assert (await engine.collect(last.recorded_at - timedelta(microseconds=1))).deleted == []
    assert [each.run_id for each in (await engine.collect(last.recorded_at)).deleted] == ["r"]


async def test_runs_of_a_hosts_own_words_are_counted_and_taken_when_named(engine: Engine) -> None:
    """`collect` counts old runs with a host's own status and deletes them only if that status is named."""
    for run_id, status in (("a", "DONE"), ("b", "DONE"), ("c", "RUNNING"), ("d", COMPLETED)):
        await a_run(engine, run_id, status=status)
    assert (await engine.collect(timedelta(days=1))).others == {}
    found = await engine.collect(NO_AGE)
    assert ([each.run_id for each in found.deleted], found.others) == (["d"], {"DONE": 2, "RUNNING": 1})
    found = await engine.collect(NO_AGE, statuses=["DONE"])
    assert ([each.run_id for each in found.deleted], found.others) == (["b", "a"], {"RUNNING": 1})


async def test_forks_go_before_what_they_were_forked_from(engine: Engine) -> None:
    """`collect` deletes a chain of finished forks whole, forks first."""
    await a_run(engine, "r")
    await engine.fork_run("r", run_id="f", status=COMPLETED)
    await engine.fork_run("f", run_id="g", status=COMPLETED)
    assert [each.run_id for each in (await engine.collect(NO_AGE)).deleted] == ["g", "f", "r"]


@pytest.mark.parametrize("kept", [False, True])
async def test_a_dry_run_says_what_would_be_and_changes_nothing(engine: Engine, kept: bool) -> None:  # noqa: FBT001
    """A dry run of `collect` changes nothing and returns what the real run then returns."""
    await a_run(engine, "r")
    await engine.fork_run("r", run_id="f", status="RUNNING" if kept else COMPLETED)
    await a_run(engine, "s")
    before = sql(engine.path, "SELECT * FROM store"), await engine.last_position(), await run_ids(engine)
    dry = await engine.collect(NO_AGE, dry_run=True)
    assert (sql(engine.path, "SELECT * FROM store"), await engine.last_position(), await run_ids(engine)) == before
    assert dry == await engine.collect(NO_AGE)
    assert [*dry.kept] == (["r"] if kept else [])


@pytest.mark.parametrize(
    "arguments",
    [
        {"statuses": ["RUNNING"]},
        {"statuses": "COMPLETED"},
        {"statuses": [["COMPLETED"]]},
        {"statuses": None},
        {"older_than": timedelta(seconds=-1)},
        {"older_than": timedelta.max},
        {"older_than": datetime(2020, 1, 1)},  # noqa: DTZ001 - the naive time is the point
        {"older_than": 30},
        {"reason": " "},
        {"dry_run": "yes"},
        {"dry_run": True, "reason": ""},
    ],
    ids=str,
)
async def test_a_wrong_selection_deletes_nothing(engine: Engine, arguments: dict[str, Any]) -> None:
    """`collect` with an invalid argument raises InvalidValue and deletes nothing."""
    await a_run(engine, "r")
    with pytest.raises(InvalidValue):
        await engine.collect(**{"older_than": NO_AGE, **arguments})
    assert await run_ids(engine) == ["r"]


@pytest.mark.parametrize("meanwhile", ["goes on", "is pinned", "is forked", "is gone"])
async def test_what_changes_between_selection_and_deletion_is_looked_at_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    """`collect` does not delete a run that stops qualifying between its selection and its deletion."""
    run = await a_run(engine, "r")
    expired = engine._removal.expired

    async def expired_and_changed(expiry: Expiry) -> Any:
        found = await expired(expiry)
        changes: dict[str, Callable[[], Awaitable[Any]]] = {
            "goes on": lambda: run.set_status("RUNNING"),
            "is pinned": lambda: engine.pin("r"),
            "is forked": lambda: engine.fork_run("r", run_id="f"),
            "is gone": lambda: engine.delete_run("r", "first"),
        }
        await changes[meanwhile]()
        return found

    monkeypatch.setattr(engine._removal, "expired", expired_and_changed)
    found = await engine.collect(NO_AGE)
    assert found.deleted == []
    assert [*found.kept] == ([] if meanwhile == "is gone" else ["r"])


async def test_whether_a_run_may_go_is_what_the_log_says(engine: Engine) -> None:
    """Whether a run may be deleted is decided by the log, not by the `runs` view, which may have been changed."""
    pinned, on = await a_run(engine, "pinned"), await a_run(engine, "on")
    await engine.pin("pinned")
    await on.set_status("RUNNING")
    with contextlib.closing(sqlite3.connect(engine.path)) as connection, connection:
        connection.execute("UPDATE runs SET pinned = 0, status = ?", (COMPLETED,))
    with pytest.raises(RunIsPinned):
        await engine.delete_run("pinned", "old")
    found = await engine.collect(NO_AGE)
    assert (found.deleted, sorted(found.kept)) == ([], ["on", "pinned"])
    await engine.rebuild()
    assert (await pinned.info()).pinned


async def test_two_collectors_delete_each_run_once(database: Path) -> None:
    """Two engines that collect at the same time delete each run once, and neither fails."""
    async with open_engine(database) as engine, open_engine(database) as other:
        for number in range(10):
            run = await engine.create_run(f"r{number}")
            await run.set_status(COMPLETED)
        found = await asyncio.gather(engine.collect(NO_AGE), other.collect(NO_AGE))
        deleted = [each.run_id for one in found for each in one.deleted]
        assert sorted(deleted) == [f"r{number}" for number in range(10)]
        await assert_sound(engine)


async def test_no_removal_reads_all_events(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """No statement of a selection, a deletion or an erasure scans the events table."""
    statements: set[str] = set()

    def traced(connection: sqlite3.Connection) -> None:
        connection.set_trace_callback(statements.add)

    log = engine._log
    await log.exclusively(traced)  # type: ignore[attr-defined]
    await log.readers.run(traced)  # type: ignore[attr-defined]
    await a_run(engine, "r")
    await engine.fork_run("r", run_id="f")
    statements.clear()
    await engine.erase("r", None, 2, "wrong", compact=False)
    until = to_microseconds(datetime.now(UTC))
    await engine._removal.expired(Expiry(frozenset({COMPLETED}), until, await engine.last_position()))
    await engine.delete_run("r", "old", carry_over=True)
    plans = {each: _plan(engine.path, each) for each in statements if each.lstrip().startswith(("SELECT", "WITH", "D"))}
    assert len(plans) > 10
    assert {each: plan for each, plan in plans.items() if any("SCAN events" in line for line in plan)} == {}


async def test_writing_and_reading_cost_the_same_however_many_runs_were_deleted(engine: Engine) -> None:
    """No statement of a write, a read or a deletion scans the table of deleted runs."""
    statements: set[str] = set()
    await a_run(engine, "r")
    log: Any = engine._log
    for run in (log.exclusively, log.readers.run):
        await run(lambda connection: connection.set_trace_callback(statements.add))
    async with open_engine(engine.path) as other:
        await other.create_run("s")
    await engine.create_run("t")
    assert len([each async for each in engine.events()]) > 0
    await engine.delete_run("r", "old")
    plans = {each: _plan(engine.path, each) for each in statements if "deleted_runs" in each and "SELECT" in each}
    assert len(plans) > 2
    assert [line for plan in plans.values() for line in plan if "deleted_runs" in line and "USING" not in line] == []


def _plan(database: Path, statement: str) -> list[str]:
    return [row[3] for row in sql(database, f"EXPLAIN QUERY PLAN {statement}")]
