"""Attempts in the state store, for the async store and its blocking twin alike."""

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
    """Every field that an attempt begins with is read back; nothing has been submitted or has ended."""
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
    """Each task counts its attempts 1, 2, 3, in the order they were created."""
    made = [await store.create_attempt("r", task_id) for task_id in "abaa"]
    assert [(each.attempt_id, each.attempt_index) for each in await store.list_attempts("a")] == [
        (made[0], 1),
        (made[2], 2),
        (made[3], 3),
    ]
    assert [each.attempt_index for each in await store.list_attempts("b")] == [1]
    assert [await store.get_attempt_count("r", task_id) for task_id in ("a", "b", "unknown")] == [3, 1, 0]


async def test_a_new_attempt_becomes_the_current_one(store: Any) -> None:
    """The task points at its newest attempt; the task's own status is left alone."""
    assert await store.get_current_attempt("a") is None
    for _ in range(2):
        attempt_id = await store.create_attempt("r", "a", status="RUNNING")
        assert (await store.get_current_attempt("a")).attempt_id == attempt_id
        assert [each.current_attempt_id for each in await store.get_tasks("r")] == [attempt_id, None]
    assert await store.get_task_status("a") == "PENDING"


async def test_an_attempt_needs_its_task(store: Any) -> None:
    """An unknown task and an unknown run are refused by name."""
    before = await last_position(store)
    with pytest.raises(TaskNotFound, match="'unknown'") as caught:
        await store.create_attempt("r", "unknown")
    assert isinstance(caught.value, ValueError)
    with pytest.raises(RunNotFound, match="'unknown'"):
        await store.create_attempt("unknown", "a")
    assert await last_position(store) == before


async def test_a_task_of_another_run_is_not_attempted(store: Any) -> None:
    """The run that is given is the one that is meant, also when only another has the task."""
    await store.create_run(handle("s"))
    with pytest.raises(TaskNotFound, match="'a' in run 's'"):
        await store.create_attempt("s", "a")


# Updating


async def test_an_update_changes_only_what_is_given(store: Any) -> None:
    """What is not given stays as it is."""
    attempt_id = await store.create_attempt("r", "a", operator_key="k", operator_data={"a": 1})
    created = await store.get_attempt(attempt_id)
    await store.update_attempt(attempt_id, external_id="job-7", relative_path=PurePosixPath("x/y"))
    found = await store.get_attempt(attempt_id)
    assert (found.external_id, found.relative_path) == ("job-7", "x/y")
    unchanged = ("status", "operator_key", "operator_data", "created_at", "submitted_at", "ended_at", "attempt_index")
    assert [getattr(found, name) for name in unchanged] == [getattr(created, name) for name in unchanged]


async def test_every_field_can_be_updated(store: Any) -> None:
    """Each argument of an update becomes the attribute of its name."""
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
    """An empty mapping is a value like any other, not the lack of one."""
    attempt_id = await store.create_attempt("r", "a", operator_data={"old": True})
    await store.update_attempt(attempt_id, operator_data={})
    assert (await store.get_attempt(attempt_id)).operator_data == {}


async def test_submission_is_stamped_when_the_status_first_leaves_created(store: Any) -> None:
    """Later changes of the status leave the time of submission as it is."""
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
    """An attempt ends once, however it ends."""
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
    """One that begins beyond created was submitted, one that begins as terminal has ended."""
    running = await store.get_attempt(await store.create_attempt("r", "a", status="RUNNING"))
    assert (running.submitted_at, running.ended_at) == (running.created_at, None)
    failed = await store.get_attempt(await store.create_attempt("r", "a", status="FAILED"))
    assert (failed.submitted_at, failed.ended_at) == (failed.created_at, failed.created_at)


async def test_the_same_update_again_records_nothing(store: Any) -> None:
    """An orchestrator that polls says the same again and again."""
    attempt_id = await store.create_attempt("r", "a")
    changes = {"status": "RUNNING", "operator_data": {"loss": float("nan"), "x": [1]}, "external_id": "1"}
    await store.update_attempt(attempt_id, **changes)
    before = await last_position(store)
    await store.update_attempt(attempt_id, **changes)
    await store.update_attempt(attempt_id)
    assert await last_position(store) == before


async def test_unknown_attempts(store: Any) -> None:
    """Who asks gets None; who writes gets a ValueError that names the attempt."""
    assert await store.get_attempt("unknown") is None
    for changes in ({"status": "FAILED"}, {}):
        with pytest.raises(AttemptNotFound, match="'unknown'") as caught:
            await store.update_attempt("unknown", **changes)
        assert isinstance(caught.value, ValueError)


# Many at once


async def test_active_attempts_are_those_that_have_not_ended(store: Any) -> None:
    """Every status but the terminal ones is active, in the order of creation."""
    active = [await store.create_attempt("r", "b", status=status) for status in ("CREATED", "RUNNING", "WAITING")]
    for status in TERMINAL:
        await store.create_attempt("r", "a", status=status)
    active.append(await store.create_attempt("r", "a"))
    assert [each.attempt_id for each in await store.get_active_attempts("r")] == active
    assert await store.get_active_attempts("unknown") == []


async def test_the_tasks_that_were_attempted(store: Any) -> None:
    """They are a set of ids; tasks without attempts are not in it."""
    assert await store.get_attempt_task_ids("r") == set()
    for status in ("FAILED", "CREATED"):
        await store.create_attempt("r", "a", status=status)
    assert await store.get_attempt_task_ids("r") == {"a"}
    assert await store.get_attempt_task_ids("unknown") == set()


