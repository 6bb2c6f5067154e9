"""W8: a lone writer that awaits each write before the next: two parameters, or a bare row."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from benchmarks.operations import values_at
from benchmarks.peers.plain_aiosqlite import connected, durability_of
from benchmarks.peers.registry import ANABRANCH, LIMIT, RELAXED, load
from benchmarks.results import Measured, latencies_ms
from benchmarks.scale import Scale
from benchmarks.works.parallel_writes import LATENCIES
from benchmarks.works.work import Work

BARE_ROW: Final = "bare row, aiosqlite"
_WARM_UP_WRITES: Final = 50
_BRANCH: Final = "fit.branch-0"


def measure(participant: str, folder: Path, scale: Scale) -> Measured:
    """Write `scale.lone_writes` times."""
    if participant == BARE_ROW:
        return asyncio.run(_measure_bare(folder, scale.lone_writes))
    return asyncio.run(_measure_peer(participant, folder, scale.lone_writes))


async def _measure_peer(participant: str, folder: Path, writes: int) -> Measured:
    peer = load(participant)
    await peer.create(folder)
    async with peer.open(folder, shared=False) as store:
        branch = await store.branch(_BRANCH)
        latencies = await _timed(lambda turn: branch.set_parameters(values_at(turn)), writes)
        found = (await store.found())[_BRANCH].parameter_sets
        return Measured(
            figures=dict(latencies_ms(latencies)), durability=await store.durability(), missing=writes - found
        )


async def _measure_bare(folder: Path, writes: int) -> Measured:
    async with connected(folder / "bare.db") as connection:
        await connection.execute("CREATE TABLE bare (epoch INTEGER NOT NULL, loss REAL NOT NULL)")

        async def write(turn: int) -> None:
            await connection.execute("INSERT INTO bare VALUES (?, ?)", (turn, 1 / (turn + 1)))
            await connection.commit()

        latencies = await _timed(write, writes)
        ((found,),) = await connection.execute_fetchall("SELECT count(*) FROM bare")
        return Measured(
            figures=dict(latencies_ms(latencies)),
            durability=await durability_of(connection),
            missing=writes - found,
        )


async def _timed(write: Callable[[int], Awaitable[None]], writes: int) -> list[float]:
    """Return the seconds that each write took, without the first ones, which fill caches."""
    latencies = []
    for turn in range(writes):
        began = time.perf_counter()
        await write(turn)
        latencies.append(time.perf_counter() - began)
    return latencies[min(_WARM_UP_WRITES, writes // 2) :]


WORK: Final = Work(
    name="W8",
    title="latency of one lone writer",
    participants=lambda _: (ANABRANCH, RELAXED, LIMIT, BARE_ROW),
    columns=lambda _: LATENCIES,
    measure=measure,
)
