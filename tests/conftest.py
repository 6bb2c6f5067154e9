"""Fixtures that every test may use."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from engine import Engine, open_engine

# The machine that runs the tests may be busy: neither a deadline nor the speed of drawing says anything of the code.
settings.register_profile("anabranch", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("anabranch")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The path of a database that does not exist yet."""
    return tmp_path / "runs.db"


@pytest.fixture
async def engine(database: Path) -> AsyncIterator[Engine]:
    """An open engine on a fresh file."""
    async with open_engine(database) as opened:
        yield opened
