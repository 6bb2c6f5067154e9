"""Runs, branches and what is read of them, through the handles."""

import contextlib
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, open_engine
from engine.commands import LogExternalRun
from engine.errors import (
    BranchExists,
    BranchNotFound,
    ExternalRunNotFound,
    IdempotencyConflict,
    InvalidValue,
    PointNotFound,
    RunNotFound,
    TaskNotFound,
    VersionConflict,
)
from engine.events import BranchForked, ExternalRunRegistered, ExternalRunUpdated, RunFinalized
from engine.model import Origin, Parameter

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)


class TestRuns:
    async def test_a_run_is_its_own_root_branch(self, engine: Engine) -> None:
        """Both spellings of the root give the same branch."""
        run = await engine.create_run("r", parameters={"lr": 0.1})
        root = await run.branch(None)
        assert (run.name, root.name, root.run_id) == ("", "", "r")
        assert await root.parameters() == await (await run.branch("")).parameters() == {"lr": Parameter(0.1)}
        assert repr(run) == "<Run 'r' ''>"
        assert root is run

    async def test_what_a_run_is_created_with_is_its_info(self, engine: Engine) -> None:
        """Each field, as it was given."""
        fields: dict[str, Any] = {
            "tag": "nightly",
            "status": "RUNNING",
            "dag_hash": "abc",
            "original_run_id": "r0",
            "workspace_slug": "team",
            "root_path": "/data",
            "description": "a run",
            "tags": {"k": [1, None]},
            "created_at": JANUARY,
        }
        info = await (await engine.create_run("r", **fields)).info()
        assert {name: getattr(info, name) for name in fields} == fields
        assert (info.run_id, info.finalized, info.status_reason) == ("r", False, None)

    async def test_a_run_that_may_exist_is_returned_as_it_is(self, engine: Engine) -> None:
        """`exist_ok` changes nothing of it."""
        await engine.create_run("r", parameters={"x": 1}, tag="old")
        again = await engine.create_run("r", parameters={"x": 2}, tag="new", exist_ok=True)
        assert await again.parameters() == {"x": Parameter(1)}
        assert (await again.info()).tag == "old"

    async def test_a_branch_that_may_exist_is_returned_as_it_is(self, engine: Engine) -> None:
        """As `exist_ok` of a run; who asks for one of that name is not told of what it sees."""
        run = await engine.create_run("r", parameters={"x": 1})
        await (await run.fork("a", exist_ok=True)).set_parameters({"y": 2})
        await run.set_parameters({"x": 3})
        before = await engine.last_position()
        again = await run.fork("a", status="RUNNING", exist_ok=True)
        assert await again.parameters() == {"x": Parameter(1), "y": Parameter(2)}
        assert await engine.last_position() == before
        with pytest.raises(BranchExists):
            await run.fork("a")
        await run.fork("p.q")
        with pytest.raises(BranchExists):  # it sees the run's parameters, and none of p's
            await (await run.fork("p")).fork("q", exist_ok=True)
        with pytest.raises(InvalidValue, match="exist_ok"):
            await run.fork("b", exist_ok="yes")  # type: ignore[arg-type]

    async def test_configuration_is_merged_and_the_job_replaced(self, engine: Engine) -> None:
        """What differs is recorded, and nothing twice."""
        run = await engine.create_run("r")
        await run.configure({"a": 1, "b": {"c": 1}})
        await run.configure({"b": {"d": 2}})
        await run.log_job({"one": 1})
        await run.log_job({"two": 2})
        log = await run.compile()
        assert (log.config, log.job) == ({"a": 1, "b": {"d": 2}}, {"two": 2})
        assert (await run.configure({"a": 1})).events == ()
        assert (await run.log_job({"two": 2})).events == ()

    async def test_finalising_records_every_head_and_closes_nothing(self, engine: Engine) -> None:
        """The status is set with it, and the run can be written on."""
        run = await engine.create_run("r")
        branch = await run.fork("a")
        recorded = await run.finalize("COMPLETED")
        event = recorded.events[-1].event
        assert isinstance(event, RunFinalized)
        assert {head.branch: head.stream_version for head in event.heads} == {"": 2, "a": 1}
        assert event.heads[1].hash == (await branch.head()).hash
        assert (await run.info()).finalized
        await branch.set_parameters({"x": 1})

    async def test_a_status_is_recorded_when_it_changes(self, engine: Engine) -> None:
        """A reason makes it worth recording again."""
        run = await engine.create_run("r")
        assert (await run.set_status("CREATED")).events == ()
        await run.set_status("FAILED", "why")
        assert ((await run.info()).status, (await run.info()).status_reason) == ("FAILED", "why")
        assert (await run.set_status("FAILED")).events == ()
        assert len((await run.set_status("FAILED", "because")).events) == 1

    async def test_an_unknown_run_or_branch_is_named(self, engine: Engine) -> None:
        """Reading and forking what is not there are errors, each of its own type."""
        with pytest.raises(RunNotFound):
            await engine.run("nobody")
        run = await engine.create_run("r")
        with pytest.raises(BranchNotFound):
            await run.branch("nobody")
        with pytest.raises(RunNotFound):
            await engine.fork_run("nobody", run_id="new")
        with pytest.raises(BranchNotFound):
            await engine.fork_run("r", run_id="new", branch="nobody")
        for version in (0, 2, 2**70):
            with pytest.raises(PointNotFound):
                await engine.fork_run("r", run_id="new", at=version)


