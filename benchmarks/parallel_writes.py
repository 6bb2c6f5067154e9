"""Parallel branch writes: operations per second of the engine beside what a user would write by hand.

    python -m benchmarks.parallel_writes [--branches 64] [--operations 100] [--rounds 3]

One run, all branches at once; the operations of a branch take turns: set two parameters; log a step with one attempt
and finish it. The rival is plain aiosqlite with one shared connection and a commit for each operation: durable as well,
but without order, versions, history or hashes, and one task's commit writes what another has half done.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import aiosqlite

from engine import Branch, open_engine

Workload = Callable[[Path, int, int], Coroutine[Any, Any, float]]


async def anabranch(folder: Path, branches: int, operations: int) -> float:
    """Return the seconds that the engine takes, as shipped: durable, hashed, views written."""
    async with open_engine(folder / "anabranch.db") as engine:
        run = await engine.create_run("w1")
        handles = [await run.fork(f"branch-{index}") for index in range(branches)]
        began = time.perf_counter()
        await asyncio.gather(*(_work(branch, operations) for branch in handles))
        return time.perf_counter() - began


async def _work(branch: Branch, operations: int) -> None:
    for index in range(operations // 2):
        await branch.set_parameters({"epoch": index, "loss": 1 / (index + 1)})
        async with branch.attempt(f"step-{index}"):
            pass


async def plain_aiosqlite(folder: Path, branches: int, operations: int) -> float:
    """Return the seconds that a table of parameters and one of attempts take, with a commit for each operation."""
    async with aiosqlite.connect(folder / "plain.db") as connection:
        await connection.execute("PRAGMA journal_mode = WAL")
        await connection.execute("PRAGMA synchronous = FULL")
        await connection.execute("CREATE TABLE parameters (branch INTEGER, name TEXT, value REAL)")
        await connection.execute("CREATE TABLE attempts (branch INTEGER, step TEXT, status TEXT)")
        began = time.perf_counter()
        await asyncio.gather(*(_work_by_hand(connection, branch, operations) for branch in range(branches)))
        return time.perf_counter() - began


async def _work_by_hand(connection: aiosqlite.Connection, branch: int, operations: int) -> None:
    for index in range(operations // 2):
        two = (branch, "epoch", index, branch, "loss", 1 / (index + 1))
        await connection.execute("INSERT INTO parameters VALUES (?, ?, ?), (?, ?, ?)", two)
        await connection.commit()
        await connection.execute("INSERT INTO attempts VALUES (?, ?, ?)", (branch, f"step-{index}", "COMPLETED"))
        await connection.commit()


WORKLOADS: dict[str, Workload] = {"anabranch": anabranch, "plain aiosqlite": plain_aiosqlite}


def measure(branches: int, operations: int, rounds: int) -> dict[str, float]:
    """Return the median operations per second of each workload, measured in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in WORKLOADS}
    for _ in range(rounds):
        for name, workload in WORKLOADS.items():
            with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".benchmark-") as folder:
                seconds[name].append(asyncio.run(workload(Path(folder), branches, operations)))
    return {name: branches * operations / statistics.median(each) for name, each in seconds.items()}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--branches", type=int, default=64)
    parser.add_argument("--operations", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    measured = measure(arguments.branches, arguments.operations, arguments.rounds)
    for name, rate in measured.items():
        print(f"{name:20} {rate:10,.0f} operations/s  {rate / measured['anabranch']:6.2f} x anabranch")


if __name__ == "__main__":
    main()
