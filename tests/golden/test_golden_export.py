"""An export of yesterday is taken in today, and a store of yesterday exports the same bytes."""

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
    """A store that has taken in the golden export."""
    async with open_engine(database) as engine:
        await imported(engine, EXPORT.read_bytes())
        yield engine


async def test_the_golden_export_is_taken_in(taken: Engine) -> None:
    """Its runs compile to what the database compiled to when it was made."""
    assert as_json(await compiled(taken)) == DATABASE.with_suffix(".json").read_text(encoding="utf-8")
    assert (await taken.verify()).problems == []
    assert await taken.verify_views() == []


async def test_it_is_exported_again_as_it_was(taken: Engine) -> None:
    """The format of version 1 does not drift, nor do the texts beside the payloads."""
    assert await exported(taken) == EXPORT.read_bytes()


async def test_the_golden_database_exports_the_golden_export(database: Path) -> None:
    """Byte for byte."""
    shutil.copyfile(DATABASE, database)
    async with open_engine(database) as engine:
        assert await exported(engine) == EXPORT.read_bytes()
