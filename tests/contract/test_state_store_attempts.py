"""Attempts in the state store, tested on the async store and its blocking twin."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from engine import Engine
from engine.errors import AttemptNotFound, InvalidValue, RunNotFound, TaskNotFound
from engine.stores import StateStore, TaskAttempt
from tests.contract.state_stores import TWINS, begin, handle, last_position, opened, workflow

TERMINAL = ["COMPLETED", "FAILED", "FAILED_INIT", "CANCELLED"]


@pytest.fixture(params=TWINS)
async def store(request: pytest.FixtureRequest, database: Path) -> AsyncIterator[Any]:
    async with opened(request.param, database) as twin:
        await begin(twin, "a", "b")
        yield twin


# Creating


async def test_an_attempt_comes_back_as_it_was_given(store: Any) -> None:
    """A new attempt is read back with every field given, and without times of submission and end."""
    attempt_id = await store.create_attempt(
        "r",
        "a",
        operator_type="HPC",
        operator_key="hpc.default",
        operator_data={"queue": {"name": "long", "nodes": [1, 2]}},
        relative_path=PurePosixPath("runs/r/a"),
    )
    found = await store.get_attempt(attempt_id)
    assert found == TaskAttempt(
        attempt_id=attempt_id,
        task_id="a",
        run_id="r",
        attempt_index=1,
        status="CREATED",
        operator_key="hpc.default",
        operator_type="HPC",
        external_id=None,
        operator_data={"queue": {"name": "long", "nodes": [1, 2]}},
        relative_path="runs/r/a",
        created_at=found.created_at,
        submitted_at=None,
        ended_at=None,
        status_reason=None,
    )
    assert found.created_at.tzinfo is UTC


async def test_attempts_are_numbered_per_task(store: Any) -> None:
    """Each task's attempts are numbered 1, 2, 3 … in order of creation."""
    made = [await store.create_attempt("r", task_id) for task_id in "abaa"]
    assert [(each.attempt_id, each.attempt_index) for each in await store.list_attempts("a")] == [
        (made[0], 1),
        (made[2], 2),
        (made[3], 3),
    ]
    assert [each.attempt_index for each in await store.list_attempts("b")] == [1]
    assert [await store.get_attempt_count("r", task_id) for task_id in ("a", "b", "unknown")] == [3, 1, 0]


async def test_a_new_attempt_becomes_the_current_one(store: Any) -> None:
    """A new attempt becomes its task's current attempt and leaves the task's status unchanged."""
    assert await store.get_current_attempt("a") is None
    for _ in range(2):
        attempt_id = await store.create_attempt("r", "a", status="RUNNING")
        assert (await store.get_current_attempt("a")).attempt_id == attempt_id
        assert [each.current_attempt_id for each in await store.get_tasks("r")] == [attempt_id, None]
    assert await store.get_task_status("a") == "PENDING"


async def test_an_attempt_needs_its_task(store: Any) -> None:
    """Creating an attempt of an unknown task or run raises an error that names it, and records nothing."""
    before = await last_position(store)
    with pytest.raises(TaskNotFound, match="'unknown'") as caught:
        await store.create_attempt("r", "unknown")
    assert isinstance(caught.value, ValueError)
    with pytest.raises(RunNotFound, match="'unknown'"):
        await store.create_attempt("unknown", "a")
    assert await last_position(store) == before


async def test_a_task_of_another_run_is_not_attempted(store: Any) -> None:
    """Creating an attempt fails when the given run has no such task, even if another run has."""
    await store.create_run(handle("s"))
    with pytest.raises(TaskNotFound, match="'a' in run 's'"):
        await store.create_attempt("s", "a")


# Updating


async def test_an_update_changes_only_what_is_given(store: Any) -> None:
    """`update_attempt` leaves the fields that it is not given."""
    attempt_id = await store.create_attempt("r", "a", operator_key="k", operator_data={"a": 1})
    created = await store.get_attempt(attempt_id)
    await store.update_attempt(attempt_id, external_id="job-7", relative_path=PurePosixPath("x/y"))
    found = await store.get_attempt(attempt_id)
    assert (found.external_id, found.relative_path) == ("job-7", "x/y")
    unchanged = ("status", "operator_key", "operator_data", "created_at", "submitted_at", "ended_at", "attempt_index")
    assert [getattr(found, name) for name in unchanged] == [getattr(created, name) for name in unchanged]


