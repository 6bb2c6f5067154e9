"""Reading the SQLite log: rows as recorded events, and the filters as SQL."""

import sqlite3
from contextlib import closing
from typing import Any

from engine.codec import decode_recorded
from engine.errors import BranchNotFound, RunNotFound
from engine.events import RecordedEvent
from engine.model import Head
from engine.names import ROOT
from engine.ports import EventFilter
from engine.row_chunks import Chunk

SELECT_EVENTS = (
    "SELECT position, run_id, branch, stream_version, event_id, recorded_at, events.hash, event_type,"
    " schema_version, payload FROM events JOIN streams USING (stream_id)"
)
"""Selects the arguments of `decode_recorded`."""

_DESCENDANTS = (
    "WITH RECURSIVE descendants (stream_id) AS (SELECT ? UNION SELECT streams.stream_id FROM streams"
    " JOIN descendants ON streams.parent_id = descendants.stream_id WHERE streams.run_id = ?)"
    " SELECT stream_id FROM descendants"
)


def last_position(connection: sqlite3.Connection) -> int:
    """Return the position of the last event, 0 when there is none.

    It never decreases, even if the run of the last event is deleted, because readers hold positions as cursors.
    """
    position: int = connection.execute(
        "SELECT max(coalesce((SELECT max(position) FROM events), 0),"
        " coalesce((SELECT max(store_position) FROM deleted_runs), 0))"
    ).fetchone()[0]
    return position


def read_events(
    connection: sqlite3.Connection, events: EventFilter, after: int, until: int | None, limit: int
) -> tuple[list[RecordedEvent], int]:
    """Return up to `limit` events that pass the filter, and the position up to which the log was read.

    Large events reduce their number: see `Chunk`.

    Raises:
        RunNotFound, BranchNotFound: the filter's run or branch does not exist.
        CannotDecode: this version cannot read an event.
    """
    last = last_position(connection)
    until = last if until is None else min(until, last)
    where, values = _conditions(connection, events)
    cursor = connection.execute(
        f"{SELECT_EVENTS} WHERE position > ? AND position <= ?{where} ORDER BY position", (after, until, *values)
    )
    with closing(cursor):
        chunk = Chunk(cursor, limit)
        found = [decode_recorded(*row) for row in chunk]
    return found, max(until, after) if chunk.is_last else chunk.position


def _conditions(connection: sqlite3.Connection, events: EventFilter) -> tuple[str, list[Any]]:
    where = ""
    values: list[Any] = []
    if events.run_id is not None:
        where += " AND events.root_id = ?"
        values.append(root_id_of(connection, events.run_id))
        if events.branch is not None:
            _, stream, _ = stream_row(connection, events.run_id, events.branch)
            where += f" AND events.stream_id IN ({_DESCENDANTS})" if events.descendants else " AND events.stream_id = ?"
            values += [stream, events.run_id] if events.descendants else [stream]
    if events.types is not None:
        where += f" AND event_type IN ({', '.join('?' * len(events.types))})"
        values += sorted(events.types)
    return where, values


def stream_row(connection: sqlite3.Connection, run_id: str, branch: str) -> tuple[int, int, int]:
    """Return a stream's root id, its own id and its version.

    Raises:
        RunNotFound, BranchNotFound
    """
    row = connection.execute(
        "SELECT root_id, stream_id, version FROM streams WHERE run_id = ? AND branch = ?", (run_id, branch)
    ).fetchone()
    if row is None:
        if branch == ROOT:
            raise RunNotFound(run_id)
        stream_row(connection, run_id, ROOT)
        raise BranchNotFound(run_id, branch)
    return row[0], row[1], row[2]


def root_id_of(connection: sqlite3.Connection, run_id: str) -> int:
    """Return the id of a run's root stream.

    Raises:
        RunNotFound
        LookupError: its row is damaged.
    """
    root_id, stream_id, _ = stream_row(connection, run_id, ROOT)
    if root_id != stream_id:
        raise LookupError(f"the root stream of run {run_id!r} is assigned to another run")
    return root_id


def heads_of_run(connection: sqlite3.Connection, run_id: str) -> dict[int, Head]:
    """Return the heads of a run's streams by stream id, in the order in which they were opened: the root first."""
    rows = connection.execute(
        "SELECT stream_id, branch, version, hash FROM streams WHERE run_id = ? ORDER BY stream_id", (run_id,)
    )
    return {stream_id: Head(branch, version, hash_) for stream_id, branch, version, hash_ in rows}
