"""The resumable sweep of `examples/`, killed and started again."""

import signal
from collections import Counter
from pathlib import Path

import pytest

from engine import Engine, open_engine
from engine.events import ParametersReduced, ParametersSet
from engine.model import COMPLETED
from examples.resumable_sweep import EPOCHS, RATES, RUN_ID, sweep
from tests.faults.children import start_program

FITTED = {f"rate {rate}" for rate in RATES[:-1]}
# Up to five more epochs are recorded before each kill; even so, the last one leaves work to do.
KILLS = [("before", 1), ("after", 3), ("after", 25), ("before", 25), ("after", 1), ("before", 2)]


async def _epochs(engine: Engine) -> Counter[str]:
    """Return how many epochs each branch recorded."""
    return Counter([each.branch async for each in engine.events(run_id=RUN_ID, types=[ParametersSet]) if each.branch])


async def test_a_sweep_that_is_killed_does_nothing_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A sweep killed many times finds what an undisturbed one finds, and records every epoch and the reduction once."""
    database, undisturbed = tmp_path / "killed.db", tmp_path / "undisturbed.db"
    for when, epochs in KILLS:
        process = await start_program("tests.faults.doomed_sweep", database, when, epochs)
        assert await process.wait() == -signal.SIGKILL, await process.communicate()
    for path in (undisturbed, database, database):
        await sweep(str(path))
    expected, found, again = (text.splitlines() for text in _thirds(capsys.readouterr().out))
    assert found == again
    assert [line.split("  ")[:4] for line in found] == [line.split("  ")[:4] for line in expected]

    async with open_engine(database) as engine:
        run = await engine.run(RUN_ID)
        epochs_of = await _epochs(engine)
        assert {name: epochs_of[name] for name in FITTED} == dict.fromkeys(FITTED, EPOCHS)
        assert len([each async for each in engine.events(run_id=RUN_ID, types=[ParametersReduced])]) == 1
        attempts = await run.all_attempts()
        completed = [(branch, attempt.step) for branch, attempt in attempts if attempt.status == COMPLETED]
        assert len(completed) == len(set(completed))
        assert {branch for branch, _ in completed} == {f"rate {rate}" for rate in RATES}
        assert any(attempt.status_reason == "its process was killed" for _, attempt in attempts)
        assert (await engine.verify()).problems == []
        assert (await run.info()).status == COMPLETED


def _thirds(text: str) -> list[str]:
    lines = text.splitlines(keepends=True)
    third = len(lines) // 3
    return ["".join(lines[start : start + third]) for start in range(0, len(lines), third)]
