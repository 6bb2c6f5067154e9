"""Attempts and their steps, used through the handles."""

import asyncio
import contextlib
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec import structs

from engine import Engine
from engine.commands import Record
from engine.errors import AttemptExists, AttemptNotFound, InvalidName, InvalidValue, StepNotFound
from engine.events import AttemptCreated, AttemptUpdated, ParametersSet, StepLogged, StepStatusChanged
from engine.model import AttemptChanges, AttemptDocument, Parameter, StepLog, TaskSpec

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


async def types_of(engine: Engine) -> list[type]:
    """Return the types of the events since the run was created."""
    return [type(recorded.event) async for recorded in engine.events(after=1)]


class TestBlock:
    async def test_an_attempt_is_created_running_and_completed(self, engine: Engine) -> None:
        """The end of the block completes the attempt; the step's status follows, and the times are stamped."""
        run = await engine.create_run("r")
        async with run.attempt("train", operator_key="local") as attempt:
            running = await run.step("train")
            assert (running.status, running.attempts[0].status) == ("RUNNING", "RUNNING")
        step = await run.step("train")
        log = await attempt.log()
        assert (step.status, log.status, log.operator_key) == ("COMPLETED", "COMPLETED", "local")
        assert log.submitted_at is not None
        assert log.ended_at is not None
        assert log.created_at <= log.submitted_at <= log.ended_at
        assert await types_of(engine) == [StepLogged, AttemptCreated, AttemptUpdated]

    async def test_what_the_block_raises_goes_on_and_is_the_reason(self, engine: Engine) -> None:
        """An error raised in the block is re-raised, fails the attempt and its step, and becomes the status reason."""
        run = await engine.create_run("r")
        with pytest.raises(RuntimeError, match="out of memory"):
            async with run.attempt("train"):
                raise RuntimeError("out of memory")
        (log,) = await run.attempts("train")
        assert (log.status, log.status_reason) == ("FAILED", "RuntimeError: out of memory")
        assert (await run.step("train")).status == "FAILED"

    async def test_a_reason_is_cut_and_always_text(self, engine: Engine) -> None:
        """A status reason made from an error is cut to 1000 characters and escapes what UTF-8 cannot encode."""
        run = await engine.create_run("r")
        with pytest.raises(RuntimeError):
            async with run.attempt("train"):
                raise RuntimeError("\ud800" + "x" * 100_000)
        (log,) = await run.attempts("train")
        assert log.status_reason is not None
        assert log.status_reason.startswith("RuntimeError: \\ud800xxx")
        assert len(log.status_reason) == 1000

    async def test_a_cancelled_block_is_a_cancelled_attempt(self, engine: Engine) -> None:
        """A block that is cancelled, by asyncio or by an anyio scope, records its attempt as CANCELLED."""
        run = await engine.create_run("r")
        inside = asyncio.Event()

        async def wait() -> None:
            async with run.attempt("task"):
                inside.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(wait())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with anyio.CancelScope() as scope:
            async with run.attempt("scope"):
                scope.cancel()
                await anyio.sleep_forever()
        assert [log.status for log in await run.attempts()] == ["CANCELLED", "CANCELLED"]

    @pytest.mark.parametrize("how", ["finish", "update"])
    async def test_an_attempt_that_the_block_finished_is_left_as_it_is(self, engine: Engine, how: str) -> None:
        """The end of the block leaves the status of an attempt that the block itself ended."""
        run = await engine.create_run("r")
        async with run.attempt("train") as attempt:
            await (attempt.finish("FAILED", "bad data") if how == "finish" else attempt.update(status="FAILED"))
        assert (await attempt.log()).status == "FAILED"

    async def test_the_first_end_is_the_end(self, engine: Engine) -> None:
        """A later status changes an ended attempt's status and reason, but not its `submitted_at` and `ended_at`."""
        attempt = await (await engine.create_run("r")).start_attempt("train")
        await attempt.finish("FAILED")
        before = await attempt.log()
        await attempt.finish("COMPLETED", "after all")
        after = await attempt.log()
        assert (after.submitted_at, after.ended_at) == (before.submitted_at, before.ended_at)
        assert (after.status, after.status_reason) == ("COMPLETED", "after all")

    async def test_a_retry_is_the_next_attempt(self, engine: Engine) -> None:
        """Attempts are numbered from 1 for each step of a branch, and the latest is the step's current attempt."""
        run = await engine.create_run("r")
        with pytest.raises(ZeroDivisionError):
            async with run.attempt("train"):
                raise ZeroDivisionError
        async with run.attempt("train") as second, run.attempt("other") as other:
            assert (second.attempt_index, other.attempt_index) == (2, 1)
        step = await run.step("train")
        assert [log.status for log in step.attempts] == ["FAILED", "COMPLETED"]
        assert (step.status, step.current_attempt_id) == ("COMPLETED", second.attempt_id)

    async def test_an_older_attempt_that_ends_late_leaves_the_steps_status(self, engine: Engine) -> None:
        """Only the step's current attempt sets the step's status, not an older attempt that ends later."""
        run = await engine.create_run("r")
        first = await run.start_attempt("train")
        second = await run.start_attempt("train")
        await second.finish()
        await first.finish("FAILED")
        assert (await run.step("train")).status == "COMPLETED"
        assert repr(first) == "<Attempt 1 of 'train' in 'r' ''>"