async def test_active_attempts_are_counted_by_operator(store: Any) -> None:
    """Attempts that have ended do not count; those without an operator count under the empty text."""
    for operator_key in ("hpc", "hpc", "local", None):
        await store.create_attempt("r", "a", operator_key=operator_key)
    await store.create_attempt("r", "a", operator_key="local", status="COMPLETED")
    assert await store.count_active_attempts_by_operator("r") == {"hpc": 2, "local": 1, "": 1}
    assert await store.count_active_attempts_by_operator("unknown") == {}


async def test_attempts_of_another_run_are_its_own(store: Any) -> None:
    """What is asked of a run leaves out every other run."""
    await begin(store, "a", run_id="s")
    await store.create_attempt("s", "a", operator_key="hpc")
    assert await store.get_active_attempts("r") == []
    assert await store.get_attempt_task_ids("r") == set()
    assert await store.count_active_attempts_by_operator("r") == {}
    assert await store.find_orphaned_attempts("r", 0) == []


async def test_orphans_were_created_and_never_submitted(store: Any) -> None:
    """An attempt with an external id, or one that has gone on, is no orphan."""
    orphan = await store.create_attempt("r", "a")
    submitted = await store.create_attempt("r", "a")
    await store.update_attempt(submitted, external_id="job-7")
    await store.create_attempt("r", "b", status="RUNNING")
    assert [each.attempt_id for each in await store.find_orphaned_attempts("r", timeout_seconds=0)] == [orphan]
    assert await store.find_orphaned_attempts("r") == []
    assert await store.find_orphaned_attempts("unknown", 0) == []


async def test_an_orphan_is_as_old_as_the_timeout_or_older(engine: Engine) -> None:
    """The clock that is given says how old an attempt is."""
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
    [(datetime(2026, 3, 1), "has no time zone"), (1772323200, "is int, not a time")],  # noqa: DTZ001 - what is refused
    ids=["naive", "a number"],
)
async def test_a_clock_says_an_aware_time(engine: Engine, now: Any, problem: str) -> None:
    """What is none is refused by name, whether there are attempts or not."""
    with pytest.raises(InvalidValue, match=problem):
        await StateStore(engine, clock=lambda: now).find_orphaned_attempts("r")


async def test_a_clock_can_be_called(engine: Engine) -> None:
    """What cannot is refused where it is given."""
    bad: Any = datetime.now(UTC)
    with pytest.raises(InvalidValue, match=r"clock: .* not a function"):
        StateStore(engine, clock=bad)


@pytest.mark.parametrize("seconds", [1e11, 8e13, -1e11])
async def test_a_timeout_may_be_longer_than_history(store: Any, seconds: float) -> None:
    """No attempt is three thousand years old, and each is older than one that will be created then."""
    await store.create_attempt("r", "a")
    assert len(await store.find_orphaned_attempts("r", seconds)) == (1 if seconds < 0 else 0)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 1e300, "60", None])
async def test_a_timeout_is_a_number_of_seconds(store: Any, seconds: Any) -> None:
    """What is none is refused by name."""
    with pytest.raises(InvalidValue, match="timeout_seconds"):
        await store.find_orphaned_attempts("r", seconds)


async def test_orphans_are_ended_as_failed_init(store: Any) -> None:
    """They are marked with the reason, and the number of those that were is returned."""
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
    """Marking twice, or one that is named twice, counts once and records one event."""
    ended = await store.create_attempt("r", "a", status="COMPLETED")
    orphan = await store.create_attempt("r", "a")
    before = await last_position(store)
    assert await store.mark_attempts_failed_init([orphan, ended, orphan]) == 1
    assert await store.mark_attempts_failed_init([orphan, ended]) == 0
    assert (await store.get_attempt(ended)).status == "COMPLETED"
    assert await last_position(store) == before + 1


async def test_an_attempt_that_was_submitted_meanwhile_is_left_alone(store: Any) -> None:
    """A job that runs outside is not called lost because somebody looked a moment too early."""
    submitted = await store.create_attempt("r", "a")
    await store.update_attempt(submitted, status="SUBMITTED", external_id="job-7")
    prepared = await store.create_attempt("r", "a")
    await store.update_attempt(prepared, external_id="job-8")
    assert await store.mark_attempts_failed_init([submitted, prepared]) == 0
    assert (await store.get_attempt(submitted)).status == "SUBMITTED"


async def test_marking_goes_across_runs(store: Any) -> None:
    """The attempts may be of several runs, or none."""
    await begin(store, "a", run_id="s")
    ids = [await store.create_attempt(run_id, "a") for run_id in "rsr"]
    assert await store.mark_attempts_failed_init(ids) == 3
    assert await store.mark_attempts_failed_init([]) == 0


async def test_marking_an_unknown_attempt_marks_none(store: Any) -> None:
    """All are looked up before the first is marked."""
    orphan = await store.create_attempt("r", "a")
    with pytest.raises(AttemptNotFound, match="'unknown'"):
        await store.mark_attempts_failed_init([orphan, "unknown"])
    assert (await store.get_attempt(orphan)).status == "CREATED"


async def test_a_task_that_is_described_anew_keeps_its_attempts(store: Any) -> None:
    """An upsert of the workflow is no reason to count from 1 again."""
    await store.create_attempt("r", "a")
    await store.add_workflow(workflow("a", image="new"), "r")
    await store.create_attempt("r", "a")
    assert [each.attempt_index for each in await store.list_attempts("a")] == [1, 2]
