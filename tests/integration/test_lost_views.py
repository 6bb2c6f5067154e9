"""Views are disposable: whatever becomes of their tables, the events bring them back."""

import contextlib
import sqlite3
from pathlib import Path

import pytest

from engine import open_engine

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
