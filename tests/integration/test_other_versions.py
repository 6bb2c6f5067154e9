"""An engine on a file that an engine of another version has changed."""

import contextlib
import sqlite3
from pathlib import Path

import pytest

from engine import open_engine
from engine.errors import StoreChanged


@pytest.mark.parametrize(
    "change",
    ["UPDATE view_checkpoints SET version = version + 1 WHERE view = 'state'", "PRAGMA user_version = 99"],
    ids=["views", "log"],
)
async def test_who_does_not_know_the_files_version_writes_no_more(database: Path, change: str) -> None:
    """Once another process has migrated the log or the views, writes raise StoreChanged and reads go on."""
    async with open_engine(database) as engine:
        run = await engine.create_run("r", parameters={"a": 1})
        with contextlib.closing(sqlite3.connect(database)) as other:
            other.execute(change)
            other.commit()
            found = other.execute("SELECT version FROM view_checkpoints WHERE view = 'state'").fetchone()
        for _ in range(2):
            with pytest.raises(StoreChanged):
                await run.set_parameters({"a": 2})
        with pytest.raises(StoreChanged):
            await engine.rebuild()
        assert (await run.parameters())["a"].value == 1
        assert await engine.last_position() == 2
        with contextlib.closing(sqlite3.connect(database)) as other:
            assert other.execute("SELECT version FROM view_checkpoints WHERE view = 'state'").fetchone() == found
