"""W7: what should not change as a store grows: the rate of writes, opening, a fork, a read, and memory.

Each size is a store of its own, grown once for all rounds. A round adds a few thousand events to it.
"""

import asyncio
import secrets
import statistics
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.growing import grow, write_run
from benchmarks.isolation import in_fresh_process
from benchmarks.operations import PAIR
from benchmarks.results import Measured
from benchmarks.scale import Scale
from benchmarks.works.parallel_writes import OPERATIONS
from benchmarks.works.work import Column, Work
from engine import Engine, open_engine

_WRITTEN_SHARE: Final = 5
"""Each round writes one in five of the operations of W1."""

_KIB_OF_A_MIB: Final = 1024


def name_of(events: int) -> str:
    """Return the name of the participant of a size."""
    return f"{events:,} events"


def prepare(folder: Path, scale: Scale) -> None:
    """Grow a store of each size."""
    for events in scale.grown_events:
        asyncio.run(grow(_path(folder, name_of(events)), events))


def measure(participant: str, folder: Path, scale: Scale) -> Measured:
    """Use the store of that size in this process, and rebuild its views in another."""
    path = _path(folder, participant)
    figures = asyncio.run(_use(path, scale))
    return Measured(figures={**figures, **in_fresh_process(_rebuild_alone, path)})


def _path(folder: Path, participant: str) -> Path:
    return folder / f"{participant.split(maxsplit=1)[0].replace(',', '')}.db"


async def _use(path: Path, scale: Scale) -> dict[str, float]:
    open_s = [await _timed(partial(_open_and_close, path)) for _ in range(scale.grown_opens)]
    async with open_engine(path) as engine:
        run_id = f"measured-{secrets.token_hex(4)}"
        run = await engine.create_run(run_id, parameters={f"parameter-{n}": n for n in range(10)})
        forks = [await _timed(partial(run.fork, f"fit.{turn}")) for turn in range(scale.grown_reads)]
        reads = [await _timed(partial(_read, engine)) for _ in range(scale.grown_reads)]
        operations = max(PAIR, scale.operations // _WRITTEN_SHARE // PAIR * PAIR)
        await write_run(engine, f"warm-up-{run_id}", 1, PAIR)
        write_s = await _timed(partial(write_run, engine, f"written-{run_id}", scale.branches, operations))
    return {
        "operations_per_s": scale.branches * operations / write_s,
        "open_ms": statistics.median(open_s) * 1000,
        "fork_ms": statistics.median(forks) * 1000,
        "read_ms": statistics.median(reads) * 1000,
        "memory_mib": resident_memory_max_mib(),
    }


async def _open_and_close(path: Path) -> None:
    async with open_engine(path):
        pass


async def _read(engine: Engine) -> None:
    """Read the parameters of a branch of the oldest run."""
    branch = await (await engine.run("run-0")).branch("fit.branch-0")
    found = await branch.parameters()
    if sorted(found) != ["epoch", "loss", "lr", "seed"]:
        raise ValueError(f"a branch has the parameters {sorted(found)}")


async def _timed(job: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await job()
    return time.perf_counter() - began


def _rebuild_alone(path: Path) -> dict[str, float]:
    return asyncio.run(_rebuild(path))


async def _rebuild(path: Path) -> dict[str, float]:
    async with open_engine(path) as engine:
        began = time.perf_counter()
        events = await engine.rebuild()
        seconds = time.perf_counter() - began
    return {"rebuild_memory_mib": resident_memory_max_mib(), "rebuild_events_per_s": events / seconds}


def resident_memory_max_mib() -> float:
    """Return the peak of this process's resident memory, in MiB."""
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = (line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) / _KIB_OF_A_MIB


WORK: Final = Work(
    name="W7",
    title="growth",
    participants=lambda scale: tuple(name_of(events) for events in scale.grown_events),
    columns=lambda _: (
        OPERATIONS,
        Column("open_ms", "open ms", 1),
        Column("fork_ms", "fork ms", 2),
        Column("read_ms", "read ms", 2),
        Column("memory_mib", "memory MiB", 1),
        Column("rebuild_memory_mib", "rebuild MiB", 1),
        Column("rebuild_events_per_s", "rebuild events/s"),
    ),
    measure=measure,
    prepare=prepare,
)
