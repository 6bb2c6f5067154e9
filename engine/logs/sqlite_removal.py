"""Taking things out of a SQLite log for good: payloads, whole runs, and the traces of both in the file.

Each is one transaction under the writers' lock. What SQLite frees keeps its bytes until something else is written
there; `compact` writes the file anew without them.
"""

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from msgspec import Struct

from engine.codec import decode_event, encode_canonical, payload_digest
from engine.commands import Record, Request
from engine.errors import (
    BranchNotFound,
    CannotDecode,
    NotErasable,
    PointNotFound,
    RunHasForks,
    RunIsPinned,
    RunNotExpired,
    RunNotFound,
)
from engine.events import PayloadErased
from engine.logs.carried_over import carried_over
from engine.logs.sqlite import SqliteEventLog
from engine.logs.sqlite_append import Appender
from engine.logs.sqlite_epoch import note_removal
from engine.logs.sqlite_errors import named
from engine.logs.sqlite_fold import SELECT_FOLDED, FoldedEvents
from engine.logs.sqlite_read import last_position
from engine.logs.sqlite_rebuild import remove_scratch
from engine.logs.sqlite_traces import carried_by, copied_by
from engine.logs.wal_limit import empty_log
from engine.merkle import run_leaf
from engine.model import Head
from engine.names import ROOT
from engine.ports import State
from engine.redaction import redacted
from engine.removal import Collected, Compaction, DeletedRun, Erasure, Expiry
from engine.row_chunks import chunks

Result = TypeVar("Result")

READERS_WAITED_FOR_SECONDS: Final = 5.0
_ASK_AGAIN_SECONDS: Final = 0.05
_FOLDED_TOGETHER: Final = 5000


class SqliteRemoval:
    """`engine.removal.Removal` for a SQLite log."""

    def __init__(self, log: SqliteEventLog) -> None:
        self._log = log

    async def erase(self, run_id: str, branch: str, version: int, reason: str, by: str | None) -> Erasure:
        """Erase one payload; see `Engine.erase`."""
        what = _Erased(run_id, branch, version, reason, by)
        return await self._exclusively(lambda connection: _erase(connection, self._log.appender, what))

    async def recorded_until(self, microseconds: int) -> int:
        """Return the last position that nothing before it shows to be younger than a time; see `Engine.collect`."""
        return await self._log.readers.run(lambda connection: _recorded_until(connection, microseconds))

    async def expired(self, expiry: Expiry) -> Collected:
        """Return what `Engine.collect` would delete, newest first, and what it would keep."""
        return await self._log.readers.run(lambda connection: _expired(connection, expiry))

    async def delete_run(self, run_id: str, reason: str, *, carry_over: bool, expiry: Expiry | None) -> DeletedRun:
        """Delete one run; see `Engine.delete_run` and `Engine.collect`."""

        def delete(connection: sqlite3.Connection) -> DeletedRun:
            if expiry is not None:
                _check_expired(connection, run_id, expiry)
            return _delete(connection, self._log.appender, run_id, reason, carry_over=carry_over)

        return await self._exclusively(delete)

    async def compact(self) -> Compaction:
        """Write the file anew; see `Engine.compact`."""
        before, after = await self._log.exclusively(lambda connection: _vacuum(connection, self._log.path))
        waited = 0.0
        while not (complete := await self._log.exclusively(_emptied)) and waited < READERS_WAITED_FOR_SECONDS:
            await asyncio.sleep(_ASK_AGAIN_SECONDS)  # without the lock: writers go on
            waited += _ASK_AGAIN_SECONDS
        return Compaction(bytes_before=before, bytes_after=after, complete=complete)

    async def _exclusively(self, job: Callable[[sqlite3.Connection], Result]) -> Result:
        def in_transaction(connection: sqlite3.Connection) -> Result:
            try:
                with _transaction(connection, self._log.appender):
                    return job(connection)
            except Exception as error:  # noqa: BLE001 - raised again, by its name
                raise named(error, self._log.path)  # noqa: B904 - it has its cause

        return await self._log.exclusively(in_transaction)


class _Erased(Struct, frozen=True):
    run_id: str
    branch: str
    version: int
    reason: str
    by: str | None


@contextmanager
def _transaction(connection: sqlite3.Connection, appender: Appender) -> Iterator[None]:
    (before,) = connection.execute("PRAGMA secure_delete").fetchone()
    connection.execute("PRAGMA secure_delete = ON")
    try:
        connection.execute("BEGIN IMMEDIATE")
        appender.record(())  # what is cached may be older than what another process has written
        note_removal(connection)
        yield
        connection.execute("COMMIT")
    except BaseException:
        appender.forget()
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    finally:
        connection.execute(f"PRAGMA secure_delete = {before}")