async def test_every_field_can_be_updated(store: Any) -> None:
    """`update_attempt` sets each field that it is given."""
    changes = {
        "status": "SUBMITTED",
        "operator_type": "Local",
        "operator_key": "local.default",
        "external_id": "1",
        "operator_data": {"pid": 7},
        "relative_path": "p",
        "status_reason": "queued",
    }
    attempt_id = await store.create_attempt("r", "a", operator_data={"old": True})
    await store.update_attempt(attempt_id, **changes)
    found = await store.get_attempt(attempt_id)
    assert {name: getattr(found, name) for name in changes} == changes


async def test_operator_data_can_be_emptied(store: Any) -> None:
    """`update_attempt` with an empty mapping empties the operator data."""
    attempt_id = await store.create_attempt("r", "a", operator_data={"old": True})
    await store.update_attempt(attempt_id, operator_data={})
    assert (await store.get_attempt(attempt_id)).operator_data == {}


async def test_submission_is_stamped_when_the_status_first_leaves_created(store: Any) -> None:
    """`submitted_at` is set when the status first leaves CREATED, and does not change later."""
    attempt_id = await store.create_attempt("r", "a")
    await store.update_attempt(attempt_id, external_id="1")
    assert (await store.get_attempt(attempt_id)).submitted_at is None
    await store.update_attempt(attempt_id, status="SUBMITTED")
    submitted = await store.get_attempt(attempt_id)
    assert submitted.submitted_at >= submitted.created_at
    for status in ("CREATED", "RUNNING"):
        await store.update_attempt(attempt_id, status=status)
    assert (await store.get_attempt(attempt_id)).submitted_at == submitted.submitted_at


@pytest.mark.parametrize("status", TERMINAL)
async def test_the_end_is_stamped_when_the_status_first_becomes_terminal(store: Any, status: str) -> None:
    """`ended_at` is set when the status first becomes terminal, and does not change later."""
    attempt_id = await store.create_attempt("r", "a")
    await store.update_attempt(attempt_id, status="RUNNING")
    assert (await store.get_attempt(attempt_id)).ended_at is None
    await store.update_attempt(attempt_id, status=status)
    ended = await store.get_attempt(attempt_id)
    assert ended.ended_at >= ended.submitted_at
    for later in ("RUNNING", "COMPLETED", "FAILED"):
        await store.update_attempt(attempt_id, status=later)
    assert (await store.get_attempt(attempt_id)).ended_at == ended.ended_at


async def test_an_attempt_may_be_created_in_any_status(store: Any) -> None:
    """An attempt created beyond CREATED is submitted at its creation; one created as terminal has ended then."""
    running = await store.get_attempt(await store.create_attempt("r", "a", status="RUNNING"))
    assert (running.submitted_at, running.ended_at) == (running.created_at, None)
    failed = await store.get_attempt(await store.create_attempt("r", "a", status="FAILED"))
    assert (failed.submitted_at, failed.ended_at) == (failed.created_at, failed.created_at)


async def test_the_same_update_again_records_nothing(store: Any) -> None:
    """Repeating an update records nothing."""
    attempt_id = await store.create_attempt("r", "a")
    changes = {"status": "RUNNING", "operator_data": {"loss": float("nan"), "x": [1]}, "external_id": "1"}
    await store.update_attempt(attempt_id, **changes)
    before = await last_position(store)
    await store.update_attempt(attempt_id, **changes)
    await store.update_attempt(attempt_id)
    assert await last_position(store) == before


async def test_unknown_attempts(store: Any) -> None:
    """Reading an unknown attempt returns None; updating one raises AttemptNotFound, a ValueError."""
    assert await store.get_attempt("unknown") is None
    for changes in ({"status": "FAILED"}, {}):
        with pytest.raises(AttemptNotFound, match="'unknown'") as caught:
            await store.update_attempt("unknown", **changes)
        assert isinstance(caught.value, ValueError)


