"""Reading the SQLite log: rows as recorded events, and the filters as SQL."""

import json
import sqlite3
from contextlib import closing

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
    where, values = _conditions(connection, events, after, until)
    if events.run_id is not None and events.branch and events.descendants:  # all of the run is below its root
        _, top, _ = stream_row(connection, events.run_id, events.branch)
        below = _streams_below(connection, events.run_id, top, limit + 1)
        if len(below) <= limit:
            where += " AND events.stream_id IN (SELECT value FROM json_each(?))"
            values.append(json.dumps(below))
        else:
            positions = _positions_below(connection, top, where, values, limit)
            until = until if len(positions) < limit else positions[-1]
            where, values = "position IN (SELECT value FROM json_each(?))", [json.dumps(positions)]
    cursor = connection.execute(f"{SELECT_EVENTS} WHERE {where} ORDER BY position", values)
    with closing(cursor):
        chunk = Chunk(cursor, limit)
        found = [decode_recorded(*row) for row in chunk]
    return found, max(until, after) if chunk.is_last else chunk.position


def _conditions(
    connection: sqlite3.Connection, events: EventFilter, after: int, until: int
) -> tuple[str, list[int | str]]:
    """Return the conditions in SQL; with descendants, those for the events of the whole run."""
    where = "position > ? AND position <= ?"
    values: list[int | str] = [after, until]
    if events.run_id is not None:
        where += " AND events.root_id = ?"
        values.append(root_id_of(connection, events.run_id))
        if events.branch is not None and not events.descendants:
            where += " AND events.stream_id = ?"
            values.append(stream_row(connection, events.run_id, events.branch)[1])
    if events.types is not None:
        where += f" AND event_type IN ({', '.join('?' * len(events.types))})"
        values += sorted(events.types)
    return where, values


def _streams_below(connection: sqlite3.Connection, run_id: str, top: int, limit: int) -> list[int]:
    """Return up to `limit` streams of a run: `top` and those below it."""
    found = level = [top]
    while level and len(found) < limit:
        rows = connection.execute(
            # Every child is opened later than its parent; the condition prevents cycles in a damaged file.
            "SELECT stream_id FROM streams WHERE parent_id IN (SELECT value FROM json_each(?))"
            " AND run_id = ? AND parent_id < stream_id LIMIT ?",
            (json.dumps(level), run_id, limit - len(found)),
        )
        level = [stream_id for (stream_id,) in rows]
        found = found + level
    return found


def _positions_below(
    connection: sqlite3.Connection, top: int, where: str, values: list[int | str], limit: int
) -> list[int]:
    """Return the first positions, up to `limit`, of a run's events in a stream or below it.

    The streams above each event are looked up: below `top` may be thousands of streams, of which a chunk has only the
    events of a few. For less than a chunk of streams this would be slower.
    """
    below = {top: True}
    positions = []
    rows = connection.execute(f"SELECT position, stream_id FROM events WHERE {where} ORDER BY position", values)
    with closing(rows):
        for position, stream_id in rows:
            if _is_below(connection, stream_id, below):
                positions.append(position)
                if len(positions) == limit:
                    break
    return positions


def _is_below(connection: sqlite3.Connection, stream_id: int, known: dict[int, bool]) -> bool:
    """Return whether a stream is below another, given streams of which that is known; add those passed on the way."""
    passed = []
    current: int | None = stream_id
    while current is not None and current not in known:
        passed.append(current)
        row = connection.execute("SELECT parent_id FROM streams WHERE stream_id = ?", (current,)).fetchone()
        # Every parent was opened before its children; the condition prevents cycles in a damaged file.
        current = None if row is None or row[0] is None or row[0] >= current else row[0]
    is_below = current is not None and known[current]
    known.update(dict.fromkeys(passed, is_below))
    return is_below


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
