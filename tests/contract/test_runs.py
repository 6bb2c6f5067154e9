"""Runs and branches, and reads of them, through the handles."""

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
        """A run is its own root branch, which both None and "" name."""
        run = await engine.create_run("r", parameters={"lr": 0.1})
        root = await run.branch(None)
        assert (run.name, root.name, root.run_id) == ("", "", "r")
        assert await root.parameters() == await (await run.branch("")).parameters() == {"lr": Parameter(0.1)}
        assert repr(run) == "<Run 'r' ''>"
        assert root is run

    async def test_what_a_run_is_created_with_is_its_info(self, engine: Engine) -> None:
        """`info` returns every field that a run was created with."""
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

    async def test_the_time_of_the_last_status_change_is_its_info(self, engine: Engine) -> None:
        """`status_changed_at` is None for the initial status, then the time at which the last change was recorded."""
        run = await engine.create_run("r", status="RUNNING")
        assert (await run.info()).status_changed_at is None
        for status in ("FAILED", "COMPLETED"):
            (changed,) = (await run.set_status(status)).events
            await run.set_parameters({"x": status})
            assert (await run.info()).status_changed_at == changed.recorded_at

    async def test_a_run_that_may_exist_is_returned_as_it_is(self, engine: Engine) -> None:
        """`create_run` with `exist_ok` returns an existing run unchanged."""
        await engine.create_run("r", parameters={"x": 1}, tag="old")
        again = await engine.create_run("r", parameters={"x": 2}, tag="new", exist_ok=True)
        assert await again.parameters() == {"x": Parameter(1)}
        assert (await again.info()).tag == "old"

    async def test_a_branch_that_may_exist_is_returned_as_it_is(self, engine: Engine) -> None:
        """`fork` with `exist_ok` returns an existing branch unchanged, unless it was forked from another parent."""
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
        with pytest.raises(BranchExists):  # `p.q` was forked from the root, not from `p`
            await (await run.fork("p")).fork("q", exist_ok=True)
        with pytest.raises(InvalidValue, match="exist_ok"):
            await run.fork("b", exist_ok="yes")  # type: ignore[arg-type]

    async def test_configuration_is_merged_and_the_job_replaced(self, engine: Engine) -> None:
        """`configure` merges, `log_job` replaces, and neither records what is already so."""
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
        """`finalize` records the status and every branch's head, and the run can still be written to."""
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
        """`set_status` records a change of the status or a new reason, and nothing otherwise."""
        run = await engine.create_run("r")
        assert (await run.set_status("CREATED")).events == ()
        await run.set_status("FAILED", "why")
        assert ((await run.info()).status, (await run.info()).status_reason) == ("FAILED", "why")
        assert (await run.set_status("FAILED")).events == ()
        assert len((await run.set_status("FAILED", "because")).events) == 1

    async def test_an_unknown_run_or_branch_is_named(self, engine: Engine) -> None:
        """Reading or forking an unknown run, branch or version raises the error of its kind."""
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
        """`runs` filters by status, tag and an inclusive range of creation times, and lists the newest run first."""
        page = await engine.runs(**filters)
        assert [info.run_id for info in page.runs] == [f"r{number}" for number in expected]
        assert page.cursor is None

    @pytest.mark.parametrize("limit", [1, 2, 3, 5])
    async def test_pages_give_every_run_once(self, engine: Engine, limit: int) -> None:
        """Following the cursors lists every run once, even if a run is created in between."""
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
        """An invalid limit, cursor or time raises InvalidValue."""
        with pytest.raises(InvalidValue):
            await engine.runs(**wrong)