def _erase(connection: sqlite3.Connection, appender: Appender, what: _Erased) -> Erasure:
    root_id, stream_id, head = _stream(connection, what.run_id, what.branch)
    row = connection.execute(
        "SELECT position, event_type, schema_version, payload, payload_digest FROM events"
        " WHERE root_id = ? AND stream_id = ? AND stream_version = ?",
        (root_id, stream_id, what.version),
    ).fetchone()
    if row is None:
        raise PointNotFound(what.run_id, what.branch, what.version, head)
    position, event_type, schema_version, payload, digest = row
    run_ids = _with_forks(connection, what.run_id)
    roots = [_stream(connection, run_id, ROOT)[0] for run_id in run_ids]
    carried = carried_by(connection, position, sorted(roots))
    if digest is not None:
        return Erasure(erased=False, carried=carried)
    said = decode_event(event_type, schema_version, payload, position)
    left = encode_canonical(redacted(said))
    if not _reads_as_written(event_type, schema_version, left):
        raise NotErasable(event_type, f"of version {schema_version} would be read wrongly once it is erased")
    connection.execute(
        "UPDATE events SET payload = ?, payload_digest = ? WHERE position = ?",
        (left, payload_digest(payload), position),
    )
    carried += [copy for copy in copied_by(connection, said) if copy not in carried]  # it is none of them any more
    event = PayloadErased(
        branch=what.branch,
        stream_version=what.version,
        event_type=event_type,
        reason=what.reason,
        by=what.by,
        redacted=payload_digest(left),
    )
    appender.record([Request(run_id=what.run_id, commands=(Record(branch=what.branch, events=(event,)),))])
    _fold_anew(connection, appender, run_ids)
    return Erasure(erased=True, carried=carried)


def _reads_as_written(event_type: str, schema_version: int, left: bytes) -> bool:
    # It is of today's shape under the number that was hashed. What upcasters let pass now, later ones go on from.
    try:
        return encode_canonical(decode_event(event_type, schema_version, left)) == left
    except CannotDecode:
        return False


def _with_forks(connection: sqlite3.Connection, run_id: str) -> list[str]:
    """Return a run and the runs forked from it, and so on: they show some of what it was opened with."""
    rows = connection.execute(
        "WITH RECURSIVE found (run_id) AS (SELECT ? UNION SELECT fork.run_id FROM found"
        " JOIN streams AS source USING (run_id)"
        " JOIN streams AS fork ON fork.parent_id = source.stream_id AND fork.branch = '') SELECT run_id FROM found",
        (run_id,),
    )
    return [found for (found,) in rows]


def _fold_anew(connection: sqlite3.Connection, appender: Appender, run_ids: Sequence[str]) -> None:
    """Make the views of some runs anew from their events, inside the transaction."""
    streams = [_streams(connection, run_id) for run_id in run_ids]
    appender.projectors.clear([row[0] for of_run in streams for row in of_run])
    roots = json.dumps([of_run[0][0] for of_run in streams])  # the root branch is opened first
    rows = connection.execute(
        f"{SELECT_FOLDED} WHERE root_id IN (SELECT value FROM json_each(?)) ORDER BY position", (roots,)
    )
    events = FoldedEvents()
    for chunk in chunks(rows, _FOLDED_TOGETHER):
        for stream, recorded in events.of(connection, chunk):
            appender.projectors.apply(stream, recorded)
        appender.projectors.flush()


