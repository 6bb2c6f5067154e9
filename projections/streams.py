"""Streams by name, and the points of a stream by version or time."""

import sqlite3
from datetime import datetime

from engine.codec import to_microseconds
from engine.errors import BranchNotFound, InvalidValue, PointNotFound, RunNotFound
from engine.names import ROOT
from engine.ports import Point, Stream
from projections.reading import LATEST

_SELECT_STREAM = "SELECT stream_id, run_id, branch, parent_id, parent_version, version, hash FROM streams"


def find_stream(connection: sqlite3.Connection, run_id: str, branch: str) -> Stream:
    """Return a branch's stream.

    Raises:
        RunNotFound, BranchNotFound
    """
    row = connection.execute(f"{_SELECT_STREAM} WHERE run_id = ? AND branch = ?", (run_id, branch)).fetchone()
    if row is not None:
        return Stream(*row)
    if branch != ROOT:
        find_stream(connection, run_id, ROOT)
        raise BranchNotFound(run_id, branch)
    raise RunNotFound(run_id)


def version_at(connection: sqlite3.Connection, stream: Stream, at: Point) -> int:
    """Return the stream version that a point means.

    Raises:
        PointNotFound: the stream does not reach the version, or had not begun at the time.
        InvalidValue: it is neither, or the time has no time zone.
    """
    if at is None:
        return LATEST
    if isinstance(at, bool):
        raise InvalidValue("at", at, "is neither a version nor a time")
    version = at if isinstance(at, int) else _version_at_time(connection, stream, at)
    if not 1 <= version <= stream.version:
        raise PointNotFound(stream.run_id, stream.branch, at, stream.version)
    return version


def _version_at_time(connection: sqlite3.Connection, stream: Stream, at: datetime) -> int:
    root = find_stream(connection, stream.run_id, ROOT)
    version: int = connection.execute(
        "SELECT coalesce(max(stream_version), 0) FROM events WHERE root_id = ? AND stream_id = ? AND recorded_at <= ?",
        (root.stream_id, stream.stream_id, to_microseconds(at)),
    ).fetchone()[0]
    return version


def children_of(connection: sqlite3.Connection, stream: Stream) -> list[Stream]:
    """Return the branches forked from a branch within its run, in the order they were forked."""
    rows = connection.execute(
        f"{_SELECT_STREAM} WHERE parent_id = ? AND run_id = ? ORDER BY stream_id",
        (stream.stream_id, stream.run_id),
    )
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
