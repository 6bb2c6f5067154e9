"""Tamper with a finished store in SQL, without the engine's knowledge."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from engine import Engine
from engine.findings import Problem, Verification

TABLES = ("streams", "events", "deleted_runs")

Found: TypeAlias = tuple[str, str | None, str | None, int | None, int | None]
"""A problem's kind, run id, branch, stream version and position."""


class Tampered:
    """The rows of a store, which a test changes and then restores."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.columns = {table: self._columns(table) for table in TABLES}
        self.rows = {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}

    def _columns(self, table: str) -> list[str]:
        return [row[1] for row in self.connection.execute(f"PRAGMA table_info({table})")]

    def dicts(self, table: str) -> list[dict[str, Any]]:
        """Return the original rows of a table as dicts."""
        return [dict(zip(self.columns[table], row, strict=True)) for row in self.rows[table]]

    def run(self, *statements: str) -> None:
        """Execute SQL statements; each one has to change at least one row."""
        for statement in statements:
            assert self.connection.execute(statement).rowcount > 0, statement

    def restore(self) -> None:
        """Restore every row to its original state."""
        self.connection.execute("BEGIN")
        for table, rows in self.rows.items():
            self.connection.execute(f"DELETE FROM {table}")
            marks = ", ".join("?" * len(self.columns[table]))
            self.connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        self.connection.execute("COMMIT")


@contextmanager
def tampering(path: Path) -> Iterator[Tampered]:
    """Open a store's file on a connection of its own, even while others have it open."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    try:
        yield Tampered(connection)
    finally:
        connection.close()


def copy_store(source: Path, target: Path) -> None:
    """Copy a store with SQLite's backup, even while others have it open."""
    origin, copy = sqlite3.connect(source), sqlite3.connect(target)
    try:
        origin.backup(copy)
    finally:
        origin.close()
        copy.close()


def found(verification: Verification) -> list[Found]:
    """Return the place of every problem, without its message."""
    return [place(problem) for problem in verification.problems]


def place(problem: Problem) -> Found:
    return problem.kind, problem.run_id, problem.branch, problem.stream_version, problem.position


async def record_three_runs(engine: Engine) -> None:
    """Record two separate runs and one forked from the first; each comment gives the position of the event."""
    run = await engine.create_run("r", parameters={"x": 0})  # 1, 2
    a = await run.fork("a")  # 3
    b = await run.fork("b")  # 4
    inner = await a.fork("inner")  # 5
    await inner.set_parameters({"x": 1})  # 6
    await b.set_parameters({"x": 5, "y": 2})  # 7
    await a.set_parameters({"y": 3})  # 8
    await a.reduce()  # 9
    await run.reduce([a, b], default="sum")  # 10
    await run.finalize()  # 11
    other = await engine.create_run("q")  # 12
    await other.set_parameters({"z": 1})  # 13
    await (await engine.fork_run("r", run_id="f", branch="a", at=2)).set_parameters({"z": 1})  # 14, 15
