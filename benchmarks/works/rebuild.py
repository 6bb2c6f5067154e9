"""W4: rebuilding every view of a log, beside the floor: decoding the events and inserting the rows, without logic."""

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from benchmarks.growing import grow
from benchmarks.peers.registry import ANABRANCH
from benchmarks.results import Measured
from benchmarks.scale import Scale
from benchmarks.works.work import Column, Work
from engine import open_engine
from engine.codec import decode_event
from engine.logs.sqlite_schema import LOG_TABLES

FLOOR: Final = "floor: decode, insert"
EVENTS_PER_S: Final = "events_per_s"

_FILE_NAME: Final = "rebuild.db"


def prepare(folder: Path, scale: Scale) -> None:
    """Record the events."""
    asyncio.run(grow(folder / _FILE_NAME, scale.rebuilt_events))


def measure(participant: str, folder: Path, scale: Scale) -> Measured:
    """Rebuild once, or do the least that any rebuild must do."""
    del scale
    path = folder / _FILE_NAME
    return _measure_floor(path) if participant == FLOOR else asyncio.run(_measure_rebuild(path))


async def _measure_rebuild(path: Path) -> Measured:
    before = _row_counts(path)
    async with open_engine(path) as engine:
        began = time.perf_counter()
        events = await engine.rebuild()
        seconds = time.perf_counter() - began
        if events != await engine.last_position():
            raise ValueError(f"only {events} events were folded")
    if _row_counts(path) != before:
        raise ValueError(f"the views had {before} rows before the rebuild, and now {_row_counts(path)}")
    return Measured(figures={EVENTS_PER_S: events / seconds})


def _measure_floor(path: Path) -> Measured:
    with closing(sqlite3.connect(path)) as source, closing(_scratch(path.with_suffix(".floor"), source)) as scratch:
        views = {table: source.execute(f"SELECT * FROM {table}").fetchall() for table in _view_tables(source)}
        began = time.perf_counter()
        events = source.execute("SELECT event_type, schema_version, payload FROM events ORDER BY position").fetchall()
        for event in events:
            decode_event(*event)
        _insert(scratch, views)
        seconds = time.perf_counter() - began
    return Measured(figures={EVENTS_PER_S: len(events) / seconds})


def _scratch(path: Path, source: sqlite3.Connection) -> sqlite3.Connection:
    """Return an empty database with the same view tables and their indexes."""
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = OFF")  # as in a rebuild
    connection.execute("PRAGMA synchronous = OFF")
    for table in _view_tables(source):
        made = "SELECT sql FROM sqlite_schema WHERE tbl_name = ? AND sql IS NOT NULL ORDER BY type DESC"
        for (statement,) in source.execute(made, (table,)):
            connection.execute(statement)
    return connection


def _insert(scratch: sqlite3.Connection, views: dict[str, list[tuple[Any, ...]]]) -> None:
    scratch.execute("BEGIN")
    for table, rows in views.items():
        if rows:
            scratch.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
    scratch.execute("COMMIT")


def _row_counts(path: Path) -> dict[str, int]:
    with closing(sqlite3.connect(path)) as connection:
        tables = _view_tables(connection)
        return {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}


def _view_tables(connection: sqlite3.Connection) -> list[str]:
    """Return every table that is not the log's own."""
    tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    return [name for (name,) in tables if name not in LOG_TABLES]


WORK: Final = Work(
    name="W4",
    title="rebuilding all views",
    participants=lambda _: (ANABRANCH, FLOOR),
    columns=lambda _: (Column(EVENTS_PER_S, "events/s"),),
    measure=measure,
    prepare=prepare,
)
