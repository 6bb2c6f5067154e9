"""What writing to a forked run costs, in instructions of SQLite, however long the history of its sources is."""

import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from engine import Engine, open_engine
from engine.commands import Command, LogStep
from engine.model import COMPLETED, StepDocument

Instructions: TypeAlias = Callable[[], int]
"""Returns how many instructions SQLite has executed since the last call."""


@pytest.fixture
def instructions(monkeypatch: pytest.MonkeyPatch) -> Instructions:
    """Count the instructions of all connections opened in the test, except those that count their own."""
    connect, executed = sqlite3.connect, 0

    def step() -> int:
        nonlocal executed
        executed += 1
        return 0

    def counted(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.set_progress_handler(step, 1)
        return connection

    def since_last() -> int:
        nonlocal executed
        count, executed = executed, 0
        return count

    monkeypatch.setattr(sqlite3, "connect", counted)
    return since_last


@pytest.mark.parametrize("step", ["new", "s3"])
async def test_the_first_step_of_a_fork_costs_the_same_however_many_steps_its_source_has(
    database: Path, instructions: Instructions, step: str
) -> None:
    """A process that logs one step in a fork of a run with 3,000 steps does no more work than with 300 steps.

    That holds for a new step, and for one that the fork inherits.
    """
    costs = []
    for run_id, count in (("few", 300), ("many", 3_000)):
        async with open_engine(database) as engine:
            await create_run(engine, run_id, count)
            await engine.fork_run(run_id, run_id=f"fork of {run_id}")
        async with open_engine(database) as engine:
            fork = await engine.run(f"fork of {run_id}")
            await engine.create_run(f"before {run_id}")  # fills the caches that do not depend on the fork
            instructions()
            await fork.log_step(step, status=COMPLETED, message="again")
            costs.append(instructions())
            assert (await fork.step(step)).inherited_from is None
    few, many = costs
    assert 0 < many <= few * 1.1


async def test_a_chain_of_forks_is_built_in_linear_time(tmp_path: Path, instructions: Instructions) -> None:
    """Forking runs from each other, each logging a step, does twice the work for a chain of twice the length."""
    costs = []
    for length in (50, 100):
        async with open_engine(tmp_path / f"{length}.db") as engine:
            await create_run(engine, "r1", 1)
            instructions()
            for number in range(1, length):
                fork = await engine.fork_run(f"r{number}", run_id=f"r{number + 1}")
                await fork.log_step(f"s{number}", status=COMPLETED)
            costs.append(instructions())
            assert len(await (await engine.run(f"r{length}")).steps()) == length
    short, long = costs
    assert 0 < long < short * 2.2


async def test_the_steps_that_many_forks_inherit_are_read_once_to_be_carried_over(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleting a run with `carry_over` reads its steps and attempts once for all 10 forks of one point."""
    connect, executed = sqlite3.connect, Counter[str]()

    def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.set_trace_callback(lambda statement: executed.update([statement]))
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    async with open_engine(database) as engine:
        run = await engine.create_run("source")
        for number in range(5):
            async with run.attempt(f"s{number}"):
                pass
        for number in range(10):
            await engine.fork_run("source", run_id=f"fork{number}")
        executed.clear()
        await engine.delete_run("source", "old", carry_over=True)
        reads = {
            each: count for each, count in executed.items() if each.startswith("SELECT") and "task_attempts" in each
        }
        assert set(reads.values()) == {1}
        for number in range(10):
            assert len(await (await engine.run(f"fork{number}")).attempts()) == 5


async def create_run(engine: Engine, run_id: str, count: int) -> None:
    """Create a run that has logged that many completed steps."""
    await engine.create_run(run_id)
    await engine.write(run_id, *steps("s", count))


def steps(prefix: str, count: int) -> list[Command]:
    return [LogStep(document=StepDocument(step=f"{prefix}{number}", status=COMPLETED)) for number in range(count)]
