"""Two engines that write to one file in turns: neither keeps rows in memory that the other has made stale."""

import asyncio
import io
import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs
from typing_extensions import override

from engine import Branch, Engine, open_engine
from engine.logs import sqlite_append, sqlite_heads
from engine.logs.sqlite import SqliteEventLog
from engine.model import TaskSpec
from projections import table
from projections.partitions import Partitions
from projections.state import StateViews
from tests.property.histories import HISTORIES, Growing, Move

QUICK = settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow])
MANY = settings(QUICK, max_examples=200)

TURNS = st.lists(st.sampled_from([0, 1]), min_size=40, max_size=40)
LIMITS = st.fixed_dictionaries(
    {
        (table, "_CACHED_ROWS_MAX"): st.sampled_from([1, 4, 4000]),
        (table, "_STREAM_ROWS_MAX"): st.sampled_from([0, 1, 256]),
        (sqlite_heads, "_STREAMS_CACHED_MAX"): st.sampled_from([1, 50_000]),
        (sqlite_append, "_CAUGHT_UP_EVENTS_MAX"): st.sampled_from([2, 10_000]),
    }
)
"""Limits on what an engine caches, and on how many foreign events it catches up with before it drops its caches."""


class TakingTurns(Growing):
    """A store that grows by the moves of two engines, each of which continues what the other opened."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.forked: set[str] = set()

    @override
    def _at(self, move: Move) -> Branch:
        return on(self.engine, super()._at(move))

    @override
    async def status(self, move: Move) -> None:
        """Also log a step and set a status under a repeated key; sometimes remove the step, rebuild or compact."""
        branch = self._at(move)
        await super().status(move)
        await branch.log_step("train", message=f"{move.choice}", spec=TaskSpec(command="fit") if move.values else None)
        await branch.set_status("PAUSED", idempotency_key=f"pause {branch.name}")
        if move.choice % 3 == 0:
            await branch.remove_step("train")
        if move.choice % 5 == 0:
            await self.engine.rebuild()
        if move.choice % 7 == 0:
            await self.engine.compact()

    @override
    async def delete(self, move: Move) -> None:
        """Sometimes import the deleted run again, which gives its streams new ids."""
        run_id = self._at(move).run_id
        exported = b"".join([piece async for piece in self.engine.export_runs([run_id])])
        stands_alone = run_id not in self.forked
        names = [branch.name for branch in self.branches if branch.run_id == run_id]
        await super().delete(move)
        if move.choice % 3 == 0 and stands_alone and all(branch.run_id != run_id for branch in self.branches):
            await self.engine.import_runs(io.BytesIO(exported))
            run = await self.engine.run(run_id)
            self.branches += [await run.branch(name) if name else run for name in names]

    @override
    async def fork_run(self, move: Move) -> None:
        await super().fork_run(move)
        self.forked.add(self.branches[-1].run_id)


def on(engine: Engine, branch: Branch) -> Branch:
    """Return a handle of the same branch on the given engine."""
    return Branch(engine._writer, engine.views, branch.run_id, branch.name)


async def check(moves: Sequence[Move], turns: Sequence[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.db"
        async with open_engine(path, durability="relaxed") as one, open_engine(path, durability="relaxed") as other:
            growing = TakingTurns(one)
            for move, turn in zip(moves, turns, strict=False):
                growing.engine = (one, other)[turn]
                await growing.grow([move])
                if move.kind in {"erase", "delete"}:  # later moves would soon make it drop its caches
                    assert await remembered((other, one)[turn]) == []
            await asyncio.gather(*[go_on(on(engine, each)) for each in growing.branches for engine in (one, other)])
            for engine in (one, other):
                assert await remembered(engine) == []
                assert await engine.verify_views() == []
                assert (await engine.verify()).problems == []
            assert await compiled(one) == await compiled(other)


async def go_on(branch: Branch) -> None:
    """Write to a branch while others do, which uses the cached rows."""
    async with branch.attempt("train"):
        await branch.set_status("RUNNING", "again")


async def compiled(engine: Engine) -> list[Any]:
    return [await (await engine.run(each.run_id)).compile() for each in await engine.runs()]


async def remembered(engine: Engine) -> list[str]:
    """Return the rows in memory that differ from the file."""
    log = cast("SqliteEventLog", engine._log)
    partitions, views = cast("tuple[Partitions, StateViews]", log.appender.projectors.all)
    tables = (partitions.branches, partitions.steps, views.runs, views.tasks, views.attempts, views.external_runs)

    def compare(connection: sqlite3.Connection) -> list[str]:
        connection.execute("BEGIN IMMEDIATE")
        log.appender.record(())  # records nothing, but drops stale rows
        found = [problem for each in tables for problem in old_rows(connection, each)]
        connection.execute("COMMIT")
        return found

    return await log.exclusively(compare)


def old_rows(connection: sqlite3.Connection, rows: "table.Table[Any]") -> list[str]:
    found = []
    for key, row in rows._rows.items():
        there = connection.execute(f"{rows._select} WHERE {rows._where}", key).fetchone()
        if there != structs.astuple(row):
            found.append(f"{rows.name} {key}: {row}, not {there}")
    for stream_id in rows._complete_streams:
        count = connection.execute(f"SELECT count(*) FROM {rows.name} WHERE stream_id = ?", (stream_id,)).fetchone()[0]
        if count != sum(key[0] == stream_id for key in rows._rows):
            found.append(f"{rows.name} of stream {stream_id}: not all {count}")
    return found


def run_with(limits: dict[Any, int], moves: list[Move], turns: list[int]) -> None:
    patches = [patch.object(module, name, limit) for (module, name), limit in limits.items()]
    for each in patches:
        each.start()
    try:
        asyncio.run(check(moves, turns))
    finally:
        for each in patches:
            each.stop()


@QUICK
@given(HISTORIES, TURNS, LIMITS)
def test_two_writers_leave_the_views_and_the_history_whole(
    moves: list[Move], turns: list[int], limits: dict[Any, int]
) -> None:
    """Two engines that write, erase, delete, import and rebuild in turns leave no stale rows in memory, whatever the
    cache sizes; the views and the history verify.
    """
    run_with(limits, moves, turns)


@pytest.mark.slow
@MANY
@given(HISTORIES, TURNS, LIMITS)
def test_many_histories_of_two_writers(moves: list[Move], turns: list[int], limits: dict[Any, int]) -> None:
    """In many more histories, two engines that write in turns leave no stale rows; the views and the history verify."""
    run_with(limits, moves, turns)
