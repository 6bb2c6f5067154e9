"""Verification of a store that grows, erases and deletes between any two of its reads raises no false alarm."""

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import open_engine
from engine.errors import RunNotFound
from engine.logs import sqlite_audit
from engine.logs.readers import Readers
from tests.property.histories import HISTORIES, Growing, Move

QUICK = settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow])
MANY = settings(QUICK, max_examples=150)


class Interleaved:
    """Readers that make one move on the store before each job."""

    def __init__(self, readers: Readers, growing: Growing, moves: Sequence[Move]) -> None:
        self.readers = readers
        self.growing = growing
        self.moves = list(moves)

    async def run(self, job: Callable[..., Any]) -> Any:
        if self.moves:
            await self.growing.grow([self.moves.pop()])
        return await self.readers.run(job)


async def check(before: Sequence[Move], meanwhile: Sequence[Move]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with open_engine(Path(folder) / "runs.db", durability="relaxed") as engine:
            growing = Growing(engine)
            await growing.grow(before)
            checkpoint = await engine.checkpoint()
            runs = [info.run_id for info in (await engine.runs()).runs]
            audit: Any = engine._audit
            audit._readers = Interleaved(audit._readers, growing, meanwhile)
            whole = await engine.verify(since=checkpoint)
            # A run deleted since is rightly reported; if it had grown before, its checkpoint cannot be proven.
            deleted = {problem.run_id for problem in whole.problems}
            assert deleted <= set(whole.deleted), whole.problems
            assert {problem.kind for problem in whole.problems} <= {"checkpoint", "deleted"}
            for run_id in runs:
                with suppress(RunNotFound):
                    assert (await engine.verify(run_id)).problems == []


@QUICK
@given(HISTORIES, HISTORIES, st.integers(1, 7))
def test_writing_meanwhile_is_no_tampering(before: list[Move], meanwhile: list[Move], chunk: int) -> None:
    """Whatever is recorded, erased or deleted between two reads of a verification, it reports nothing but deletions."""
    with patch.object(sqlite_audit, "CHUNK_EVENTS", chunk), patch.object(sqlite_audit, "CHUNK_RUNS", 2):
        asyncio.run(check(before, meanwhile))


@pytest.mark.slow
@MANY
@given(HISTORIES, HISTORIES, st.integers(1, 7))
def test_much_writing_meanwhile(before: list[Move], meanwhile: list[Move], chunk: int) -> None:
    """In many more histories, a verification interleaved with writes reports nothing but deletions."""
    with patch.object(sqlite_audit, "CHUNK_EVENTS", chunk), patch.object(sqlite_audit, "CHUNK_RUNS", 2):
        asyncio.run(check(before, meanwhile))