def _recorded_until(connection: sqlite3.Connection, microseconds: int) -> int:
    # In the log's order, and no further than to the first: what is older than that is read, and no event besides.
    younger = connection.execute(
        "SELECT position FROM events WHERE recorded_at > ? AND recorded_at <= ? ORDER BY position LIMIT 1",
        (microseconds, time.time_ns() // 1000),
    ).fetchone()
    return last_position(connection) if younger is None else int(younger[0]) - 1


_LAST_POSITION = "SELECT max(position) FROM events WHERE root_id = runs.stream_id"
_LAST_EVENT = f"SELECT recorded_at FROM events WHERE position = ({_LAST_POSITION})"


def _expired(connection: sqlite3.Connection, expiry: Expiry) -> Collected:
    marks = ", ".join("?" * len(expiry.statuses))
    rows = connection.execute(
        "SELECT run_id, (SELECT count(*) FROM streams WHERE streams.run_id = runs.run_id),"
        " (SELECT count(*) FROM events WHERE root_id = runs.stream_id)"
        f" FROM runs WHERE status IN ({marks}) AND pinned = 0 AND ({_LAST_EVENT}) <= ? AND ({_LAST_POSITION}) <= ?"
        " ORDER BY stream_id DESC",
        (*sorted(expiry.statuses), expiry.last_event_until, expiry.last_position_until),
    )
    found, gone = Collected(deleted=[], kept={}), set[str]()
    for run_id, branches, events in rows:
        forks = [fork for fork in _forks(connection, run_id) if fork not in gone]
        if forks:
            found.kept[run_id] = str(RunHasForks(run_id, forks))
        else:
            gone.add(run_id)
            found.deleted.append(DeletedRun(run_id=run_id, branches=branches, events=events))
    return found


def _check_expired(connection: sqlite3.Connection, run_id: str, expiry: Expiry) -> None:
    row = connection.execute(
        f"SELECT status, ({_LAST_EVENT}), ({_LAST_POSITION}) FROM runs WHERE run_id = ?", (run_id,)
    ).fetchone()
    if row is None:
        raise RunNotFound(run_id)
    status, last_event_at, last = row
    if status not in expiry.statuses or last_event_at > expiry.last_event_until or last > expiry.last_position_until:
        raise RunNotExpired(run_id, status)


def _delete(
    connection: sqlite3.Connection, appender: Appender, run_id: str, reason: str, *, carry_over: bool
) -> DeletedRun:
    root_id, _, _ = _stream(connection, run_id, ROOT)
    if connection.execute("SELECT pinned FROM runs WHERE run_id = ?", (run_id,)).fetchone() == (1,):
        raise RunIsPinned(run_id)
    forks = _forks(connection, run_id)
    if forks and not carry_over:
        raise RunHasForks(run_id, forks)
    for fork in forks:
        appender.record([_carrying(appender.state, fork)])
        # Its source is part of what it was, by its first event; what it reads through is its own from here on.
        connection.execute(
            "UPDATE streams SET parent_id = NULL, parent_version = 0 WHERE run_id = ? AND branch = ''", (fork,)
        )
        appender.forget()
    deleted = _remember(connection, root_id, run_id, reason)
    stream_ids = [row[0] for row in _streams(connection, run_id)]
    appender.projectors.clear(stream_ids)
    connection.execute("DELETE FROM events WHERE root_id = ?", (root_id,))
    connection.execute("DELETE FROM idempotency_keys WHERE root_id = ?", (root_id,))
    connection.execute("DELETE FROM streams WHERE run_id = ?", (run_id,))
    appender.forget()
    return deleted


def _forks(connection: sqlite3.Connection, run_id: str) -> list[str]:
    """Return the runs that were forked from this one and still read through it."""
    rows = connection.execute(
        "SELECT fork.run_id FROM streams AS source JOIN streams AS fork ON fork.parent_id = source.stream_id"
        " JOIN branches ON branches.stream_id = fork.stream_id AND branches.parent_stream_id IS NOT NULL"
        " WHERE source.run_id = ? AND fork.run_id <> source.run_id ORDER BY fork.stream_id",
        (run_id,),
    )
    return [fork for (fork,) in rows]


def _carrying(state: State, fork: str) -> Request:
    root = state.stream(fork, ROOT)
    if root is None:
        raise RunNotFound(fork)
    seen = state.from_source(root)
    own_steps = [step for step in seen.steps if state.step(root, step) is not None]
    return Request(run_id=fork, commands=(Record(events=carried_over(fork, seen, own_steps)),))


def _remember(connection: sqlite3.Connection, root_id: int, run_id: str, reason: str) -> DeletedRun:
    """Keep what later checks need to know of a run that goes: its leaf of the tree, and which positions are gone."""
    streams = _streams(connection, run_id)
    heads = [Head(*row[1:]) for row in streams]
    first, last, events = connection.execute(
        "SELECT min(position), max(position), count(*) FROM events WHERE root_id = ?", (root_id,)
    ).fetchone()
    connection.execute(
        "INSERT INTO deleted_runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            root_id,
            run_id,
            streams[-1][0],
            first,
            last,
            events,
            run_leaf(run_id, heads),
            last_position(connection),
            _now(connection),
            reason,
        ),
    )
    return DeletedRun(run_id=run_id, branches=len(heads), events=events)


def _now(connection: sqlite3.Connection) -> int:
    """Return the time, later than that of every deletion before: checkpoints tell by it which of them they saw."""
    (last,) = connection.execute("SELECT coalesce(max(deleted_at), 0) FROM deleted_runs").fetchone()
    return int(max(last + 1, time.time_ns() // 1000))


def _streams(connection: sqlite3.Connection, run_id: str) -> list[tuple[Any, ...]]:
    """Return the id, branch, version and hash of each of a run's streams, in the order they were opened."""
    return connection.execute(
        "SELECT stream_id, branch, version, hash FROM streams WHERE run_id = ? ORDER BY stream_id", (run_id,)
    ).fetchall()


def _stream(connection: sqlite3.Connection, run_id: str, branch: str) -> tuple[int, int, int]:
    row = connection.execute(
        "SELECT root_id, stream_id, version FROM streams WHERE run_id = ? AND branch = ?", (run_id, branch)
    ).fetchone()
    if row is None:
        if branch == ROOT:
            raise RunNotFound(run_id)
        _stream(connection, run_id, ROOT)
        raise BranchNotFound(run_id, branch)
    return row[0], row[1], row[2]


def _vacuum(connection: sqlite3.Connection, path: Path) -> tuple[int, int]:
    """Write the file anew, into the write-ahead log; return its size in bytes before and after."""
    before = _bytes(connection)
    note_removal(connection)
    remove_scratch(path)  # also what a rebuild that was killed has left
    connection.execute("VACUUM")
    return before, _bytes(connection)


def _bytes(connection: sqlite3.Connection) -> int:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    return int(pages) * int(size)


def _emptied(connection: sqlite3.Connection) -> bool:
    return empty_log(connection, waiting_ms=0)
