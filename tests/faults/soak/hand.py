"""A hand makes one move after another, notes each before and after, and resumes where a kill interrupted it."""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from engine import Engine
from engine.errors import (
    AnabranchError,
    ReadOvertaken,
    RebuildRunning,
    ReductionImpossible,
    RunHasForks,
    RunNotFound,
)
from tests.faults.soak.journal import Asked, Done, Journal, Move, Refused, noted

MAY_BE_REFUSED: Final = (RunNotFound, RunHasForks, ReductionImpossible, RebuildRunning, ReadOvertaken)
"""The errors that other workers' moves, or erased values, may cause. Any other error ends the soak."""


class Hand:
    """One sequence of moves; `next_key` is the key of the next one."""

    def __init__(self, folder: Path, name: str, pause_seconds: float) -> None:
        self.name = name
        self.journal = Journal(folder / f"{name}.journal")
        self.chance = random.Random(f"{name} {self.journal.after}")
        self._pause_seconds = pause_seconds

    @property
    def next_key(self) -> str:
        return f"{self.name} {self.journal.number + 1}"

    async def work(self, engine: Engine, turn: Callable[[], Awaitable[None]], over: asyncio.Event) -> None:
        """Repeat the move that was interrupted, then take turns until `over` is set."""
        if self.journal.unanswered is not None:
            await self._make(engine, self.journal.unanswered, again=True)
            self.journal.unanswered = None
        while not over.is_set():
            with contextlib.suppress(ReadOvertaken):  # while the turn chose its move
                await turn()
            # Hosts pause, too: the soak tests duration, not load.
            await asyncio.sleep(self.chance.expovariate(1 / self._pause_seconds))

    async def make(self, engine: Engine, move: Move) -> bool:
        """Make a move; return whether it was made, not refused."""
        return await self._make(engine, self.journal.ask(move), again=False)

    async def _make(self, engine: Engine, asked: Asked, *, again: bool) -> bool:
        begun = time.perf_counter()
        try:
            recorded = await asked.move.perform(engine, key(self.name, asked), asked.after)
        except MAY_BE_REFUSED as error:
            self.journal.answer(Refused(asked.number, asked.after, type(error).__name__, again))
            return False
        except AnabranchError as error:
            error.add_note(f"{self.name} made {asked}")
            raise
        events = [noted(each) for each in recorded]
        after = max([asked.after, *(each.position for each in events)])
        self.journal.answer(Done(asked.number, after, events, round(time.perf_counter() - begun, 4), again))
        return True


def key(hand: str, asked: Asked) -> str:
    """Return the key of a move."""
    return f"{hand} {asked.number}"
