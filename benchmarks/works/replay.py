"""W5: the state of a run at a point in its middle, folded from its events, beside decoding these events alone."""

import asyncio
import sqlite3
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from benchmarks.growing import write_run
from benchmarks.operations import PAIR
from benchmarks.peers.registry import ANABRANCH
from benchmarks.results import Measured
from benchmarks.scale import Scale
from benchmarks.works.work import Column, Work
from engine import Engine, Position, open_engine
from engine.codec import decode_event
from engine.model import RunLog

FLOOR: Final = "floor: decode"
MICROSECONDS_PER_EVENT: Final = "us_per_event"

_FILE_NAME: Final = "replay.db"
_RUN_ID: Final = "replayed"
_BRANCHES: Final = 4
_EVENTS_OF_A_PAIR: Final = 6  # an estimate: it affects only the size of the run
_TURNS: Final = 5


def prepare(folder: Path, scale: Scale) -> None:
    """Record a run whose events have consecutive positions."""
    asyncio.run(_record(folder / _FILE_NAME, scale.replayed_events))


async def _record(path: Path, events: int) -> None:
    async with open_engine(path, durability="relaxed") as engine:
        await write_run(engine, _RUN_ID, _BRANCHES, max(1, events // _BRANCHES // _EVENTS_OF_A_PAIR) * PAIR)


def measure(participant: str, folder: Path, scale: Scale) -> Measured:
    """Fold the first half of the events, or decode them."""
    del scale
    path = folder / _FILE_NAME
    return _measure_floor(path) if participant == FLOOR else asyncio.run(_measure_replay(path))


async def _measure_replay(path: Path) -> Measured:
    async with open_engine(path) as engine:
        run = await engine.run(_RUN_ID)
        middle = await engine.last_position() // 2
        seconds = []
        for _ in range(_TURNS):
            began = time.perf_counter()
            await run.compile(at=Position(middle))
            seconds.append(time.perf_counter() - began)
        log = await run.compile(at=Position(middle))
        missing = await _count_events_of_steps(engine, middle) - _steps(log)
    return Measured(figures=_figures(seconds, middle), missing=missing)


async def _count_events_of_steps(engine: Engine, until: int) -> int:
    return len([1 async for _ in engine.events(run_id=_RUN_ID, types=["StepLogged"], until=until)])


def _steps(log: RunLog) -> int:
    return sum(len(branch.steps) for branch in log.branches.values())


def _measure_floor(path: Path) -> Measured:
    with closing(sqlite3.connect(path)) as connection:
        middle = connection.execute("SELECT max(position) FROM events").fetchone()[0] // 2
        select = "SELECT event_type, schema_version, payload FROM events WHERE position <= ? ORDER BY position"

        def decode() -> None:
            for event in connection.execute(select, (middle,)).fetchall():
                decode_event(*event)

        return Measured(figures=_figures([_timed(decode) for _ in range(_TURNS)], middle))


def _timed(job: Callable[[], None]) -> float:
    began = time.perf_counter()
    job()
    return time.perf_counter() - began


def _figures(seconds: list[float], events: int) -> dict[str, float]:
    return {MICROSECONDS_PER_EVENT: statistics.median(seconds) * 1e6 / events}


WORK: Final = Work(
    name="W5",
    title="state at a point",
    participants=lambda _: (ANABRANCH, FLOOR),
    columns=lambda _: (Column(MICROSECONDS_PER_EVENT, "µs/event", 1),),
    measure=measure,
    prepare=prepare,
)
