"""Today's code imports the golden export, and exports the golden database to the same bytes."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine import Engine, open_engine
from tests.exports import exported, imported
from tests.golden.make_database import as_json, compiled

DATABASE = Path(__file__).with_name("runs_v1.db")
EXPORT = Path(__file__).with_name("export_v1.jsonl")


@pytest.fixture
async def taken(database: Path) -> AsyncIterator[Engine]:
    """A store into which the golden export was imported."""
    async with open_engine(database) as engine:
        await imported(engine, EXPORT.read_bytes())
        yield engine


async def test_the_golden_export_is_taken_in(taken: Engine) -> None:
    """The imported runs compile to the stored JSON and verify."""
    assert as_json(await compiled(taken)) == DATABASE.with_suffix(".json").read_text(encoding="utf-8")
    assert (await taken.verify()).problems == []
    assert await taken.verify_views() == []


async def test_it_is_exported_again_as_it_was(taken: Engine) -> None:
    """Exporting the imported golden export gives the same bytes."""
    assert await exported(taken) == EXPORT.read_bytes()


async def test_the_golden_database_exports_the_golden_export(database: Path) -> None:
    """Exporting the golden database gives the golden export."""
    shutil.copyfile(DATABASE, database)
    async with open_engine(database) as engine:
        assert await exported(engine) == EXPORT.read_bytes()