FIELDS: dict[str, Any] = {
    "operator_key": "slurm",
    "operator_type": "HPC",
    "external_id": "job-7",
    "operator_data": {"queue": ["long", None]},
    "relative_path": "train/1",
    "message": "hello",
    "inputs": {"lr": 0.1},
    "outputs": {"y": Parameter("s3://key", "object")},
    "metrics": {"loss": Parameter(0.3, "metric")},
    "details": {"host": "n1"},
}
LATER: dict[str, Any] = {**FIELDS, "status": "QUEUED", "status_reason": "why", "submitted_at": NOON, "ended_at": NOON}
UPDATED: dict[str, Any] = {
    **{key: {"new": Parameter(1)} for key in ("inputs", "outputs", "metrics")},
    **{key: {"new": 1} for key in ("operator_data", "details")},
    **dict.fromkeys(("submitted_at", "ended_at"), NOON),
}


class TestFields:
    @pytest.mark.parametrize("name", FIELDS)
    async def test_every_field_can_be_given_at_the_start(self, engine: Engine, name: str) -> None:
        """Every field given to `start_attempt` is there when the attempt is read."""
        attempt = await (await engine.create_run("r")).start_attempt("train", **{name: FIELDS[name]})
        assert getattr(await attempt.log(), name) == as_read(FIELDS[name])

    @pytest.mark.parametrize("name", LATER)
    async def test_every_field_can_be_updated_and_the_others_stay(self, engine: Engine, name: str) -> None:
        """An update sets the field that it names and leaves the others."""
        attempt = await (await engine.create_run("r")).start_attempt("train", **FIELDS)
        before = await attempt.log()
        value = UPDATED.get(name, "new")
        await attempt.update(**{name: value})
        after = await attempt.log()
        assert getattr(after, name) == value
        untouched = set(FIELDS) - {name}
        assert {each: getattr(after, each) for each in untouched} == {each: getattr(before, each) for each in untouched}

    async def test_an_update_of_nothing_records_nothing(self, engine: Engine) -> None:
        """An update without changes records no event and does not affect other requests in the same commit."""
        run = await engine.create_run("r")
        attempt = await run.start_attempt("train")
        recorded, other = await asyncio.gather(attempt.update(), run.set_parameters({"lr": 0.1}))
        assert (recorded.events, len(other.events)) == ((), 1)
        assert await types_of(engine) == [StepLogged, AttemptCreated, ParametersSet]

    async def test_an_event_that_updates_nothing_is_folded(self, engine: Engine) -> None:
        """The views fold an `AttemptUpdated` event without changes, which an import may contain."""
        run = await engine.create_run("r")
        attempt = await run.start_attempt("train")
        nothing = AttemptUpdated(branch="", step="train", attempt_id=attempt.attempt_id, changes=AttemptChanges())
        assert (await run.write(Record(branch="", events=(nothing,)))).events
        assert await engine.verify_views() == []

    @pytest.mark.parametrize("name", ["status_reason", "operator_key", "external_id", "operator_data", "ended_at"])
    async def test_a_field_that_may_be_missing_can_be_taken_away(self, engine: Engine, name: str) -> None:
        """An update with None clears an optional field."""
        attempt = await (await engine.create_run("r")).start_attempt("train", **FIELDS)
        await attempt.update(**{name: LATER[name]})
        nothing: dict[str, Any] = {name: None}
        await attempt.update(**nothing)
        assert getattr(await attempt.log(), name) is None

    @pytest.mark.parametrize(
        ("fields", "error"),
        [
            ({"colour": "red"}, InvalidValue),
            ({"status": ""}, InvalidName),
            ({"status": None}, InvalidName),
            ({"message": None}, InvalidValue),
            ({"external_id": 7}, InvalidValue),
            ({"operator_data": [1]}, InvalidValue),
            ({"details": {"a": object()}}, InvalidValue),
            ({"outputs": {"a": 2**63}}, InvalidValue),
            ({"metrics": {"": 1}}, InvalidName),
            ({"inputs": None}, InvalidValue),
            ({"submitted_at": datetime(2026, 1, 1)}, InvalidValue),  # noqa: DTZ001 - the case
            ({"ended_at": "now"}, InvalidValue),
        ],
    )
    async def test_a_wrong_field_is_refused_and_records_nothing(
        self, engine: Engine, fields: dict[str, Any], error: type[Exception]
    ) -> None:
        """An update with an unknown field or an invalid value raises a typed error and records nothing."""
        attempt = await (await engine.create_run("r")).start_attempt("train")
        last = await engine.last_position()
        with pytest.raises(error):
            await attempt.update(**fields)
        assert await engine.last_position() == last

    @pytest.mark.parametrize("name", ["status_reason", "submitted_at", "ended_at"])
    async def test_what_comes_later_cannot_be_given_at_the_start(self, engine: Engine, name: str) -> None:
        """`start_attempt` refuses the fields that belong to a later state of an attempt."""
        with pytest.raises(InvalidValue, match="is not one of the fields operator_key,"):
            await (await engine.create_run("r")).start_attempt("train", **{name: LATER[name]})


