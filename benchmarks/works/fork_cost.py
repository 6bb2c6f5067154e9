"""W6: the cost of a fork, by the number of parameters that the child inherits."""

import asyncio
import statistics
import time
from pathlib import Path
from typing import Final

from benchmarks.peers.registry import ANABRANCH, RELAXED
from benchmarks.results import Measured
from benchmarks.scale import Scale
from benchmarks.works.work import Column, Work
from engine import Branch, Run, open_engine
from engine.logs.sqlite_opening import Durability

_CHUNK: Final = 5_000
"""The number of parameters that one event sets."""


def figure(inherited: int) -> str:
    """Return the name of the figure for that many parameters."""
    return f"fork_{inherited}_ms"


def measure(participant: str, folder: Path, scale: Scale) -> Measured:
    """Fork runs with few and with many parameters by turns."""
    return asyncio.run(_measure("relaxed" if participant == RELAXED else "full", folder, scale))


async def _measure(durability: Durability, folder: Path, scale: Scale) -> Measured:
    async with open_engine(folder / "fork.db", durability=durability) as engine:
        runs = {count: await engine.create_run(f"run-{count}") for count in scale.inherited}
        for count, run in runs.items():
            await _set(run, count)
        seconds: dict[int, list[float]] = {count: [] for count in runs}
        for turn in range(scale.forks):
            for count, run in runs.items():
                began = time.perf_counter()
                child = await run.fork(f"fit.{turn}")
                seconds[count].append(time.perf_counter() - began)
                if turn == scale.forks - 1:
                    await _check(child, count)
    return Measured(figures={figure(count): statistics.median(each) * 1000 for count, each in seconds.items()})


async def _set(run: Run, count: int) -> None:
    for first in range(0, count, _CHUNK):
        await run.set_parameters({f"parameter-{n}": n for n in range(first, min(count, first + _CHUNK))})


async def _check(child: Branch, count: int) -> None:
    inherited = await child.parameters()
    if len(inherited) != count:
        raise ValueError(f"a child that inherits {count} parameters sees {len(inherited)}")


WORK: Final = Work(
    name="W6",
    title="a fork, by inherited parameters",
    participants=lambda _: (ANABRANCH, RELAXED),
    columns=lambda scale: tuple(Column(figure(count), f"{count:,}: ms", 3) for count in scale.inherited),
    measure=measure,
)
