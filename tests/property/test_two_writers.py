"""Two engines that write to one file in turns: what each remembers of rows is never older than what the other wrote."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typing_extensions import override

from engine import Branch, Engine, open_engine
from engine.model import TaskSpec
from projections import table
from tests.property.histories import HISTORIES, Growing, Move

QUICK = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
MANY = settings(QUICK, max_examples=400)

TURNS = st.lists(st.sampled_from([0, 1]), min_size=40, max_size=40)
CACHED_ROWS = st.sampled_from([1, 4, 4000])
STREAM_ROWS = st.sampled_from([0, 1, 256])


class TakingTurns(Growing):
    """A store that grows by the moves of two engines; what one has opened, the other goes on with."""

    @override
    def _at(self, move: Move) -> Branch:
        branch = super()._at(move)
        return Branch(self.engine._writer, self.engine.views, branch.run_id, branch.name)

    @override
    async def status(self, move: Move) -> None:
        """Also change a step that both engines know, and now and then make the views anew."""
        branch = self._at(move)
        await super().status(move)
        await branch.log_step("train", message=f"{move.choice}", spec=TaskSpec(command="fit") if move.values else None)
        if move.choice % 3 == 0:
            await branch.remove_step("train")
        if move.choice % 5 == 0:
            await self.engine.rebuild()


async def check(moves: Sequence[Move], turns: Sequence[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.db"
        async with open_engine(path, durability="relaxed") as one, open_engine(path, durability="relaxed") as other:
            growing = TakingTurns(one)
            for move, turn in zip(moves, turns, strict=False):
                growing.engine = (one, other)[turn]
                await growing.grow([move])
            for engine in (one, other):
                await growing_goes_on(growing, engine)
                assert await engine.verify_views() == []
                assert (await engine.verify()).problems == []


async def growing_goes_on(growing: Growing, engine: Engine) -> None:
    """Write to every branch: what is remembered of it is put to use."""
    for branch in growing.branches:
        handle = Branch(engine._writer, engine.views, branch.run_id, branch.name)
        async with handle.attempt("train"):
            await handle.set_status("RUNNING", "again")


@QUICK
@given(HISTORIES, TURNS, CACHED_ROWS, STREAM_ROWS)
def test_two_writers_leave_the_views_and_the_history_whole(
    moves: list[Move], turns: list[int], cached: int, of_stream: int
) -> None:
    """Whoever wrote, erased, deleted or rebuilt last, and however little fits in memory."""
    with patch.object(table, "_CACHED_ROWS_MAX", cached), patch.object(table, "_STREAM_ROWS_MAX", of_stream):
        asyncio.run(check(moves, turns))


@pytest.mark.slow
@MANY
@given(HISTORIES, TURNS, CACHED_ROWS, STREAM_ROWS)
def test_many_histories_of_two_writers(moves: list[Move], turns: list[int], cached: int, of_stream: int) -> None:
    """The same, over many more histories."""
    with patch.object(table, "_CACHED_ROWS_MAX", cached), patch.object(table, "_STREAM_ROWS_MAX", of_stream):
        asyncio.run(check(moves, turns))
