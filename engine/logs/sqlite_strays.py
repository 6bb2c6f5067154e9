"""The checks that span runs: missing positions, and rows that belong to no run.

Streams are looked up in their table, not in its index, which in a damaged file may still hold rows that the table lost.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from operator import attrgetter

from engine.findings import Problem
from engine.logs.sqlite_ledger import SqliteLedger, Tombstone
from engine.logs.sqlite_read import last_position

PROBLEMS_MAX = 100
"""The most problems reported by each check."""


def strays(connection: sqlite3.Connection) -> list[Problem]:
    """Return the problems of the store that belong to no existing run."""
    return [
        *_below_first_position(connection),
        *_missing_positions(connection),
        *_events_without_run(connection),
        *_streams_without_root(connection),
    ]


def _below_first_position(connection: sqlite3.Connection) -> Iterator[Problem]:
    rows = connection.execute(
        "SELECT position FROM events WHERE position < 1 ORDER BY position LIMIT ?", (PROBLEMS_MAX,)
    )
    for (position,) in rows:
        yield Problem(kind="order", message="positions begin at 1: reads skip this event", position=position)


def _missing_positions(connection: sqlite3.Connection) -> list[Problem]:
    """Find gaps between positions that deleted runs, with their numbers of events, do not account for."""
    deleted = sorted(SqliteLedger(connection).deleted(), key=attrgetter("first_position"))
    (existing,) = connection.execute("SELECT count(*) FROM events WHERE position > 0").fetchone()
    missing = last_position(connection) - existing - sum(run.events for run in deleted)
    if missing <= 0:
        return []
    found = []
    for first, last in _gaps(connection):
        uncovered = _skip_deleted(first, deleted)
        if uncovered <= last:
            where = f"position {last} is" if uncovered == last else f"positions {uncovered} to {last} are"
            found.append(Problem(kind="missing event", message=f"{where} missing", position=uncovered))
            if len(found) == PROBLEMS_MAX:
                break
    message = f"{missing} more events are missing than the deleted runs had"
    return found or [Problem(kind="missing event", message=message, position=deleted[0].first_position)]


def _gaps(connection: sqlite3.Connection) -> Iterator[tuple[int, int]]:
    yield from connection.execute(
        "SELECT before + 1, position - 1 FROM (SELECT position, lag(position, 1, 0) OVER (ORDER BY position) AS before"
        " FROM events WHERE position > 0) WHERE position > before + 1"
    )
    (last,) = connection.execute("SELECT coalesce(max(position), 0) FROM events").fetchone()
    if last < last_position(connection):
        yield last + 1, last_position(connection)


def _skip_deleted(position: int, deleted: Sequence[Tombstone]) -> int:
    """Return the first position from here on that is in no deleted run's range; `deleted` is ordered by position."""
    for run in deleted:
        if run.first_position <= position <= run.last_position:
            position = run.last_position + 1
    return position


def _events_without_run(connection: sqlite3.Connection) -> Iterator[Problem]:
    rows = connection.execute(
        "SELECT min(position), count(*) FROM events WHERE root_id NOT IN"
        " (SELECT stream_id FROM streams NOT INDEXED WHERE branch = '') GROUP BY root_id ORDER BY 1 LIMIT ?",
        (PROBLEMS_MAX,),
    )
    for position, count in rows:
        events = "1 event belongs" if count == 1 else f"{count} events from here on belong"
        yield Problem(kind="missing stream", message=f"{events} to a run that does not exist", position=position)


def _streams_without_root(connection: sqlite3.Connection) -> Iterator[Problem]:
    rows = connection.execute(
        "SELECT run_id, branch FROM streams NOT INDEXED WHERE run_id NOT IN"
        " (SELECT run_id FROM streams NOT INDEXED WHERE branch = '') ORDER BY stream_id LIMIT ?",
        (PROBLEMS_MAX,),
    )
    for run_id, branch in rows:
        message = "the stream of its run's root branch is missing"
        yield Problem(kind="missing stream", message=message, run_id=run_id, branch=branch)
