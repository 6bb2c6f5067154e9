"""Fixtures that every test may use."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine import Engine, open_engine


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The path of a database that does not exist yet."""
    return tmp_path / "runs.db"


@pytest.fixture
async def engine(database: Path) -> AsyncIterator[Engine]:
    """An open engine on a fresh file."""
    async with open_engine(database) as opened:
        yield opened
