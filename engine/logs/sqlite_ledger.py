"""A SQLite log's stored rows, for verification, which trusts nothing: text may be invalid UTF-8, columns mistyped."""

import heapq
import sqlite3
from collections.abc import Callable, Collection, Iterator
from itertools import groupby
from operator import attrgetter, itemgetter
from types import NoneType
from typing import Any, Final, TypeVar

from msgspec import Struct

from engine.encoding.free_form import INTEGER_MAX, INTEGER_MIN
from engine.model import Head
from engine.proof.merkle import deleted_leaf, run_leaf
from engine.stored import StoredEvent, StoredStream

Result = TypeVar("Result")

_STREAMS: Final = "SELECT stream_id, root_id, run_id, branch, parent_id, parent_version, version, hash FROM streams"
EVENTS: Final = (
    "SELECT position, stream_id, stream_version, event_type, schema_version, event_id, recorded_at, payload,"
    " payload_digest, hash FROM events"
)
EVENTS_OF_RUN: Final = (
    "SELECT branch, position, stream_id, stream_version, event_type, schema_version, event_id, recorded_at, payload,"
    " payload_digest, events.hash FROM events JOIN streams USING (stream_id) WHERE events.root_id = ?"
)
"""A run's events, each row with its branch before the columns of a `StoredEvent`."""
_DELETED: Final = (
    "SELECT root_id, run_id, first_position, last_position, events, leaf, deleted_at, reason FROM deleted_runs"
)

_INTEGERS: Final = range(INTEGER_MIN, INTEGER_MAX + 1)
_UNREADABLE: Final = dict.fromkeys(range(0xDC80, 0xDD00), "\x1a")  # no name that was recorded has a control character


_EVENT_COLUMNS: Final = (int, int, int, str, int, bytes, int, (bytes, NoneType), (bytes, NoneType), bytes)
_STREAM_COLUMNS: Final = (int, int, str, str, (int, NoneType), int, int, bytes)
_TOMBSTONE_COLUMNS: Final = (int, str, int, int, int, bytes, int, str)
_NEVER_RECORDED: Final = {int: -1, str: "\x1a", bytes: b""}


class Tombstone(Struct, frozen=True):
    """The record of a deleted run: its positions, its number of events, and its leaf in the Merkle tree.

    `deleted_at` in microseconds since 1970, strictly increasing from one deletion to the next.
    """

    root_id: int
    run_id: str
    first_position: int
    last_position: int
    events: int
    leaf: bytes
    deleted_at: int
    reason: str

    def leaf_now(self) -> bytes:
        """Return the leaf that the tree has since the deletion."""
        return deleted_leaf(self.run_id, self.leaf, self.deleted_at, self.reason)


