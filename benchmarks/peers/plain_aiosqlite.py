"""What a user might write by hand: plain aiosqlite, one shared connection, a commit for each write.

It is as durable, but has no order, versions, history or hashes, and one task's commit also commits what another task
has half done.
"""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiosqlite

from benchmarks.durability import in_words
from benchmarks.operations import Found, Values

FILE_NAME: Final = "plain.db"
BUSY_TIMEOUT_SECONDS: Final = 30.0

_SCHEMA: Final = """
CREATE TABLE parameters (branch TEXT NOT NULL, name TEXT NOT NULL, value REAL NOT NULL);
CREATE TABLE steps (branch TEXT NOT NULL, step TEXT NOT NULL, status TEXT NOT NULL, PRIMARY KEY (branch, step));
CREATE TABLE attempts (
    branch TEXT NOT NULL, step TEXT NOT NULL, attempt INTEGER NOT NULL, status TEXT NOT NULL,
    PRIMARY KEY (branch, step, attempt)
);
"""
_SET_TWO: Final = "INSERT INTO parameters VALUES (?, ?, ?), (?, ?, ?)"
_LOG_STEP: Final = "INSERT INTO steps VALUES (?, ?, 'RUNNING')"
_LOG_ATTEMPT: Final = "INSERT INTO attempts VALUES (?, ?, 1, 'RUNNING')"
_FINISH_ATTEMPT: Final = "UPDATE attempts SET status = 'COMPLETED' WHERE branch = ? AND step = ? AND attempt = 1"
_FINISH_STEP: Final = "UPDATE steps SET status = 'COMPLETED' WHERE branch = ? AND step = ?"
_COUNT_SETS: Final = "SELECT branch, count(*) FROM parameters WHERE name = 'loss' GROUP BY branch"
_LATEST: Final = (
    "SELECT branch, name, value FROM parameters WHERE branch IN (SELECT value FROM json_each(?)) ORDER BY rowid"
)
_COUNT_STEPS: Final = (
    "SELECT branch, count(*) FROM steps JOIN attempts USING (branch, step)"
    " WHERE steps.status = 'COMPLETED' AND attempts.status = 'COMPLETED' GROUP BY branch"
)


class PlainAiosqlite:
    """Implements `benchmarks.ports.Peer`."""

    async def create(self, folder: Path) -> None:
        """Create the tables."""
        async with connected(folder / FILE_NAME) as connection:
            await connection.executescript(_SCHEMA)

    @asynccontextmanager
    async def open(self, folder: Path, *, shared: bool) -> AsyncIterator["PlainStore"]:
        """Open one connection for all branches of the process."""
        del shared
        async with connected(folder / FILE_NAME) as connection:
            yield PlainStore(connection)


@asynccontextmanager
async def connected(path: Path) -> AsyncIterator[aiosqlite.Connection]:
    """Connect with a write-ahead log that is synced at each commit."""
    async with aiosqlite.connect(path, timeout=BUSY_TIMEOUT_SECONDS) as connection:
        await connection.execute("PRAGMA journal_mode = WAL")
        await connection.execute("PRAGMA synchronous = FULL")
        yield connection


class PlainStore:
    """Implements `benchmarks.ports.Store`."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    async def branch(self, name: str) -> "PlainBranch":
        """Return a branch, which is only its name."""
        return PlainBranch(self._connection, name)

    async def found(self) -> dict[str, Found]:
        """Count the rows of each branch."""
        sets, steps = await self._counts(_COUNT_SETS), await self._counts(_COUNT_STEPS)
        return {name: Found(sets.get(name, 0), steps.get(name, 0)) for name in {*sets, *steps}}

    async def latest(self, branches: Sequence[str]) -> list[Values]:
        """Read all branches with one query."""
        values: dict[str, dict[str, float]] = {name: {} for name in branches}
        rows = await self._connection.execute_fetchall(_LATEST, (json.dumps(branches),))
        for branch, name, value in rows:
            values[branch][name] = value
        return list(values.values())

    async def _counts(self, statement: str) -> dict[str, int]:
        return {row[0]: row[1] for row in await self._connection.execute_fetchall(statement)}

    async def durability(self) -> str:
        """Read the connection's settings."""
        return await durability_of(self._connection)


class PlainBranch:
    """Implements `benchmarks.operations.BranchWriter`."""

    def __init__(self, connection: aiosqlite.Connection, name: str) -> None:
        self._connection = connection
        self._name = name

    async def set_parameters(self, values: Values) -> None:
        """Insert both rows with one statement, and commit."""
        (first, one), (second, other) = values.items()
        await self._connection.execute(_SET_TWO, (self._name, first, one, self._name, second, other))
        await self._connection.commit()

    async def log_step(self, step: str) -> None:
        """Insert two rows and commit; update them and commit."""
        key = (self._name, step)
        await self._connection.execute(_LOG_STEP, key)
        await self._connection.execute(_LOG_ATTEMPT, key)
        await self._connection.commit()
        await self._connection.execute(_FINISH_ATTEMPT, key)
        await self._connection.execute(_FINISH_STEP, key)
        await self._connection.commit()


async def durability_of(connection: aiosqlite.Connection) -> str:
    """Return what the current settings of a connection guarantee."""
    ((journal_mode,),) = await connection.execute_fetchall("PRAGMA journal_mode")
    ((synchronous,),) = await connection.execute_fetchall("PRAGMA synchronous")
    return in_words(journal_mode, synchronous)
