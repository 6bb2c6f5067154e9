"""Reads that their callers no longer wait for, because of a time limit or a cancellation."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from typing_extensions import override

from engine import open_engine
from engine.errors import RunNotFound
from engine.logs.readers import Readers
from engine.logs.wal_limit import WAL_BYTES_MAX, WalLimit

READERS = 2
_NUMBERS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"


@pytest.fixture
async def readers(database: Path) -> AsyncIterator[Readers]:
    async with open_engine(database):
        readers = Readers(database, database.stat(), READERS, WalLimit(database, WAL_BYTES_MAX))
        yield readers
        await readers.close()


class Job:
    """A read that signals its begin and never ends."""

    def __init__(self, rows: str) -> None:
        self._rows = rows
        self.begun = threading.Event()

    def __call__(self, connection: sqlite3.Connection) -> None:
        self.begun.set()
        while True:
            for _ in connection.execute(self._rows):
                pass


class Held(Job):
    """A read that signals its begin and ends when it is allowed to."""

    def __init__(self) -> None:
        super().__init__("")
        self.may_end = threading.Event()

    @override
    def __call__(self, connection: sqlite3.Connection) -> None:
        self.begun.set()
        self.may_end.wait()


def _one(connection: sqlite3.Connection) -> int:
    (one,) = connection.execute("SELECT 1").fetchone()
    return int(one)


async def _give_up(readers: Readers, job: Job) -> None:
    """Cancel a read that has begun."""
    reading = asyncio.create_task(readers.run(job))
    await asyncio.to_thread(job.begun.wait)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


@pytest.mark.parametrize("rows", [f"{_NUMBERS} SELECT x FROM n", f"{_NUMBERS} SELECT x FROM n LIMIT 1000"])
async def test_a_read_that_was_given_up_ends(readers: Readers, rows: str) -> None:
    """A cancelled read is stopped, in one long statement or in many short ones, and frees its connection."""
    for _ in range(5 * READERS):
        await _give_up(readers, Job(rows))
    assert await readers.run(_one) == 1
    await readers.close()


async def test_nobody_waits_behind_a_read_that_was_given_up(readers: Readers) -> None:
    """While a cancelled read has not ended, other reads get another connection."""
    await asyncio.gather(*(readers.run(_one) for _ in range(READERS)))
    held = Held()
    await _give_up(readers, held)
    assert await readers.run(_one) == 1
    held.may_end.set()


async def test_a_read_that_was_given_up_before_it_began_never_begins(readers: Readers) -> None:
    """A read cancelled while it waits for a connection never starts."""
    held = [Held() for _ in range(READERS)]
    reading = [asyncio.create_task(readers.run(job)) for job in held]
    waiting = asyncio.create_task(readers.run(never := Held()))
    for job in held:
        await asyncio.to_thread(job.begun.wait)
    waiting.cancel()
    for job in held:
        job.may_end.set()
    await asyncio.gather(*reading, waiting, return_exceptions=True)
    assert await readers.run(_one) == 1
    assert not never.begun.is_set()


async def test_a_read_that_failed_leaves_its_connection_to_others(readers: Readers) -> None:
    """An error raised by a read reaches its caller only, and the connection stays usable."""

    def failing(_: sqlite3.Connection) -> None:
        raise RunNotFound("r")

    for _ in range(3 * READERS):
        with pytest.raises(RunNotFound):
            await readers.run(failing)
    assert await readers.run(_one) == 1
