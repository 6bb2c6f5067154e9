"""The write-ahead log stays small: writers wait briefly for readers, end long reads by an error, and then go on."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from engine import Branch, Engine, open_engine
from engine.errors import InvalidValue, ReadOvertaken
from engine.logs import wal_limit
from engine.logs.readers import Readers
from engine.logs.sqlite import SqliteEventLog
from engine.logs.sqlite_read import last_position

LIMIT = 2 * 2**20
WRITE = 100_000
_SLOW_READ_SECONDS = 0.06  # three of them overlap at any time
_ENDLESS = "WITH RECURSIVE n (i) AS (SELECT count(*) FROM events UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"


@pytest.fixture
async def engine(database: Path) -> AsyncIterator[Engine]:
    async with open_engine(database, wal_bytes_max=LIMIT) as engine:
        await engine.create_run("r")
        yield engine


def _size(database: Path) -> int:
    return database.with_name(database.name + "-wal").stat().st_size


async def _write(branch: Branch, size: int) -> None:
    """Write about `size` bytes."""
    for number in range(size // WRITE):
        await branch.set_parameters({"n": number, "x": "x" * WRITE})


def _readers(engine: Engine) -> Readers:
    assert isinstance(engine._log, SqliteEventLog)
    return engine._log.readers


def _read_slowly(connection: sqlite3.Connection) -> None:
    last_position(connection)  # the first read takes the snapshot
    time.sleep(_SLOW_READ_SECONDS)


def _read_for_ever(connection: sqlite3.Connection) -> Any:
    return connection.execute(_ENDLESS).fetchone()


async def test_short_reads_that_overlap_do_not_make_it_grow(engine: Engine, database: Path) -> None:
    """Overlapping short reads, of which one is always active, do not let the log grow beyond twice its limit."""
    run = await engine.run("r")
    writing = asyncio.create_task(_write(run, 4 * LIMIT))
    reads = 0

    async def read() -> None:
        nonlocal reads
        while not writing.done():
            await run.parameters()
            reads += 1

    await asyncio.gather(writing, *(read() for _ in range(2)))
    assert reads > 10
    assert _size(database) <= 2 * LIMIT


async def test_reads_that_take_longer_than_the_writer_waits_at_first(engine: Engine, database: Path) -> None:
    """Beyond the limit, the writer waits longer for slow reads, as on a busy machine, and does not end them."""
    run = await engine.run("r")
    largest = 0

    async def write() -> None:
        nonlocal largest
        for _ in range(5 * LIMIT // WRITE):
            await _write(run, WRITE)
            largest = max(largest, _size(database))

    writing = asyncio.create_task(write())

    async def read(number: int) -> None:
        await asyncio.sleep(number * _SLOW_READ_SECONDS / 3)
        while not writing.done():
            await _readers(engine).run(_read_slowly)

    await asyncio.gather(writing, *map(read, range(3)))
    assert LIMIT < largest <= 6 * LIMIT


async def test_a_long_read_is_ended(engine: Engine, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endless read is ended by ReadOvertaken, which names the limit; writers go on, and the log shrinks again."""
    monkeypatch.setattr(wal_limit, "READ_SECONDS_MIN", 0.0)
    run = await engine.run("r")
    reading = asyncio.create_task(_readers(engine).run(_read_for_ever))
    while not reading.done():
        await _write(run, WRITE)
        assert _size(database) <= 6 * LIMIT  # the writes until the read is ended come on top
    with pytest.raises(ReadOvertaken, match="2,097,152 bytes"):
        await reading
    await asyncio.wait_for(_write_until_small(run, database), 60)
    assert await engine.verify_views() == []


async def test_a_long_read_beside_little_writing_goes_on(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long read finishes as long as the write-ahead log stays below its limit."""
    monkeypatch.setattr(wal_limit, "READ_SECONDS_MIN", 0.0)
    run = await engine.run("r")
    million = _ENDLESS.replace("FROM n)", "FROM n WHERE i < 1000000)")
    reading = asyncio.create_task(_readers(engine).run(lambda connection: connection.execute(million).fetchone()))
    await _write(run, LIMIT // 4)
    assert await reading == (1_000_000,)


async def test_a_foreign_reader_causes_a_warning(engine: Engine, database: Path) -> None:
    """A foreign reader cannot be ended: writers go on, the log grows with a warning, and shrinks once it has gone."""
    run = await engine.run("r")
    with closing(sqlite3.connect(database, isolation_level=None)) as stranger, structlog.testing.capture_logs() as logs:
        stranger.execute("BEGIN")
        stranger.execute("SELECT count(*) FROM events").fetchone()
        await _write(run, 2 * LIMIT)
        grown = _size(database)
        await asyncio.wait_for(_write_until_warned(run, logs), 60)
    assert grown > LIMIT
    assert [each["wal_bytes_max"] for each in logs if "holds an old snapshot" in each["event"]] == [LIMIT]
    await asyncio.wait_for(_write_until_small(run, database), 60)


async def _write_until_warned(branch: Branch, logs: list[Any]) -> None:
    while not any("holds an old snapshot" in each["event"] for each in logs):
        await _write(branch, WRITE)


async def _write_until_small(branch: Branch, database: Path) -> None:
    while _size(database) > LIMIT:
        await _write(branch, WRITE)


async def test_a_consumer_that_is_slow_holds_nothing(engine: Engine, database: Path) -> None:
    """A slow consumer of `events` keeps no snapshot between two reads."""
    run = await engine.run("r")
    await _write(run, 5 * WRITE)
    events = engine.events(run_id="r")
    await anext(events)
    await _write(run, 4 * LIMIT)
    assert _size(database) <= LIMIT
    assert len([each async for each in events]) >= 5


@pytest.mark.parametrize("limit", [0, 2**20 - 1, 2**40 + 1, "64 MiB"])
def test_a_limit_out_of_range_is_refused(database: Path, limit: Any) -> None:
    """`open_engine` refuses a limit out of range or of another type by an error that names it."""
    with pytest.raises(InvalidValue, match="wal_bytes_max"):
        open_engine(database, wal_bytes_max=limit)  # type: ignore[unused-awaitable]
