"""W9: how long after a write has returned a subscriber receives its event, in the same process and in another."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from benchmarks.isolation import in_fresh_processes, meet
from benchmarks.operations import values_at
from benchmarks.peers.anabranch import FILE_NAME, RUN_ID, Anabranch
from benchmarks.results import Measured, latencies_ms
from benchmarks.scale import Scale
from benchmarks.works.parallel_writes import LATENCIES
from benchmarks.works.work import Work
from engine import Engine, open_engine
from engine.events import ParametersSet

SAME_PROCESS: Final = "same process"
OTHER_PROCESS: Final = "another process"

_PAUSE_SECONDS: Final = 0.005
_WAIT_SECONDS_MAX: Final = 30.0

# By position: when the write of an event returned, or when it was seen, in nanoseconds on the shared clock.
Moments = dict[int, int]


def measure(participant: str, folder: Path, scale: Scale) -> Measured:
    """Write events a few milliseconds apart, and follow them."""
    asyncio.run(Anabranch().create(folder))
    if participant == SAME_PROCESS:
        returned, seen = asyncio.run(_both(folder, scale.followed_events))
    else:
        roles = [(role, folder, scale.followed_events) for role in ("write", "follow")]
        returned, seen = in_fresh_processes(_alone, roles)
    return _lag(returned, seen)


def _lag(returned: Mapping[int, int], seen: Mapping[int, int]) -> Measured:
    # A subscriber may receive the event before the writer's own task wakes: that is no lag.
    lags = [max(0, seen[position] - moment) / 1e9 for position, moment in returned.items() if position in seen]
    missing = len(returned) - len(lags)
    return Measured(figures=dict(latencies_ms(lags)) if lags else {}, missing=missing)


async def _both(folder: Path, events: int) -> tuple[Moments, Moments]:
    async with open_engine(folder / FILE_NAME) as engine:
        following = asyncio.create_task(_follow(engine, events))
        returned = await _write(engine, events)
        return returned, await following


def _alone(role: str, folder: Path, events: int) -> Moments:
    return asyncio.run(_in_one_role(role, folder, events))


async def _in_one_role(role: str, folder: Path, events: int) -> Moments:
    async with open_engine(folder / FILE_NAME) as engine:
        meet()
        return await (_write(engine, events) if role == "write" else _follow(engine, events))


async def _write(engine: Engine, events: int) -> Moments:
    run = await engine.run(RUN_ID)
    moments = {}
    for turn in range(events):
        await asyncio.sleep(_PAUSE_SECONDS)
        recorded = await run.set_parameters(values_at(turn))
        moments[recorded.events[0].position] = time.monotonic_ns()
    return moments


async def _follow(engine: Engine, events: int) -> Moments:
    moments: Moments = {}
    try:
        async with asyncio.timeout(_WAIT_SECONDS_MAX + events * _PAUSE_SECONDS):
            async for recorded in engine.subscribe(run_id=RUN_ID, types=[ParametersSet]):
                moments[recorded.position] = time.monotonic_ns()
                if len(moments) == events:
                    break
    except TimeoutError:
        pass  # events that have not come by now count as missing
    return moments


WORK: Final = Work(
    name="W9",
    title="subscription lag",
    participants=lambda _: (SAME_PROCESS, OTHER_PROCESS),
    columns=lambda _: LATENCIES,
    measure=measure,
)
