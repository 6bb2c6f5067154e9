"""Damaged rows of idempotency keys: an answer from such a row could be about any other request."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest

from engine import open_engine
from engine.cli import main
from engine.errors import RowDamaged
from engine.logs.sqlite_checksums import CHECKSUM_BYTES
from engine.logs.sqlite_schema import SCHEMA_VERSION

DAMAGES = {
    "what was asked for": "digest = zeroblob(32)",
    "where the events begin": "first_position = 1",
    "how many they are": "events = 5",
    "where they left the stream": "stream_version = 7",
    "its own checksum": f"checksum = zeroblob({CHECKSUM_BYTES})",
}


def _sql(database: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


async def _record(database: Path) -> None:
    """Record two runs, each with a write under the same idempotency key."""
    async with open_engine(database) as engine:
        for run_id in ("r", "other"):
            run = await engine.create_run(run_id)
            await run.set_parameters({"x": 1}, idempotency_key="the key")


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_a_retry_under_a_damaged_key_is_refused_by_name(database: Path, damage: str) -> None:
    """A retry under a damaged key raises RowDamaged, and `verify` names the run.

    The same key of another run is unaffected.
    """
    await _record(database)
    _sql(database, f"UPDATE idempotency_keys SET {damage} WHERE root_id = 1")
    async with open_engine(database) as engine:
        run = await engine.run("r")
        with pytest.raises(RowDamaged, match="the row of idempotency key 'the key' does not match its checksum"):
            await run.set_parameters({"x": 1}, idempotency_key="the key")
        for found in (await engine.verify(), await engine.verify("r")):
            assert [(each.kind, each.run_id) for each in found.problems] == [("checksum", "r")]
        assert (await engine.verify("other")).problems == []
        other = await engine.run("other")
        assert (await other.set_parameters({"x": 1}, idempotency_key="the key")).duplicate


async def test_a_key_that_has_become_another_is_found(database: Path) -> None:
    """`verify` finds a key whose text was changed."""
    await _record(database)
    _sql(database, "UPDATE idempotency_keys SET idempotency_key = 'the kez' WHERE root_id = 1")
    async with open_engine(database) as engine:
        (problem,) = (await engine.verify()).problems
        assert (problem.kind, problem.run_id) == ("checksum", "r")
        assert "'the kez'" in problem.message


def test_views_are_rebuilt_and_copies_made_beside_a_damaged_key(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A damaged key prevents neither a rebuild nor a backup, and `doctor` reports it."""
    asyncio.run(_record(database))
    _sql(database, "UPDATE idempotency_keys SET events = 5 WHERE root_id = 1")
    assert main(["rebuild", "--db", str(database)]) == 0
    assert main(["doctor", "--db", str(database)]) == 1
    assert main(["backup", str(database.with_name("copy.db")), "--db", str(database)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "holds, but records kept beside it are damaged: checksum, run r: the row of idempotency key" in told
    assert "a retry with such a key is refused" in told


async def test_rows_without_checksums_get_them(database: Path) -> None:
    """Opening a file of schema version 3 adds the missing checksums; its rows are taken as they are."""
    await _record(database)
    async with open_engine(database) as engine:
        await engine.create_run("gone")
        await engine.delete_run("gone", "old")
    tables = "idempotency_keys", "deleted_runs"
    _sql(database, *(f"ALTER TABLE {table} DROP COLUMN checksum" for table in tables), "PRAGMA user_version = 3")
    assert SCHEMA_VERSION > 3
    async with open_engine(database) as engine:
        assert (await engine.verify()).problems == []
        run = await engine.run("r")
        assert (await run.set_parameters({"x": 1}, idempotency_key="the key")).duplicate
