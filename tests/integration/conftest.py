"""Fixtures for the tests of backups and of the command line; each test file defines its own `recorded` database."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from engine import Engine
from engine.cli import main
from tests.integration.backups import opened_copy, record_store

Shown: TypeAlias = Callable[..., str]


@pytest.fixture
def shown(recorded: Path, capsys: pytest.CaptureFixture[str]) -> Shown:
    """Run a command that must succeed, and return what it printed."""
    assert recorded.exists()

    def run(*arguments: str) -> str:
        assert main(arguments) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def document(shown: Shown) -> Callable[..., Any]:
    """Run a command that must succeed with `--json`, and return the document it printed."""
    return lambda *arguments: json.loads(shown(*arguments, "--json"))


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed database that every test only copies."""
    database = tmp_path_factory.mktemp("store") / "runs.db"
    asyncio.run(record_store(database))
    return database


@pytest.fixture
async def original(store: Path, database: Path) -> AsyncIterator[Engine]:
    """An engine on a copy of `store`."""
    async with opened_copy(store, database) as engine:
        yield engine


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A path for a backup, in an existing empty folder."""
    (tmp_path / "backups").mkdir()
    return tmp_path / "backups" / "monday.db"
