"""A log or views with lost rows: whatever depends on them raises a named error and records nothing."""

import contextlib
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from engine import Run, open_engine
from engine.commands import Record
from engine.errors import EventOutOfPlace, RunNotFound
from engine.events import BranchStatusChanged, ExternalRunRegistered, ExternalRunUpdated

LOST_EVENTS = {
    "RunCreated": "a branch",
    "BranchForked": "a branch",
    "StepLogged": "a step",
    "AttemptCreated": "an attempt",
    "ExternalRunRegistered": "an external run",
}
"""What the error calls missing when the events of one type are lost."""

CHANGES: dict[str, Callable[[Run], Awaitable[Any]]] = {
    "DELETE FROM branches": lambda run: run.set_status("COMPLETED"),
    "DELETE FROM runs WHERE run_id = 'r'": lambda run: run.configure({"a": 1}),
    "DELETE FROM runs": lambda run: run.log_job({"a": 1}),
}


async def _record(database: Path) -> None:
    async with open_engine(database) as engine:
        run = await engine.create_run("r")
        await run.set_status("RUNNING")
        branch = await run.fork("fit")
        await branch.set_status("RUNNING")
        async with branch.attempt("train", operator_key="local") as attempt:
            await attempt.update(external_id="7")
        told: dict[str, Any] = {"branch": "fit", "task_id": "t", "status": "RUNNING"}
        await engine.write(
            run.run_id, Record(branch="fit", events=(ExternalRunRegistered(operator_type="hpc", **told),))
        )
        await engine.write("r", Record(branch="fit", events=(ExternalRunUpdated(**told),)))


def _sql(database: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        assert connection.execute(statement).rowcount > 0


@pytest.mark.parametrize("lost", LOST_EVENTS)
async def test_events_that_follow_on_a_lost_one_are_named(database: Path, lost: str) -> None:
    """`rebuild` and `verify_views` raise EventOutOfPlace, which names what is lost, and the views stay unchanged."""
    await _record(database)
    _sql(database, f"DELETE FROM events WHERE event_type = '{lost}'")
    async with open_engine(database) as engine:
        run = await engine.run("r")
        before = await run.compile()
        for fold in (engine.rebuild, engine.verify_views):
            with pytest.raises(EventOutOfPlace) as caught:
                await fold()
            assert caught.value.missing == LOST_EVENTS[lost]
            assert caught.value.position > 1
        assert await run.compile() == before


async def test_events_of_a_lost_branch_are_named(database: Path) -> None:
    """`rebuild` of a log without a branch's stream raises EventOutOfPlace at that branch's first event."""
    await _record(database)
    _sql(database, "DELETE FROM streams WHERE branch = 'fit'")
    async with open_engine(database) as engine:
        with pytest.raises(EventOutOfPlace, match="'BranchForked' at position 3 is about a branch that does not exist"):
            await engine.rebuild()


@pytest.mark.parametrize("statement", CHANGES)
async def test_what_would_change_a_lost_row_is_refused(database: Path, statement: str) -> None:
    """A write that needs a lost row of a view is refused and records nothing; after a rebuild it succeeds."""
    await _record(database)
    async with open_engine(database) as engine:
        run, change = await engine.run("r"), CHANGES[statement]
        _sql(database, statement)
        last = await engine.last_position()
        with pytest.raises(EventOutOfPlace):
            await change(run)
        assert await engine.last_position() == last
        await engine.rebuild()
        await change(run)
        assert await engine.verify_views() == []


async def test_a_branch_whose_run_is_lost_takes_no_events(database: Path) -> None:
    """A write to a branch of a run whose root stream is lost raises RunNotFound."""
    await _record(database)
    _sql(database, "DELETE FROM streams WHERE branch = ''")
    async with open_engine(database) as engine:
        last = await engine.last_position()
        with pytest.raises(RunNotFound):
            await engine.write("r", Record(branch="fit", events=(BranchStatusChanged(branch="fit", status="DONE"),)))
        assert await engine.last_position() == last