class TestBranches:
    async def test_a_fork_is_named_below_its_parent(self, engine: Engine) -> None:
        """A fork's name is prefixed with its parent's, and children are listed in the order of forking."""
        run = await engine.create_run("r")
        fit = await run.fork("fit", status="RUNNING")
        inner = await fit.fork("z")
        await fit.fork("a")
        assert (inner.name, await fit.children(), await run.children()) == ("fit.z", ["fit.z", "fit.a"], ["fit"])
        log = await fit.compile()
        assert (log.status, list(log.branches)) == ("RUNNING", ["fit.z", "fit.a"])

    async def test_a_fork_records_the_head_that_it_continues(self, engine: Engine) -> None:
        """`BranchForked` records the parent's version and hash."""
        run = await engine.create_run("r", parameters={"x": 1})
        head = await run.head()
        await run.fork("a")
        (recorded,) = [each async for each in engine.events(run_id="r", types=[BranchForked])]
        assert isinstance(recorded.event, BranchForked)
        assert (recorded.event.parent_version, recorded.event.parent_hash) == (head.stream_version, head.hash)

    async def test_sources_name_who_set_what_a_branch_sees(self, engine: Engine) -> None:
        """`sources` gives the run, branch and version of the event that set each visible parameter."""
        run = await engine.create_run("r", parameters={"x": 1, "y": 1})
        a = await run.fork("a")
        await a.set_parameters({"y": 2})
        assert await a.sources() == {"x": Origin("r", "", 2), "y": Origin("r", "a", 2)}
        new = await engine.fork_run("r", run_id="new", branch="a")
        assert await new.sources() == await a.sources()

    async def test_a_run_is_forked_as_of_a_time(self, engine: Engine) -> None:
        """A run forked at a time has the parameters as of then; `at=True` raises InvalidValue."""
        run = await engine.create_run("r", parameters={"x": 1})
        then = [recorded.recorded_at async for recorded in engine.events()][-1]
        while (await run.set_parameters({"x": 2})).events[0].recorded_at == then:
            pass
        new = await engine.fork_run("r", run_id="new", at=then)
        assert (await new.parameters())["x"] == Parameter(1)
        with pytest.raises(InvalidValue):
            await engine.fork_run("r", run_id="newer", at=True)

    async def test_a_description_is_kept_with_the_branch(self, engine: Engine) -> None:
        """`describe` sets a branch's details, and repeating them records nothing."""
        branch = await (await engine.create_run("r")).fork("a")
        await branch.describe({"k": [1]})
        assert (await branch.describe({"k": [1]})).events == ()
        assert (await branch.compile()).details == {"k": [1]}

    async def test_isolation(self, engine: Engine) -> None:
        """A branch sees neither its sibling's nor its parent's later writes, and they do not see its own."""
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
        """A read at a time before the run raises PointNotFound with the point and the head version."""
        run = await engine.create_run("r")
        with pytest.raises(PointNotFound) as caught:
            await run.parameters(at=JANUARY)
        assert (caught.value.point, caught.value.head_version) == (JANUARY, 1)

    async def test_external_runs_belong_to_steps(self, engine: Engine, database: Path) -> None:
        """An external run needs its task to be registered, and needs to be registered to be updated."""
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
        """An engine opens a path or a sqlite URL, and may be awaited and closed instead of used in a block."""
        engine = await open_engine(as_url(database))
        await engine.create_run("r")
        await engine.close()
        assert database.exists()

    @pytest.mark.parametrize("url", ["postgresql://host/db", "sqlite://host/db", "sqlite://", "sqlite:///"])
    def test_another_url_is_refused(self, url: str) -> None:
        """A URL of another scheme or form raises InvalidValue."""
        with pytest.raises(InvalidValue, match="is not a URL like sqlite:///"):
            _ = open_engine(url)

    def test_another_durability_is_refused(self) -> None:
        """An unknown durability raises InvalidValue."""
        with pytest.raises(InvalidValue, match="durability"):
            _ = open_engine("runs.db", durability="none")  # type: ignore[arg-type]

    async def test_events_are_filtered_by_class_or_name(self, engine: Engine) -> None:
        """`events` filters by event class or name, and refuses an unknown type and a branch without its run id."""
        await (await engine.create_run("r")).fork("a")
        for types in ([BranchForked], ["BranchForked"]):
            assert [each.branch async for each in engine.events(types=types)] == ["a"]
        with pytest.raises(InvalidValue, match="types"):
            await anext(engine.events(types=["Nothing"]))
        with pytest.raises(InvalidValue, match="needs a run_id"):
            await anext(engine.events(branch="a"))
