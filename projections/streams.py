"""Streams by name, and the points of a stream by version, position or time."""

import json
import os
import sqlite3
from collections.abc import Collection, Iterator
from datetime import datetime
from pathlib import Path
from typing import TypeGuard

from engine.errors import BranchNotFound, PointNotFound, ReadFailed, RunNotFound, shown
from engine.model import Head, Origin
from engine.names import ROOT
from engine.point import PlacedPoint, Point, Position, no_point
from engine.ports import Stream, check_named
from engine.times import to_microseconds
from projections.own_parameters import LATEST
from projections.reading import lineage

_SELECT_STREAM = "SELECT stream_id, run_id, branch, parent_id, parent_version, version, hash FROM streams"
_OF_RUN = "events.root_id = (SELECT stream_id FROM streams WHERE run_id = ? AND branch = ?)"


def find_stream(connection: sqlite3.Connection, run_id: str, branch: str) -> Stream:
    """Return a branch's stream.

    Raises:
        RunNotFound, BranchNotFound
    """
    # Selected by id, so that the names come from the row itself instead of the index.
    by_name = "(SELECT stream_id FROM streams WHERE run_id = ? AND branch = ?)"
    row = connection.execute(f"{_SELECT_STREAM} WHERE stream_id = {by_name}", (run_id, branch)).fetchone()
    if row is not None:
        return check_named(Stream(*row), run_id, branch)
    if branch != ROOT:
        find_stream(connection, run_id, ROOT)
        raise BranchNotFound(run_id, branch)
    raise RunNotFound(run_id)


def stream_of(connection: sqlite3.Connection, stream_id: int) -> Stream:
    """Return the stream with an id."""
    return Stream(*connection.execute(f"{_SELECT_STREAM} WHERE stream_id = ?", (stream_id,)).fetchone())


def version_at(connection: sqlite3.Connection, stream: Stream, at: Point) -> int:
    """Return the stream version that a point refers to.

    Raises:
        PointNotFound: the stream does not reach the version, or had not begun at the time or the position.
        InvalidValue: it is not a point, or the time has no time zone.
    """
    if at is None:
        return LATEST
    if _is_version(at):
        version = int.__int__(at)  # a plain int, also of a subclass
    else:
        version = version_by(connection, stream, _position_by(connection, stream, at))
    if not 1 <= version <= stream.version:
        raise PointNotFound(stream.run_id, stream.branch, at, stream.version)
    return version


def position_at(connection: sqlite3.Connection, stream: Stream, at: int | datetime | Position) -> int:
    """Return the position of the run's last event that belongs to a point of one of its streams.

    Raises:
        PointNotFound, InvalidValue: as `version_at`.
        ReadFailed: the event of the version is missing.
    """
    version = version_at(connection, stream, at)
    if not _is_version(at):
        return _position_by(connection, stream, at)
    return event_of(connection, stream, version)[0]


def _is_version(at: object) -> TypeGuard[int]:
    return isinstance(at, int) and not isinstance(at, bool)


def _position_by(connection: sqlite3.Connection, stream: Stream, at: object) -> int:
    """Return the position that a time or a position refers to, 0 if it is outside the run's history."""
    if isinstance(at, Position):
        # The views' checkpoints are at the log's end, even if its last run was deleted.
        (last,) = connection.execute("SELECT max(position) FROM view_checkpoints").fetchone()
        return at.n if at.n <= last else 0
    if not isinstance(at, datetime):
        raise no_point(at)
    # Everything up to the last event with such a time, including events in between from before a clock was set back.
    row = connection.execute(
        f"SELECT position FROM events WHERE {_OF_RUN} AND recorded_at <= ? ORDER BY position DESC LIMIT 1",
        (stream.run_id, ROOT, to_microseconds(at, "at")),
    ).fetchone()
    return 0 if row is None else int(row[0])


def version_by(connection: sqlite3.Connection, stream: Stream, position: int) -> int:
    """Return the version of a stream at a position, 0 before it was opened."""
    values = stream.run_id, ROOT, stream.stream_id, position
    row = connection.execute(
        f"SELECT stream_version FROM events WHERE {_OF_RUN} AND stream_id = ? AND position <= ?"
        " ORDER BY position DESC LIMIT 1",
        values,
    ).fetchone()
    return 0 if row is None else int(row[0])


def head_of(connection: sqlite3.Connection, stream: Stream, version: int) -> Head:
    """Return the head of a stream as of a version.

    Raises:
        ReadFailed: the event of the version is missing.
    """
    return Head(stream.branch, version, event_of(connection, stream, version)[1])


