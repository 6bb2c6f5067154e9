"""What was: the view tables as they stood at a point, folded from the events up to there into a database in memory.

It has the tables that reads know, `streams` among them, so the same SQL answers as now. The log's own file is only
read. Folding takes time and memory in proportion to the events that are folded: those of the run up to the point, and
of the streams that it was forked from up to the forks.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from msgspec import structs

from engine.codec import decode_event, from_microseconds
from engine.events import RecordedEvent
from engine.ports import Stream
from projections.partitions import Partitions
from projections.reading import lineage
from projections.state import StateViews

CHUNK_EVENTS = 1000

_STREAMS = """
CREATE TABLE streams (
    stream_id INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL,
    branch TEXT NOT NULL,
    parent_id INTEGER,
    parent_version INTEGER NOT NULL,
    version INTEGER NOT NULL,
    hash BLOB NOT NULL,
    UNIQUE (run_id, branch)
) STRICT
"""
_EVENTS = (
    "SELECT stream_id, run_id, branch, parent_id, parent_version, position, stream_version, event_id, recorded_at,"
    " events.hash, event_type, schema_version, payload FROM events JOIN streams USING (stream_id)"
)
_OF_RUN = "events.root_id = (SELECT root_id FROM streams WHERE stream_id = ?)"


@contextmanager
def past_of_run(connection: sqlite3.Connection, root: Stream, position: int) -> Iterator[sqlite3.Connection]:
    """Yield the views of a whole run as they stood when a position was recorded."""
    with _fold_into_memory(connection) as fold:
        if root.parent_id is not None:
            fold.lineage(root.parent_id, root.parent_version)
        fold.events(f"{_OF_RUN} AND position <= ?", (root.stream_id, position))
        yield fold.done()


@contextmanager
def past_of_stream(connection: sqlite3.Connection, stream_id: int, version: int) -> Iterator[sqlite3.Connection]:
    """Yield the views of one branch at a version, and of those that it was forked from as they stood at the forks."""
    with _fold_into_memory(connection) as fold:
        fold.lineage(stream_id, version)
        yield fold.done()


@contextmanager
def _fold_into_memory(connection: sqlite3.Connection) -> Iterator["_Fold"]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as memory:
        yield _Fold(connection, memory)


class _Fold:
    """Folds events of the log that `source` reads into `memory`, by the projectors that fold them live."""

    def __init__(self, source: sqlite3.Connection, memory: sqlite3.Connection) -> None:
        self._source = source
        self._memory = memory
        self._projectors = Partitions(memory), StateViews(memory)
        self._streams: dict[int, Stream] = {}
        memory.execute("BEGIN")  # never committed: it ends with the database
        memory.execute(_STREAMS)
        for projector in self._projectors:
            projector.create_tables()

    def lineage(self, stream_id: int, version: int) -> None:
        """Fold a stream up to a version, after those that it was forked from up to the forks."""
        for ancestor, until in reversed(list(lineage(self._source, stream_id, version))):
            where = f"{_OF_RUN} AND events.stream_id = ? AND stream_version <= ?"
            self.events(where, (ancestor, ancestor, until))

    def events(self, where: str, values: tuple[int, ...]) -> None:
        """Fold the events of the log for which `where` holds, in order.

        Raises:
            CannotDecode
        """
        cursor = self._source.execute(f"{_EVENTS} WHERE {where} ORDER BY position", values)
        while rows := cursor.fetchmany(CHUNK_EVENTS):
            for row in rows:
                self._apply(row)
            for projector in self._projectors:
                projector.flush()

    def _apply(self, row: tuple[Any, ...]) -> None:
        stream_id, run_id, branch, parent_id, parent_version = row[:5]
        position, version, event_id, recorded_at, hash_, event_type, schema_version, payload = row[5:]
        stream = self._streams.get(stream_id)
        if stream is None:
            stream = self._streams[stream_id] = Stream(stream_id, run_id, branch, parent_id, parent_version, 0, b"")
        stream.version, stream.hash = version, hash_
        event = decode_event(event_type, schema_version, payload, position)
        moment = from_microseconds(recorded_at)
        recorded = RecordedEvent(position, run_id, branch, version, event_id.hex(), moment, hash_, event)
        for projector in self._projectors:
            projector.apply(stream, recorded)

    def done(self) -> sqlite3.Connection:
        """Return the database, whose streams stand at what was folded of each."""
        rows = map(structs.astuple, self._streams.values())
        self._memory.executemany("INSERT INTO streams VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        return self._memory