def as_read(value: Any) -> Any:
    """Return the value as it is read back: plain parameter values come back as `Parameter`."""
    return {"lr": Parameter(0.1)} if value == {"lr": 0.1} else value


class TestFinding:
    async def test_attempts_are_found_from_the_run_and_listed_by_branch(self, engine: Engine) -> None:
        """A run finds and lists the attempts of all its branches in order of creation; a branch lists only its own."""
        run = await engine.create_run("r")
        branch = await run.fork("a")
        first = await run.start_attempt("one")
        second = await branch.start_attempt("two", attempt_id="mine")
        found = await run.find_attempt("mine")
        assert (found.branch, found.step, found.attempt_index) == ("a", "two", 1)
        assert [(where, log.attempt_id) for where, log in await run.all_attempts()] == [
            ("", first.attempt_id),
            ("a", second.attempt_id),
        ]
        assert [log.attempt_id for log in await branch.attempts()] == ["mine"]
        assert await branch.attempts("one") == []

    async def test_an_attempt_belongs_to_its_run(self, engine: Engine) -> None:
        """Another run neither finds an attempt nor can start one with the same id."""
        await (await engine.create_run("r")).start_attempt("one", attempt_id="mine")
        other = await engine.create_run("q")
        with pytest.raises(AttemptNotFound):
            await other.find_attempt("mine")
        with pytest.raises(AttemptExists):
            await other.start_attempt("one", attempt_id="mine")

    async def test_an_attempt_of_a_removed_step_is_gone(self, engine: Engine) -> None:
        """A removed step's attempt raises AttemptNotFound, and a new step of that name numbers from 1 again."""
        run = await engine.create_run("r")
        attempt = await run.start_attempt("one")
        await run.remove_step("one", "renamed")
        with pytest.raises(AttemptNotFound):
            await attempt.finish()
        with pytest.raises(StepNotFound):
            await run.step("one")
        assert (await run.start_attempt("one")).attempt_index == 1
        assert await engine.verify_views() == []