# Many at once


async def test_active_attempts_are_those_that_have_not_ended(store: Any) -> None:
    """Attempts in any status but a terminal one are active, and are listed in the order of creation."""
    active = [await store.create_attempt("r", "b", status=status) for status in ("CREATED", "RUNNING", "WAITING")]
    for status in TERMINAL:
        await store.create_attempt("r", "a", status=status)
    active.append(await store.create_attempt("r", "a"))
    assert [each.attempt_id for each in await store.get_active_attempts("r")] == active
    assert await store.get_active_attempts("unknown") == []


async def test_the_tasks_that_were_attempted(store: Any) -> None:
    """`get_attempt_task_ids` returns the set of task ids that have attempts."""
    assert await store.get_attempt_task_ids("r") == set()
    for status in ("FAILED", "CREATED"):
        await store.create_attempt("r", "a", status=status)
    assert await store.get_attempt_task_ids("r") == {"a"}
    assert await store.get_attempt_task_ids("unknown") == set()


async def test_active_attempts_are_counted_by_operator(store: Any) -> None:
    """Active attempts are counted by operator key; those without one count under ""."""
    for operator_key in ("hpc", "hpc", "local", None):
        await store.create_attempt("r", "a", operator_key=operator_key)
    await store.create_attempt("r", "a", operator_key="local", status="COMPLETED")
    assert await store.count_active_attempts_by_operator("r") == {"hpc": 2, "local": 1, "": 1}
    assert await store.count_active_attempts_by_operator("unknown") == {}


async def test_attempts_of_another_run_are_its_own(store: Any) -> None:
    """Queries of one run leave out the attempts of other runs."""
    await begin(store, "a", run_id="s")
    await store.create_attempt("s", "a", operator_key="hpc")
    assert await store.get_active_attempts("r") == []
    assert await store.get_attempt_task_ids("r") == set()
    assert await store.count_active_attempts_by_operator("r") == {}
    assert await store.find_orphaned_attempts("r", 0) == []


async def test_orphans_were_created_and_never_submitted(store: Any) -> None:
    """An orphaned attempt is CREATED, has no external id and is older than the timeout."""
    orphan = await store.create_attempt("r", "a")
    submitted = await store.create_attempt("r", "a")
    await store.update_attempt(submitted, external_id="job-7")
    await store.create_attempt("r", "b", status="RUNNING")
    assert [each.attempt_id for each in await store.find_orphaned_attempts("r", timeout_seconds=0)] == [orphan]
    assert await store.find_orphaned_attempts("r") == []
    assert await store.find_orphaned_attempts("unknown", 0) == []


async def test_an_orphan_is_as_old_as_the_timeout_or_older(engine: Engine) -> None:
    """An attempt is orphaned once its age by the given clock reaches the timeout."""
    created = StateStore(engine)
    await begin(created, "a")
    attempt = await created.get_attempt(await created.create_attempt("r", "a"))
    assert attempt is not None

    async def orphans(age_seconds: float) -> int:
        def clock() -> datetime:
            return attempt.created_at + timedelta(seconds=age_seconds)

        return len(await StateStore(engine, clock=clock).find_orphaned_attempts("r", 60))

    assert [await orphans(age) for age in (0, 59.9, 60, 3600)] == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("now", "problem"),
    [(datetime(2026, 3, 1), "has no time zone"), (1772323200, "is int, not a datetime")],  # noqa: DTZ001 - what is refused
    ids=["naive", "a number"],
)
async def test_a_clock_says_an_aware_time(engine: Engine, now: Any, problem: str) -> None:
    """A clock that returns anything but an aware time raises InvalidValue."""
    with pytest.raises(InvalidValue, match=problem):
        await StateStore(engine, clock=lambda: now).find_orphaned_attempts("r")


async def test_a_clock_that_cannot_be_called_is_refused(engine: Engine) -> None:
    """A clock that is not callable raises InvalidValue when the store is made."""
    bad: Any = datetime.now(UTC)
    with pytest.raises(InvalidValue, match=r"clock: .* not a function"):
        StateStore(engine, clock=bad)