class SqliteLedger:
    """`engine.stored.Ledger` on one connection. Use it inside one snapshot."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def stream(self, stream_id: int) -> StoredStream | None:
        return self._stream("stream_id = ?", stream_id)

    def named(self, run_id: str, branch: str) -> StoredStream | None:
        return self._stream("run_id = ? AND branch = ?", run_id, branch)

    def event_at(self, position: int) -> StoredEvent | None:
        return self._event("position = ?", position)

    def event_of(self, stream: StoredStream, stream_version: int) -> StoredEvent | None:
        if stream_version not in _INTEGERS:  # a forged event may name any number
            return None
        # Versions are not indexed: search the run's events from the end that is probably nearer.
        order = "DESC" if stream_version > stream.version // 2 else "ASC"
        where = f"root_id = ? AND stream_id = ? AND stream_version = ? ORDER BY position {order}"
        return self._event(where, stream.root_id, stream.stream_id, stream_version)

    def events_of_types(self, root_id: int, types: Collection[str]) -> Iterator[StoredEvent]:
        marks = ", ".join("?" * len(types))
        where = f"WHERE root_id = ? AND event_type IN ({marks}) ORDER BY position"
        return (_as_event(row) for row in self._connection.execute(f"{EVENTS} {where}", (root_id, *types)))

    def run_events(self, root_id: int, after: int, limit: int) -> Iterator[StoredEvent]:
        """Yield the next events of a run, reading them lazily."""
        where = "WHERE root_id = ? AND position > ? ORDER BY position LIMIT ?"
        return (_as_event(row) for row in self._connection.execute(f"{EVENTS} {where}", (root_id, after, limit)))

    def count(self, root_id: int) -> int:
        """Return how many events a run has."""
        (events,) = self._connection.execute("SELECT count(*) FROM events WHERE root_id = ?", (root_id,)).fetchone()
        return int(events)

    def streams_of(self, run_id: str) -> Iterator[StoredStream]:
        rows = self._connection.execute(f"{_STREAMS} WHERE run_id = ? ORDER BY stream_id", (run_id,))
        return (_as_stream(row) for row in rows)

    def runs(self, after: int | None, limit: int) -> list[StoredStream | Tombstone]:
        """Return the next runs in the order in which they were opened, including deleted ones.

        Args:
            after: the root stream id of the previous run; None for the first runs.
        """

        def next_rows(select: str, root_id: str) -> list[tuple[Any, ...]]:
            beyond = "" if after is None else f" AND {root_id} > {after}"
            return self._connection.execute(f"{select}{beyond} ORDER BY {root_id} LIMIT {limit}").fetchall()

        runs: list[StoredStream | Tombstone] = [
            *map(_as_stream, next_rows(f"{_STREAMS} WHERE branch = ''", "stream_id")),
            *map(_as_tombstone, next_rows(f"{_DELETED} WHERE true", "root_id")),
        ]
        return sorted(runs, key=root_stream_id)[:limit]

    def deleted(self, root_id: int | None = None) -> list[Tombstone]:
        """Return the deleted runs, or just the one with that root stream id."""
        where = "" if root_id is None else f" WHERE root_id = {root_id}"
        return [_as_tombstone(row) for row in self._connection.execute(f"{_DELETED}{where} ORDER BY root_id")]

    def deletions(self) -> int:
        """Return the number of deleted runs."""
        (deletions,) = self._connection.execute("SELECT count(*) FROM deleted_runs").fetchone()
        return int(deletions)

    def time_of_deletion(self, number: int) -> int:
        """Return the time of the deletion with that number, from 1, or of the last if there are fewer; -1 for none."""
        (deleted_at,) = self._connection.execute(
            "SELECT max(deleted_at) FROM (SELECT deleted_at FROM deleted_runs ORDER BY deleted_at LIMIT ?)",
            (number,),
        ).fetchone()
        return deleted_at if isinstance(deleted_at, int) else -1

    def _stream(self, where: str, *values: object) -> StoredStream | None:
        row = self._connection.execute(f"{_STREAMS} WHERE {where}", values).fetchone()
        return None if row is None else _as_stream(row)

    def _event(self, where: str, *values: object) -> StoredEvent | None:
        # Without a limit SQLite goes on looking for a second row, to the end of the run.
        row = self._connection.execute(f"{EVENTS} WHERE {where} LIMIT 1", values).fetchone()
        return None if row is None else _as_event(row)


def _as_event(row: tuple[Any, ...]) -> StoredEvent:
    return StoredEvent(*_typed(row, _EVENT_COLUMNS))


def _as_stream(row: tuple[Any, ...]) -> StoredStream:
    return StoredStream(*_typed(row, _STREAM_COLUMNS))


def _as_tombstone(row: tuple[Any, ...]) -> Tombstone:
    return Tombstone(*_typed(row, _TOMBSTONE_COLUMNS))


def _typed(row: tuple[Any, ...], types: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a row with mistyped values, which a damaged file may hold, replaced by values that are never recorded."""
    if all(map(isinstance, row, types)):
        return row
    return tuple(
        value if isinstance(value, wanted) else _NEVER_RECORDED[wanted if isinstance(wanted, type) else wanted[0]]
        for value, wanted in zip(row, types, strict=True)
    )


def root_stream_id(run: StoredStream | Tombstone) -> int:
    """Return the id of a run's root stream."""
    return run.stream_id if isinstance(run, StoredStream) else run.root_id


def lenient(job: Callable[[sqlite3.Connection], Result]) -> Callable[[sqlite3.Connection], Result]:
    """Wrap a reader's job so that it reads invalid UTF-8 by `as_text` instead of failing."""

    def run(connection: sqlite3.Connection) -> Result:
        before = connection.text_factory
        connection.text_factory = as_text
        try:
            return job(connection)
        except UnicodeDecodeError as error:  # raised by sqlite3 for an error message about a damaged file
            raise sqlite3.DatabaseError(str(error)) from error
        finally:
            connection.text_factory = before

    return run


def leaves(connection: sqlite3.Connection) -> Iterator[bytes]:
    """Yield the leaf of every run, including deleted ones, in the order in which the runs were opened."""
    deleted = ((run.root_id, run.leaf_now()) for run in SqliteLedger(connection).deleted())
    return (leaf for _, leaf in heapq.merge(_existing_leaves(connection), deleted, key=itemgetter(0)))


def _existing_leaves(connection: sqlite3.Connection) -> Iterator[tuple[int, bytes]]:
    """Yield the root stream id and the leaf of every existing run."""
    streams = map(_as_stream, connection.execute(f"{_STREAMS} ORDER BY root_id, stream_id"))
    for root_id, of_run in groupby(streams, key=attrgetter("root_id")):
        first, *rest = of_run
        heads = [Head(each.branch, each.version, each.hash) for each in (first, *rest)]
        yield root_id, run_leaf(first.run_id, heads)


def as_text(stored: bytes) -> str:
    """Decode stored bytes; invalid UTF-8 becomes a control character, which no recorded name contains."""
    text = stored.decode("utf-8", "surrogateescape")
    return text if text.isascii() else text.translate(_UNREADABLE)