class TestStepDocuments:
    async def test_a_document_twice_is_recorded_once(self, engine: Engine) -> None:
        """Logging the same step document again records nothing; a changed one records only what differs.

        A NaN equals any other NaN, whatever its bits.
        """
        run = await engine.create_run("r")
        document: dict[str, Any] = {
            "status": "RUNNING",
            "details": {"nan": [float("inf") - float("inf")]},
            "spec": TaskSpec(cores=2, env={"A": "1"}),
            "attempts": [AttemptDocument(status="FAIL", metrics={"loss": Parameter(float("-nan"), "metric")})],
        }
        assert len((await run.log_step("train", **document)).events) == 2
        assert (await run.log_step("train", **document)).events == ()
        changed = await run.log_step("train", **(document | {"status": "SUCCESS"}))
        assert [type(each.event) for each in changed.events] == [StepStatusChanged]
        more = await run.log_step("train", **(document | {"status": "SUCCESS", "message": "more"}))
        assert [type(each.event) for each in more.events] == [StepLogged]

    async def test_what_is_not_given_stays(self, engine: Engine) -> None:
        """Logging a step again changes only the fields that are given and keeps its status and attempts."""
        run = await engine.create_run("r")
        await run.log_step("train", name="Train", step_type="map", message="m", mock=True, details={"k": 1})
        async with run.attempt("train"):
            pass
        before = await run.step("train")
        assert (await run.log_step("train")).events == ()
        await run.log_step("train", message="more")
        assert await run.step("train") == structs.replace(before, message="more")
        await run.log_step("train", message="", mock=False, details={})
        assert await run.step("train") == structs.replace(before, message="", mock=False, details={})

    async def test_a_document_without_a_spec_keeps_the_one_that_is_known(self, engine: Engine) -> None:
        """Logging a step without a spec keeps the spec that the step has."""
        run = await engine.create_run("r")
        await run.log_step("train", spec=TaskSpec(image="ubuntu"))
        await run.log_step("train", message="hello")
        assert (await run.step("train")).spec == TaskSpec(image="ubuntu")

    async def test_a_document_may_leave_attempts_out(self, engine: Engine) -> None:
        """Attempts that a later step document leaves out are kept."""
        run = await engine.create_run("r")
        await run.log_step("train", attempts=[AttemptDocument(message="1"), AttemptDocument(message="2")])
        await run.log_step("train", attempts=[AttemptDocument(message="changed")])
        assert [log.message for log in await run.attempts("train")] == ["changed", "2"]

    async def test_a_step_reads_like_its_document(self, engine: Engine) -> None:
        """A step reads with every field of its document, and steps are listed in the order of first logging."""
        run = await engine.create_run("r")
        await run.log_step("z", name="Z", status="S", step_type="map", message="m", mock=True, details={"k": 1})
        await run.log_step("a")
        steps = await run.steps()
        assert list(steps) == ["z", "a"]
        expected = StepLog(step="z", name="Z", status="S", step_type="map", message="m", mock=True, details={"k": 1})
        assert steps["z"] == expected

    async def test_what_is_not_there_is_named(self, engine: Engine) -> None:
        """StepNotFound carries the run id, the branch and the step."""
        branch = await (await engine.create_run("r")).fork("a")
        with pytest.raises(StepNotFound) as caught:
            await branch.step("train")
        assert (caught.value.run_id, caught.value.branch, caught.value.step) == ("r", "a", "train")


async def test_attempts_of_one_commit_come_in_the_order_in_which_they_were_created(engine: Engine) -> None:
    """Attempts recorded at the same time by one group commit are listed by position."""
    run = await engine.create_run("order")
    steps = ["z", "m", "a1"]
    await asyncio.gather(*(run.start_attempt(step) for step in steps))
    assert [attempt.step for attempt in await run.attempts()] == steps


