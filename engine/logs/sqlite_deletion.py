"""Deleting runs of a SQLite log, inside `SqliteRemoval`'s transaction, and finding those that have expired."""

import sqlite3
import time
from collections.abc import Sequence
from typing import Any, Literal

from engine.codec import decode_event
from engine.commands import Record, Request
from engine.errors import RunHasForks, RunIsPinned, RunNotExpired, RunNotFound
from engine.events import RunCreated, RunForked, RunPinned, RunStatusChanged, RunUnpinned, SourceCarriedOver
from engine.logs.carried_over import carried_over
from engine.logs.sqlite_append import Appender
from engine.logs.sqlite_checksums import checksum
from engine.logs.sqlite_read import heads_of_run, last_position, root_id_of
from engine.names import ROOT
from engine.ports import State, check_opened_before
from engine.proof.merkle import run_leaf
from engine.removal import Collected, DeletedRun, Expiry

_CARRIED_BYTES_MAX = 1 << 30  # the limit for callers does not apply: an attempt may be made of several of their events
_RUNS_NAMED_MAX = 100  # of a chain of runs that were each forked from the previous one
_LAST_POSITION = "SELECT max(position) FROM events WHERE root_id = runs.stream_id"
_LAST_EVENT = f"SELECT recorded_at FROM events WHERE position = ({_LAST_POSITION})"


