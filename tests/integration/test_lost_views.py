"""Views are disposable: whatever happens to their tables, a rebuild restores them from the events."""

import contextlib
import sqlite3
from pathlib import Path

import pytest

from engine import open_engine
from engine.errors import BackupFailed, ReadFailed, RowRefused

TABLES = (
    "branches",
    "parameters",
    "step_logs",
    "removed_steps",
    "runs",
    "tasks",
    "task_attempts",
    "external_runs",
    "schema_info",
)


@pytest.mark.parametrize("table", TABLES)
async def test_a_lost_table_is_made_anew(database: Path, table: str) -> None:
    """A rebuild restores any view table that was dropped."""
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
    """A rebuild restores a view table with a zeroed root page, and after `compact` SQLite finds the file intact."""
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


@pytest.mark.parametrize("table", ["parameters", "task_attempts", "step_logs"])
async def test_a_rebuild_takes_no_page_of_the_log_for_a_views(database: Path, table: str) -> None:
    """A rebuild leaves the log's pages intact when a damaged view table points to one of them."""
    async with open_engine(database) as engine:
        run = await engine.create_run("r")
        for number in range(80):
            await run.set_parameters({f"p{number}": f"{number} {'.' * 300}"})
            async with run.attempt(f"s{number}", details={"note": "." * 300}) as attempt:
                await attempt.update(message="." * 300)
        before = await run.compile()
    _lead_to_page_with(database, table, b"\xda\x01\x2f40 ...")
    async with open_engine(database) as engine:
        assert (await engine.verify()).problems == []
        await engine.rebuild()
        assert (await engine.verify()).problems == []
        assert await engine.verify_views() == []
        assert await (await engine.run("r")).compile() == before


async def test_views_are_made_anew_beside_pages_of_the_log_that_are_lost(database: Path) -> None:
    """Outdated views are rebuilt, and runs are readable, although the page of the idempotency keys is lost.

    `verify` reports the loss.
    """
    async with open_engine(database) as engine:
        run = await engine.create_run("r", parameters={f"p{number}": "." * 300 for number in range(80)})
        before = await run.compile()
    _lose_pages(database, "idempotency_keys")
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE view_checkpoints SET version = 1")
        connection.commit()
    async with open_engine(database) as engine:
        await engine.rebuild()
        run = await engine.run("r")
        assert await run.compile() == before
        (lost,) = (await engine.verify()).problems
        assert lost.message.startswith("the idempotency keys or the records of deleted runs cannot be read")


async def test_a_rebuild_takes_no_page_that_is_wrongly_free(database: Path) -> None:
    """A rebuild and a backup refuse a file whose free list contains a page of the log, and write nothing."""
    async with open_engine(database) as engine:
        run = await engine.create_run("r")
        for number in range(80):
            await run.set_parameters({f"p{number}": f"{number} {'.' * 300}"})
        for number in range(40):
            await engine.create_run(f"gone {number}", parameters={"x": "." * 3000})
        for number in range(40):
            await engine.delete_run(f"gone {number}", "to have pages that are free")
    _free_page_with(database, b"\xda\x01\x2f40 ...")
    before = database.read_bytes()
    async with open_engine(database) as engine:
        with pytest.raises(ReadFailed, match=r"pages of its log may be overwritten: .*; nothing was written"):
            await engine.rebuild()
        with pytest.raises(BackupFailed, match="SQLite finds damage"):
            await engine.backup(database.with_name("copy.db"))
        assert database.read_bytes() == before
        await (await engine.run("r")).parameters()
        assert (await engine.create_run("another")).run_id == "another"  # the schema in memory still matches the file


def _free_page_with(database: Path, marker: bytes) -> None:
    """Make the list of free pages name the log page that contains the marker."""
    content = bytearray(database.read_bytes())
    size, trunk = int.from_bytes(content[16:18], "big"), int.from_bytes(content[32:36], "big")
    start = (trunk - 1) * size
    assert int.from_bytes(content[start + 4 : start + 8], "big"), "https://sqlite.org/fileformat2.html#the_freelist"
    content[start + 8 : start + 12] = (content.index(marker) // size + 1).to_bytes(4, "big")
    database.write_bytes(content)


def _lead_to_page_with(database: Path, table: str, marker: bytes) -> None:
    """Make the last pointer in a table's root page lead to the log page that contains the marker."""
    content = bytearray(database.read_bytes())
    with contextlib.closing(sqlite3.connect(database)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    start = (root - 1) * size
    assert content[start] in (2, 5), "an inner page: https://sqlite.org/fileformat2.html#b_tree_pages"
    page = content.index(marker) // size + 1
    content[start + 8 : start + 12] = page.to_bytes(4, "big")
    database.write_bytes(content)


def _lose_pages(database: Path, table: str) -> None:
    """Overwrite the root page of a table with zeros, as a failing disk may."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with database.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(bytes(size))


async def test_a_row_that_is_in_the_way_is_named(database: Path) -> None:
    """A stray view row that conflicts with a write raises RowRefused; nothing is recorded, and a rebuild removes it."""
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