async def test_a_step_and_its_task_go_on_with_the_attempt(engine: Engine, database: Path) -> None:
    """A step and its task take the status of the current attempt, and lose the reason of an earlier status."""
    run = await engine.create_run("r")
    await run.log_step("train", spec=TaskSpec())

    async def statuses() -> tuple[str, str | None, str]:
        step = await run.step("train")
        with contextlib.closing(sqlite3.connect(database)) as connection:
            (task,) = connection.execute("SELECT status FROM tasks WHERE task_id = 'train'").fetchone()
        return step.status, step.status_reason, task

    await run.set_step_status("train", "PAUSED", "a holiday")
    assert await statuses() == ("PAUSED", "a holiday", "PAUSED")
    attempt = await run.start_attempt("train")
    assert await statuses() == ("RUNNING", None, "RUNNING")
    await run.set_step_status("train", "PAUSED", "a holiday")
    await attempt.finish("COMPLETED")
    assert await statuses() == ("COMPLETED", None, "COMPLETED")


async def test_a_reason_belongs_to_the_status_it_was_given_for(engine: Engine) -> None:
    """A status may be set again with another reason, which stays until the step is logged with another status."""
    run = await engine.create_run("r")
    await run.log_step("train")
    await run.set_step_status("train", "PAUSED", "no reason")
    await run.set_step_status("train", "PAUSED", "a holiday")
    await run.log_step("train", message="waits")
    assert (await run.step("train")).status_reason == "a holiday"
    await run.log_step("train", status="RUNNING", message="goes on")
    assert (await run.step("train")).status_reason is None


async def test_a_step_that_becomes_a_task_keeps_its_current_attempt(engine: Engine, database: Path) -> None:
    """A step that gets a spec after its first attempt has that attempt as `current_attempt_id` in the `tasks` view."""
    run = await engine.create_run("late")
    attempt = await run.start_attempt("train")
    await run.log_step("train", status="RUNNING", spec=TaskSpec(command="python train.py"))
    with contextlib.closing(sqlite3.connect(database)) as connection:
        (current,) = connection.execute("SELECT current_attempt_id FROM tasks").fetchone()
    assert current == attempt.attempt_id
    assert await engine.verify_views() == []


async def test_an_attempt_that_was_started_before_says_so(engine: Engine) -> None:
    """Starting under the key of an ended attempt gives that attempt, marked as a duplicate and unchanged."""
    run = await engine.create_run("r")
    first = await run.start_attempt("s", idempotency_key="k")
    assert not first.duplicate
    await first.finish("FAILED")
    async with run.attempt("s", idempotency_key="k") as again:
        assert again.duplicate
    assert [each.status for each in await run.attempts("s")] == ["FAILED"]
    assert not (await run.find_attempt(again.attempt_id)).duplicate


async def test_an_attempt_ends_with_what_it_made(engine: Engine) -> None:
    """`finish` records the end and the outputs, metrics and message of an attempt as one event."""
    run = await engine.create_run("r")
    async with run.attempt("s") as attempt:
        recorded = await attempt.finish(outputs={"rows": 7}, metrics={"loss": 0.5}, message="done")
    assert len(recorded.events) == 1
    log = await attempt.log()
    assert (log.status, log.message, log.outputs["rows"].value, log.metrics["loss"].value) == (
        "COMPLETED",
        "done",
        7,
        0.5,
    )
    with pytest.raises(InvalidValue, match="is not one of the fields"):
        await attempt.finish(output={"rows": 7})  # type: ignore[call-arg]


async def test_an_attempt_ends_when_its_caller_says(engine: Engine) -> None:
    """`finish` takes the times that a scheduler reports for an attempt, and records them as given."""
    run = await engine.create_run("r")
    attempt = await run.start_attempt("s")
    await attempt.finish("FAILED", "walltime exceeded", submitted_at=NOON, ended_at=NOON)
    log = await attempt.log()
    assert (log.status, log.submitted_at, log.ended_at) == ("FAILED", NOON, NOON)


@pytest.mark.parametrize("raised", [None, LookupError()])
async def test_an_attempt_that_is_taken_up_again_in_its_block_ends_with_it(
    engine: Engine, raised: LookupError | None
) -> None:
    """An attempt that its block ended and set to RUNNING again ends with the block, as COMPLETED or FAILED."""
    run = await engine.create_run("r")
    with contextlib.suppress(LookupError):
        async with run.attempt("s") as attempt:
            await attempt.update(status="FAILED", status_reason="node lost")
            await attempt.update(status="RUNNING")
            if raised is not None:
                raise raised
    assert [each.status for each in await run.attempts("s")] == ["COMPLETED" if raised is None else "FAILED"]