class TestPages:
    @pytest.fixture(autouse=True)
    async def _runs(self, engine: Engine) -> None:
        for number in range(5):
            status, tag = ("FAILED", "odd") if number % 2 else ("CREATED", "even")
            created_at = JANUARY + timedelta(days=number)
            await engine.create_run(f"r{number}", status=status, tag=tag, created_at=created_at)

    @pytest.mark.parametrize(
        ("filters", "expected"),
        [
            ({}, "43210"),
            ({"status": "FAILED"}, "31"),
            ({"tag": "even"}, "420"),
            ({"tag": "even", "status": "FAILED"}, ""),
            ({"created_from": JANUARY + timedelta(days=3)}, "43"),
            ({"created_until": JANUARY + timedelta(days=1)}, "10"),
            ({"created_from": JANUARY + timedelta(days=1), "created_until": JANUARY + timedelta(days=2)}, "21"),
            ({"status": "nobody's"}, ""),
        ],
    )
    async def test_runs_are_filtered_newest_first(self, engine: Engine, filters: dict[str, Any], expected: str) -> None:
        """Both ends of a range of times belong to it."""
        page = await engine.runs(**filters)
        assert [info.run_id for info in page.runs] == [f"r{number}" for number in expected]
        assert page.cursor is None

    @pytest.mark.parametrize("limit", [1, 2, 3, 5])
    async def test_pages_give_every_run_once(self, engine: Engine, limit: int) -> None:
        """The cursor of a page asks for the next; a run that comes in between does not move it."""
        page = await engine.runs(limit=limit)
        seen = [info.run_id for info in page.runs]
        await engine.create_run("late")
        while page.cursor is not None:
            page = await engine.runs(limit=limit, cursor=page.cursor)
            seen += [info.run_id for info in page.runs]
        assert seen == ["r4", "r3", "r2", "r1", "r0"]

    @pytest.mark.parametrize(
        "wrong",
        [
            {"limit": 0},
            {"limit": 1001},
            {"cursor": "x"},
            {"cursor": "-1"},
            {"cursor": "9" * 30},
            {"cursor": "\u0661"},
            {"created_from": datetime(2026, 1, 1)},  # noqa: DTZ001 - the case
        ],
    )
    async def test_a_wrong_page_is_refused(self, engine: Engine, wrong: dict[str, Any]) -> None:
        """The error is typed."""
        with pytest.raises(InvalidValue):
            await engine.runs(**wrong)


