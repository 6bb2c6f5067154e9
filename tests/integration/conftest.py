"""Fixtures of backups' tests, and of the command's: each file of those says by `recorded` which database there is."""

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
    """Run a command that is to succeed, and return what it printed."""
    assert recorded.exists()

    def run(*arguments: str) -> str:
        assert main(arguments) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def document(shown: Shown) -> Callable[..., Any]:
    """Run a command that is to succeed with `--json`, and return the document it printed."""
    return lambda *arguments: json.loads(shown(*arguments, "--json"))


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that is closed and stays as it is."""
    database = tmp_path_factory.mktemp("store") / "runs.db"
    asyncio.run(record_store(database))
    return database


@pytest.fixture
async def original(store: Path, database: Path) -> AsyncIterator[Engine]:
    """An engine on a database like it."""
    async with opened_copy(store, database) as engine:
        yield engine


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A name in a folder that is there, for a backup."""
    (tmp_path / "backups").mkdir()
    return tmp_path / "backups" / "monday.db"