def event_of(connection: sqlite3.Connection, stream: Stream, version: int) -> tuple[int, bytes]:
    """Return the position and the hash of the event of a version.

    Raises:
        ReadFailed: the event of the version is missing.
    """
    # Versions are not indexed: search the run's events from the end that is probably nearer.
    order = "DESC" if version > stream.version // 2 else "ASC"
    row: tuple[int, bytes] | None = connection.execute(
        f"SELECT position, hash FROM events WHERE {_OF_RUN} AND stream_id = ? AND stream_version = ?"
        f" ORDER BY position {order} LIMIT 1",
        (stream.run_id, ROOT, stream.stream_id, version),
    ).fetchone()
    if row is None:
        raise _missing_version(connection, stream, version)
    return row


_HEADS = """
SELECT streams.branch, events.stream_version, events.hash, events.position
FROM events JOIN streams USING (stream_id)
WHERE events.root_id = (SELECT stream_id FROM streams WHERE run_id = :run_id AND branch = '')
    AND (events.stream_id, events.stream_version) IN (
        SELECT named.stream_id, json_extract(asked.value, '$[1]')
        -- In this order: else every stream of the run is held against every head that is asked for.
        FROM json_each(:heads) AS asked CROSS JOIN streams AS named
            ON named.run_id = :run_id AND named.branch = json_extract(asked.value, '$[0]')
    )
"""


def heads_of(
    connection: sqlite3.Connection, run_id: str, versions: Collection[tuple[str, int]]
) -> dict[str, tuple[Head, int]]:
    """Return the heads of a run's branches at these versions, with the events' positions, in one pass.

    Missing ones are left out.
    """
    rows = connection.execute(_HEADS, {"heads": json.dumps(list(versions)), "run_id": run_id})
    return {branch: (Head(branch, version, hash_), position) for branch, version, hash_, position in rows}


def opened_by(connection: sqlite3.Connection, run_id: str, position: int) -> set[int]:
    """Return the ids of the streams of a run that were open as of a position."""
    rows = connection.execute(
        f"SELECT stream_id FROM events WHERE {_OF_RUN} AND position <= ? AND stream_version = 1",
        (run_id, ROOT, position),
    )
    return {stream_id for (stream_id,) in rows}


def _missing_version(connection: sqlite3.Connection, stream: Stream, version: int) -> ReadFailed:
    """Return the error for a version whose event is missing."""
    (path,) = connection.execute("SELECT CAST(file AS BLOB) FROM pragma_database_list WHERE name = 'main'").fetchone()
    where = f"branch {shown(stream.branch)} of run {shown(stream.run_id)}"
    return ReadFailed(
        Path(os.fsdecode(path)), f"version {version} of {where} is missing", "run `anabranch verify` for details"
    )


def parting(connection: sqlite3.Connection, one: PlacedPoint, other: PlacedPoint) -> Origin | None:
    """Return the last event that the histories of two points share, None if they share none.

    Raises:
        RunNotFound, BranchNotFound, PointNotFound, InvalidValue
    """
    ours = dict(_read_through(connection, one))
    for stream_id, version in _read_through(connection, other):
        if stream_id in ours:
            return Origin(*stream_name(connection, stream_id), min(version, ours[stream_id]))
    return None


def _read_through(connection: sqlite3.Connection, place: PlacedPoint) -> Iterator[tuple[int, int]]:
    stream = find_stream(connection, place.run_id, place.branch)
    return lineage(connection, stream.stream_id, min(version_at(connection, stream, place.at), stream.version))


def children_of(connection: sqlite3.Connection, stream: Stream) -> list[Stream]:
    """Return the branches forked from a branch within its run, in fork order."""
    return streams_where(connection, "parent_id = ? AND run_id = ?", (stream.stream_id, stream.run_id))


def streams_where(connection: sqlite3.Connection, condition: str, values: tuple[int | str, ...]) -> list[Stream]:
    """Return the streams for which an SQL condition holds, in the order they were opened."""
    rows = connection.execute(f"{_SELECT_STREAM} WHERE {condition} ORDER BY stream_id", values)
    return [Stream(*row) for row in rows]


def stream_name(connection: sqlite3.Connection, stream_id: int) -> tuple[str, str]:
    """Return the run and the branch of a stream."""
    run_id, branch = connection.execute(
        "SELECT run_id, branch FROM streams WHERE stream_id = ?", (stream_id,)
    ).fetchone()
    return run_id, branch


def branch_name(connection: sqlite3.Connection, stream_id: int) -> str:
    """Return the branch of a stream."""
    return stream_name(connection, stream_id)[1]


def branch_names(connection: sqlite3.Connection, run_id: str, limit: int) -> list[str]:
    """Return the names of a run's branches other than the root, sorted, at most `limit`."""
    rows = connection.execute(
        "SELECT branch FROM streams WHERE run_id = ? AND branch > ? ORDER BY branch LIMIT ?", (run_id, ROOT, limit)
    )
    return [branch for (branch,) in rows]