class TestBranches:
    async def test_a_fork_is_named_below_its_parent(self, engine: Engine) -> None:
        """Children come in the order in which they were forked."""
        run = await engine.create_run("r")
        fit = await run.fork("fit", status="RUNNING")
        inner = await fit.fork("z")
        await fit.fork("a")
        assert (inner.name, await fit.children(), await run.children()) == ("fit.z", ["fit.z", "fit.a"], ["fit"])
        log = await fit.compile()
        assert (log.status, list(log.branches)) == ("RUNNING", ["fit.z", "fit.a"])

    async def test_a_fork_records_the_head_that_it_continues(self, engine: Engine) -> None:
        """The parent's version and hash are in the event."""
        run = await engine.create_run("r", parameters={"x": 1})
        head = await run.head()
        await run.fork("a")
        (recorded,) = [each async for each in engine.events(run_id="r", types=[BranchForked])]
        assert isinstance(recorded.event, BranchForked)
        assert (recorded.event.parent_version, recorded.event.parent_hash) == (head.stream_version, head.hash)

    async def test_sources_name_who_set_what_a_branch_sees(self, engine: Engine) -> None:
        """The branch and version of the event, of another run too where the run was forked from it."""
        run = await engine.create_run("r", parameters={"x": 1, "y": 1})
        a = await run.fork("a")
        await a.set_parameters({"y": 2})
        assert await a.sources() == {"x": Origin("r", "", 2), "y": Origin("r", "a", 2)}
        new = await engine.fork_run("r", run_id="new", branch="a")
        assert await new.sources() == await a.sources()

    async def test_a_run_is_forked_as_of_a_time(self, engine: Engine) -> None:
        """As it stood then: what was recorded later is not seen."""
        run = await engine.create_run("r", parameters={"x": 1})
        then = [recorded.recorded_at async for recorded in engine.events()][-1]
        while (await run.set_parameters({"x": 2})).events[0].recorded_at == then:
            pass
        new = await engine.fork_run("r", run_id="new", at=then)
        assert (await new.parameters())["x"] == Parameter(1)
        with pytest.raises(InvalidValue):
            await engine.fork_run("r", run_id="newer", at=True)

    async def test_a_description_is_kept_with_the_branch(self, engine: Engine) -> None:
        """The same again records nothing."""
        branch = await (await engine.create_run("r")).fork("a")
        await branch.describe({"k": [1]})
        assert (await branch.describe({"k": [1]})).events == ()
        assert (await branch.compile()).details == {"k": [1]}

    async def test_isolation(self, engine: Engine) -> None:
        """Neither its parent nor its sibling sees what a branch writes, and it does not see what they write."""
        run = await engine.create_run("r")
        a, b = await run.fork("a"), await run.fork("b")
        await a.set_parameters({"x": 1})
        await run.set_parameters({"x": 2})
        assert await b.parameters() == {}
        assert (await a.parameters(), await run.parameters()) == ({"x": Parameter(1)}, {"x": Parameter(2)})

    async def test_setting_no_parameters_records_nothing(self, engine: Engine) -> None:
        """Setting no parameters succeeds and records no event; the guard and the key of the call hold all the same."""
        run = await engine.create_run("r")
        head = await run.head()
        recorded = await run.set_parameters({}, idempotency_key="k")
        assert (recorded.events, recorded.stream_version) == ((), 1)
        assert (await run.set_parameters({}, idempotency_key="k")).duplicate
        with pytest.raises(IdempotencyConflict):
            await run.set_parameters({"x": 1}, idempotency_key="k")
        with pytest.raises(VersionConflict):
            await run.set_parameters({}, expected_version=7)
        assert await run.head() == head

    async def test_a_time_before_the_stream_is_no_point_of_it(self, engine: Engine) -> None:
        """The error carries the point and the last version."""
        run = await engine.create_run("r")
        with pytest.raises(PointNotFound) as caught:
            await run.parameters(at=JANUARY)
        assert (caught.value.point, caught.value.head_version) == (JANUARY, 1)

    async def test_external_runs_belong_to_steps(self, engine: Engine, database: Path) -> None:
        """One for a task; without the step, or before it is registered, there is none."""
        run = await engine.create_run("r")
        with pytest.raises(TaskNotFound):
            await run.write(
                LogExternalRun(
                    event=ExternalRunRegistered(branch="", task_id="t", operator_type="HPC", status="RUNNING")
                )
            )
        await run.log_step("t")
        with pytest.raises(ExternalRunNotFound):
            await run.write(LogExternalRun(event=ExternalRunUpdated(branch="", task_id="t", status="COMPLETED")))
        await run.write(
            LogExternalRun(
                event=ExternalRunRegistered(
                    branch="", task_id="t", operator_type="HPC", status="RUNNING", external_id="7"
                )
            )
        )
        await run.write(
            LogExternalRun(event=ExternalRunUpdated(branch="", task_id="t", status="COMPLETED", operator_data={"a": 1}))
        )
        with contextlib.closing(sqlite3.connect(database)) as connection:
            rows = connection.execute(
                "SELECT task_id, status, external_id, operator_data FROM external_runs"
            ).fetchall()
        assert rows == [("t", "COMPLETED", None, '{"a":1}')]
        assert await engine.verify_views() == []


class TestOpening:
    @pytest.mark.parametrize("as_url", [str, lambda path: f"sqlite:///{path}"])
    async def test_a_path_or_a_url(self, database: Path, as_url: Callable[[Path], str]) -> None:
        """Both name the same file; an engine may be awaited and closed, too."""
        engine = await open_engine(as_url(database))
        await engine.create_run("r")
        await engine.close()
        assert database.exists()

    @pytest.mark.parametrize("url", ["postgresql://host/db", "sqlite://host/db", "sqlite://", "sqlite:///"])
    def test_another_url_is_refused(self, url: str) -> None:
        """Nothing is opened by guessing."""
        with pytest.raises(InvalidValue, match="is not a URL like sqlite:///"):
            _ = open_engine(url)

    def test_another_durability_is_refused(self) -> None:
        """The choice is between two."""
        with pytest.raises(InvalidValue, match="durability"):
            _ = open_engine("runs.db", durability="none")  # type: ignore[arg-type]

    async def test_events_are_filtered_by_class_or_name(self, engine: Engine) -> None:
        """A name that is no event's is refused, and so is a branch without its run."""
        await (await engine.create_run("r")).fork("a")
        for types in ([BranchForked], ["BranchForked"]):
            assert [each.branch async for each in engine.events(types=types)] == ["a"]
        with pytest.raises(InvalidValue, match="types"):
            await anext(engine.events(types=["Nothing"]))
        with pytest.raises(InvalidValue, match="without its run_id"):
            await anext(engine.events(branch="a"))
