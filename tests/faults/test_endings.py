"""A process whose event loop ends while it writes exits by itself, and what it acknowledged is recorded."""

import asyncio
import signal
from pathlib import Path

import pytest

from engine import open_engine
from tests.faults.acknowledged import assert_recorded
from tests.faults.audit import assert_whole
from tests.faults.children import start_program
from tests.faults.endings import ENDINGS

_SECONDS_MAX = 60  # not a measurement: a process that takes longer hangs
_CODES = {"sys.exit": 7, "SIGINT": -signal.SIGINT, "SIGTERM": -signal.SIGTERM}
_COMPLAINTS = ["Exception in thread", "Exception ignored", "never retrieved", "was destroyed", "never awaited"]
_COMPLAINING = {"stopped loop", "sys.exit"}  # about tasks that asyncio itself does not wait for


_BY_DEFAULT = {"unclosed", "failed group", "SIGINT", "another loop", "blocking", "waiting"}
_CASES = [
    pytest.param(ending, marks=() if ending in _BY_DEFAULT else pytest.mark.slow, id=ending) for ending in ENDINGS
]


@pytest.mark.parametrize("ending", _CASES)
async def test_a_process_ends_by_itself(database: Path, ending: str) -> None:
    """However its loop ends, a process exits with its own code, complains of no thread or task, and loses nothing."""
    async with open_engine(database) as engine:
        await engine.create_run("r")
    process = await start_program("tests.faults.endings", ending, database)
    try:
        output, errors = await asyncio.wait_for(process.communicate(), _SECONDS_MAX)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == _CODES.get(ending, 0), errors.decode()
    if ending not in _COMPLAINING:
        assert [complaint for complaint in _COMPLAINTS if complaint in errors.decode()] == [], errors.decode()
    async with open_engine(database) as engine:
        await assert_recorded(engine, (line for line in output.decode().split("\n")[:-1] if line != "over"))
        await (await engine.run("r")).set_parameters({"value": "the lock is free"})
        assert await engine.verify_views() == []
    assert_whole(database)
