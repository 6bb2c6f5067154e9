"""Fixtures of the contract tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.ports import EventLog
from tests.contract.event_logs import LOGS, OpenLog


@pytest.fixture(params=[*LOGS.values()], ids=[*LOGS])
def open_log(request: pytest.FixtureRequest) -> OpenLog:
    """The function that opens each kind of log, for tests that close a log and open it again."""
    opened: OpenLog = request.param
    return opened


@pytest.fixture
async def log(open_log: OpenLog, database: Path) -> AsyncIterator[EventLog]:
    """An open, empty log of each kind."""
    async with open_log(database) as opened:
        yield opened
