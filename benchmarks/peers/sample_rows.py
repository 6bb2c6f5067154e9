"""The encoded rows of the events table that anabranch records for one pair of operations.

anabranch itself records them, and they are read back, so that the limit writes the rows of today's engine.
"""

import sqlite3
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeAlias

from msgspec import Struct

from benchmarks.operations import step_at, values_at
from engine import open_engine

_TURN: Final = 50
"""The turn of the pair to record, whose numbers and names are as long as most."""

EncodedRow: TypeAlias = tuple[Any, ...]


class SampleRows(Struct, frozen=True, kw_only=True):
    """The rows of a pair's three writes, and their table.

    `position`, `stream_id` and `stream_version` are the indexes of the columns that a writer fills in; `parameters_set`
    is the event type that only a set of parameters records.
    """

    create_table: str
    columns: int
    position: int
    stream_id: int
    stream_version: int
    parameters_set: str
    set_parameters: list[EncodedRow]
    start_step: list[EncodedRow]
    finish_step: list[EncodedRow]

    @property
    def pair(self) -> list[EncodedRow]:
        """The rows of all three writes."""
        return [*self.set_parameters, *self.start_step, *self.finish_step]

    @property
    def insert(self) -> str:
        """The statement that inserts a row."""
        return f"INSERT INTO events VALUES ({', '.join('?' * self.columns)})"

    def placed(self, row: EncodedRow, stream_id: int, stream_version: int) -> list[Any]:
        """Return a row at its place in a stream; SQLite assigns the next position."""
        values = list(row)
        values[self.position] = None
        values[self.stream_id] = stream_id
        values[self.stream_version] = stream_version
        return values


async def record_sample_rows(folder: Path) -> SampleRows:
    """Record one pair in a temporary file below `folder`, and return its rows."""
    with TemporaryDirectory(dir=folder, prefix="sample-") as name:
        path = Path(name) / "sample.db"
        positions = await _record(path)
        return _read(path, positions)


async def _record(path: Path) -> list[int]:
    async with open_engine(path) as engine:
        branch = await (await engine.create_run("sample")).fork("fit.branch-32")
        positions = [await engine.last_position()]
        await branch.set_parameters(values_at(_TURN))
        positions.append(await engine.last_position())
        async with branch.attempt(step_at(_TURN)):
            positions.append(await engine.last_position())
        positions.append(await engine.last_position())
    return positions


def _read(path: Path, positions: list[int]) -> SampleRows:
    connection = sqlite3.connect(path)
    try:
        create_table = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'events'").fetchone()[0]
        names = [name for _, name, *_ in connection.execute("PRAGMA table_info(events)")]
        select = "SELECT * FROM events WHERE position > ? AND position <= ? ORDER BY position"
        writes = [connection.execute(select, ends).fetchall() for ends in pairwise(positions)]
    finally:
        connection.close()
    return SampleRows(
        create_table=create_table,
        columns=len(names),
        position=names.index("position"),
        stream_id=names.index("stream_id"),
        stream_version=names.index("stream_version"),
        parameters_set=writes[0][0][names.index("event_type")],
        set_parameters=writes[0],
        start_step=writes[1],
        finish_step=writes[2],
    )