@pytest.mark.parametrize("seconds", [1e11, 8e13, -1e11])
async def test_a_timeout_may_be_longer_than_history(store: Any, seconds: float) -> None:
    """A timeout of thousands of years finds no orphan; a negative one of that size finds every one."""
    await store.create_attempt("r", "a")
    assert len(await store.find_orphaned_attempts("r", seconds)) == (1 if seconds < 0 else 0)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 1e300, "60", None])
async def test_a_timeout_is_a_number_of_seconds(store: Any, seconds: Any) -> None:
    """A timeout that is not a finite number of seconds within range raises InvalidValue."""
    with pytest.raises(InvalidValue, match="timeout_seconds"):
        await store.find_orphaned_attempts("r", seconds)


async def test_orphans_are_ended_as_failed_init(store: Any) -> None:
    """`mark_attempts_failed_init` ends attempts as FAILED_INIT with the reason and returns their number."""
    ids = [await store.create_attempt("r", "a") for _ in range(3)]
    assert await store.mark_attempts_failed_init(ids[:2]) == 2
    assert await store.mark_attempts_failed_init(iter(ids[2:]), reason="lost") == 1
    found = [await store.get_attempt(attempt_id) for attempt_id in ids]
    assert [(each.status, each.status_reason) for each in found] == [
        ("FAILED_INIT", "Orphan cleanup"),
        ("FAILED_INIT", "Orphan cleanup"),
        ("FAILED_INIT", "lost"),
    ]
    assert all(each.ended_at is not None for each in found)


async def test_an_attempt_that_has_ended_meanwhile_is_left_alone(store: Any) -> None:
    """`mark_attempts_failed_init` skips ended attempts and counts a repeated id once."""
    ended = await store.create_attempt("r", "a", status="COMPLETED")
    orphan = await store.create_attempt("r", "a")
    before = await last_position(store)
    assert await store.mark_attempts_failed_init([orphan, ended, orphan]) == 1
    assert await store.mark_attempts_failed_init([orphan, ended]) == 0
    assert (await store.get_attempt(ended)).status == "COMPLETED"
    assert await last_position(store) == before + 1


async def test_an_attempt_that_was_submitted_meanwhile_is_left_alone(store: Any) -> None:
    """`mark_attempts_failed_init` skips attempts that were submitted or have an external id."""
    submitted = await store.create_attempt("r", "a")
    await store.update_attempt(submitted, status="SUBMITTED", external_id="job-7")
    prepared = await store.create_attempt("r", "a")
    await store.update_attempt(prepared, external_id="job-8")
    assert await store.mark_attempts_failed_init([submitted, prepared]) == 0
    assert (await store.get_attempt(submitted)).status == "SUBMITTED"


async def test_marking_goes_across_runs(store: Any) -> None:
    """`mark_attempts_failed_init` takes attempts of several runs, or none."""
    await begin(store, "a", run_id="s")
    ids = [await store.create_attempt(run_id, "a") for run_id in "rsr"]
    assert await store.mark_attempts_failed_init(ids) == 3
    assert await store.mark_attempts_failed_init([]) == 0


async def test_marking_an_unknown_attempt_marks_none(store: Any) -> None:
    """`mark_attempts_failed_init` with an unknown id raises AttemptNotFound and marks no attempt."""
    orphan = await store.create_attempt("r", "a")
    with pytest.raises(AttemptNotFound, match="'unknown'"):
        await store.mark_attempts_failed_init([orphan, "unknown"])
    assert (await store.get_attempt(orphan)).status == "CREATED"


async def test_a_task_that_is_described_anew_keeps_its_attempts(store: Any) -> None:
    """A task that a workflow describes again keeps its attempts and their numbering."""
    await store.create_attempt("r", "a")
    await store.add_workflow(workflow("a", image="new"), "r")
    await store.create_attempt("r", "a")
    assert [each.attempt_index for each in await store.list_attempts("a")] == [1, 2]