def recorded_until(connection: sqlite3.Connection, microseconds: int) -> int:
    """See `engine.removal.Removal`; the time in µs since 1970."""
    # In log order and only up to the first match, so that just the older events are read.
    younger = connection.execute(
        "SELECT position FROM events WHERE recorded_at > ? AND recorded_at <= ? ORDER BY position LIMIT 1",
        (microseconds, time.time_ns() // 1000),
    ).fetchone()
    return last_position(connection) if younger is None else int(younger[0]) - 1


def find_expired(connection: sqlite3.Connection, expiry: Expiry) -> Collected:
    """Return the runs that would be deleted, newest first, and those kept because they are pinned or have forks."""
    marks = ", ".join("?" * len(expiry.statuses))
    old = f"({_LAST_EVENT}) <= ? AND ({_LAST_POSITION}) <= ?"
    values = *sorted(expiry.statuses), expiry.last_event_until, expiry.last_position_until
    rows = connection.execute(
        "SELECT run_id, pinned, (SELECT count(*) FROM streams WHERE streams.run_id = runs.run_id),"
        " (SELECT count(*) FROM events WHERE root_id = runs.stream_id)"
        f" FROM runs WHERE status IN ({marks}) AND {old} ORDER BY stream_id DESC",
        values,
    )
    others = connection.execute(
        f"SELECT status, count(*) FROM runs WHERE status NOT IN ({marks}) AND {old} GROUP BY status", values
    )
    found, gone = Collected(deleted=[], kept={}, others=dict(others)), set[str]()
    for run_id, pinned, branches, events in rows:
        forks = [fork for fork in _forks(connection, run_id) if fork not in gone]
        if pinned:
            found.kept[run_id] = str(RunIsPinned(run_id))
        elif forks:
            found.kept[run_id] = str(RunHasForks(run_id, forks))
        else:
            gone.add(run_id)
            found.deleted.append(DeletedRun(run_id=run_id, branches=branches, events=events))
    return found


def check_expired(connection: sqlite3.Connection, run_id: str, expiry: Expiry) -> None:
    """Raise unless a run has expired.

    Raises:
        RunNotFound, RunNotExpired
    """
    root_id = root_id_of(connection, run_id)
    last, last_event_at = connection.execute(
        "SELECT position, recorded_at FROM events WHERE root_id = ? ORDER BY position DESC LIMIT 1", (root_id,)
    ).fetchone()
    status = _find_event(connection, root_id, RunCreated, RunForked, RunStatusChanged, order="DESC").status
    if status not in expiry.statuses or last_event_at > expiry.last_event_until or last > expiry.last_position_until:
        raise RunNotExpired(run_id, status)


def _find_event(connection: sqlite3.Connection, root_id: int, *types: type, order: Literal["ASC", "DESC"]) -> Any:
    """Return the first or last event of some types in a run, or None.

    Read from the log, not from the views, because an irreversible deletion depends on it.
    """
    marks = ", ".join("?" * len(types))
    row = connection.execute(
        "SELECT event_type, schema_version, payload, position FROM events"
        f" WHERE root_id = ? AND event_type IN ({marks}) ORDER BY position {order} LIMIT 1",
        (root_id, *(each.__name__ for each in types)),
    ).fetchone()
    return None if row is None else decode_event(*row)


def delete_run(
    connection: sqlite3.Connection, appender: Appender, run_id: str, reason: str, *, carry_over: bool
) -> DeletedRun:
    """Delete a run: its events, idempotency keys, streams and view rows.

    Args:
        carry_over: give the runs that were forked from it what they inherit.

    Raises:
        RunNotFound, RunIsPinned, RunHasForks
    """
    root_id = root_id_of(connection, run_id)
    if isinstance(_find_event(connection, root_id, RunPinned, RunUnpinned, order="DESC"), RunPinned):
        raise RunIsPinned(run_id)
    forks = _forks(connection, run_id)
    if forks and not carry_over:
        raise RunHasForks(run_id, forks)
    runs = _carried_over_ancestry(connection, root_id)[:_RUNS_NAMED_MAX]
    # One after another, with the same caches: many forks may inherit the same thousands of steps.
    requests = (_carry_over_request(appender.state, fork, runs) for fork in forks)
    appender.record(requests, event_bytes_max=_CARRIED_BYTES_MAX)
    # Their first events keep naming the source; reads no longer go through it.
    connection.executemany(
        "UPDATE streams SET parent_id = NULL, parent_version = 0 WHERE run_id = ? AND branch = ''",
        [(fork,) for fork in forks],
    )
    appender.forget()
    deleted = _record_deletion(connection, root_id, run_id, reason)
    appender.projectors.clear(list(heads_of_run(connection, run_id)))
    _delete_events(connection, root_id, deleted)
    connection.execute("DELETE FROM idempotency_keys WHERE root_id = ?", (root_id,))
    connection.execute("DELETE FROM streams WHERE run_id = ?", (run_id,))
    appender.forget()
    return deleted


def _delete_events(connection: sqlite3.Connection, root_id: int, deleted: DeletedRun) -> None:
    """Delete a run's events, checking the columns of each: a damaged index may lead to another run's events."""
    done = connection.execute(
        "DELETE FROM events WHERE root_id = ? AND stream_id IN (SELECT stream_id FROM streams WHERE run_id = ?)",
        (root_id, deleted.run_id),
    )
    if done.rowcount != deleted.events:
        raise LookupError(f"the index lists {deleted.events} events, but only {done.rowcount} belong to the run")


def _forks(connection: sqlite3.Connection, run_id: str) -> list[str]:
    """Return the runs that were forked from this one and still inherit from it."""
    rows = connection.execute(
        "SELECT fork.run_id FROM streams AS source JOIN streams AS fork ON fork.parent_id = source.stream_id"
        " WHERE source.run_id = ? AND fork.run_id <> source.run_id ORDER BY fork.stream_id",
        (run_id,),
    )
    return [fork for (fork,) in rows]


def _carried_over_ancestry(connection: sqlite3.Connection, root_id: int) -> list[str]:
    """Return the runs in a run's ancestry, itself included, that got something carried over, nearest first."""
    source: int | None = root_id
    while source is not None:
        run_id, parent_id = connection.execute(
            "SELECT root.run_id, parent.root_id FROM streams AS root"
            " LEFT JOIN streams AS parent ON parent.stream_id = root.parent_id WHERE root.stream_id = ?",
            (source,),
        ).fetchone()
        carried = _find_event(connection, source, SourceCarriedOver, order="ASC")
        if carried is not None:
            return [run_id, *carried.runs]
        check_opened_before(parent_id, source)
        source = parent_id
    return []


def _carry_over_request(state: State, fork: str, runs: Sequence[str]) -> Request:
    root = state.stream(fork, ROOT)
    if root is None:
        raise RunNotFound(fork)
    events = carried_over(fork, state.from_source(root), runs)
    return Request(run_id=fork, commands=(Record(events=events),))


def _record_deletion(connection: sqlite3.Connection, root_id: int, run_id: str, reason: str) -> DeletedRun:
    """Keep what later checks need of a deleted run: its leaf in the Merkle tree and its positions."""
    heads = heads_of_run(connection, run_id)
    first, last, events = connection.execute(
        "SELECT min(position), max(position), count(*) FROM events WHERE root_id = ?", (root_id,)
    ).fetchone()
    row = (
        root_id,
        run_id,
        max(heads),
        first,
        last,
        events,
        run_leaf(run_id, heads.values()),
        last_position(connection),
        _deletion_time(connection),
        reason,
    )
    insert = "INSERT INTO deleted_runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    connection.execute(insert, (*row, checksum(*row)))
    return DeletedRun(run_id=run_id, branches=len(heads), events=events)


def _deletion_time(connection: sqlite3.Connection) -> int:
    """Return the time, but later than every earlier deletion's, which `time_of_deletion` orders deletions by."""
    (last,) = connection.execute("SELECT coalesce(max(deleted_at), 0) FROM deleted_runs").fetchone()
    return int(max(last + 1, time.time_ns() // 1000))
