"""Views are disposable: whatever becomes of their tables, the events bring them back."""

import contextlib
import sqlite3
from pathlib import Path

import pytest

from engine import open_engine
from engine.errors import ReadFailed, RowRefused

TABLES = "branches", "parameters", "step_logs", "runs", "tasks", "task_attempts", "external_runs", "schema_info"


@pytest.mark.parametrize("table", TABLES)
async def test_a_lost_table_is_made_anew(database: Path, table: str) -> None:
    """A rebuild needs none of the tables that it makes."""
    async with open_engine(database) as engine:
        run = await engine.create_run("r", parameters={"a": 1})
        async with run.attempt("s"):
            pass
        before = await run.compile()
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute(f"DROP TABLE {table}")
        connection.commit()
    async with open_engine(database) as engine:
        await engine.rebuild()
        assert await (await engine.run("r")).compile() == before
        assert await engine.verify_views() == []


@pytest.mark.parametrize("table", ["parameters", "step_logs", "task_attempts", "runs"])
async def test_a_table_that_cannot_be_read_is_made_anew(database: Path, table: str) -> None:
    """What its pages were is unused until the file is compacted: SQLite would read them to give them back."""
    note = "a note"
    async with open_engine(database) as engine:
        run = await engine.create_run("r", parameters={"a": note}, tag=note)
        async with run.attempt("s" + note) as attempt:
            await attempt.update(message=note)
        before = await run.compile()
    _lose_pages(database, table)
    async with open_engine(database) as engine:
        with pytest.raises(ReadFailed, match="malformed"):
            await engine.verify_views()
        await engine.rebuild()
        assert await (await engine.run("r")).compile() == before
        assert await engine.verify_views() == []
        await engine.compact()
    with contextlib.closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def _lose_pages(database: Path, table: str) -> None:
    """Write zeros over the pages of a table, as disks do that lost them."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with database.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(bytes(size))


async def test_a_row_that_is_in_the_way_is_named(database: Path) -> None:
    """Nothing is recorded of the write that it refuses; a rebuild takes the row away."""
    async with open_engine(database) as engine:
        run = await engine.create_run("r", parameters={"a": 1})
        position = await engine.last_position()
        with contextlib.closing(sqlite3.connect(database)) as connection:
            connection.execute("CREATE TEMP TABLE stray AS SELECT * FROM parameters")
            connection.execute("UPDATE stray SET stream_version = stream_version + 1")
            connection.execute("INSERT INTO parameters SELECT * FROM stray")
            connection.commit()
        with pytest.raises(RowRefused, match="nothing was recorded: UNIQUE constraint failed: parameters"):
            await run.set_parameters({"a": 2})
        assert await engine.last_position() == position
        await engine.rebuild()
        await run.set_parameters({"a": 2})
        assert (await run.parameters())["a"].value == 2
