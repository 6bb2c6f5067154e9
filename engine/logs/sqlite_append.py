"""Appending to the SQLite log: one batch, one transaction, one job on the writing connection's thread.

Under the cross-process lock and `BEGIN IMMEDIATE`: look up idempotency keys, check expected versions, decide, hash,
insert, project, commit. Stream heads and view rows are cached between batches; after another process has written, the
new events tell which streams' entries to drop. A refused request does not affect the others of its batch.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from engine.bulk_insert import insert_rows
from engine.codec import SCHEMA_VERSIONS, encode_canonical, link, payload_digest
from engine.commands import Request
from engine.decisions import Decision, decide
from engine.encoding.event_ids import EventIds, as_milliseconds
from engine.errors import EventTooLarge, StoreChanged, VersionConflict
from engine.events import Event, RecordedEvent
from engine.expected_version import holds
from engine.logs.sqlite_epoch import Epoch, read_epoch
from engine.logs.sqlite_errors import BAD_ROW
from engine.logs.sqlite_heads import CachedHeads
from engine.logs.sqlite_idempotency import IdempotencyKeys
from engine.logs.sqlite_read import last_position
from engine.logs.sqlite_schema import SCHEMA_VERSION
from engine.logs.transactions import transaction
from engine.names import ROOT
from engine.ports import Answer, Recorded, State, StreamHeads
from engine.projectors import Projectors
from engine.times import from_microseconds

MakeViews: TypeAlias = Callable[[sqlite3.Connection, StreamHeads, Callable[[], None]], tuple[Projectors, State]]
"""Creates the inline views and the state that decisions read. Its callback writes the batch recorded so far."""

_EVENT_COLUMNS = (
    "position",
    "root_id",
    "stream_id",
    "stream_version",
    "event_type",
    "schema_version",
    "event_id",
    "recorded_at",
    "payload",
    "hash",
)

_CAUGHT_UP_EVENTS_MAX = 10_000  # after more events of other processes, dropping the whole cache is no slower

_REQUESTS_BUFFERED_MAX = 256  # requests of one transaction that are buffered in memory before they are written


class Appender:
    """Appends batches on a connection. Every method runs on the connection's thread.

    Args:
        connection: in autocommit mode; its transactions begin here.
        make_views: creates the inline views and the state that decisions read.
        event_bytes_max: the largest encoded event that is accepted, in bytes.
    """

    def __init__(self, connection: sqlite3.Connection, make_views: MakeViews, *, event_bytes_max: int) -> None:
        self._connection = connection
        self._heads = CachedHeads(connection)
        self._projectors, self._state = make_views(connection, self._heads, self._write)
        self._event_bytes_max = event_bytes_max
        self._data_version = -1
        self._position = 0
        self._recorded_at = 0
        self._moment = from_microseconds(0)
        self._milliseconds = b""
        self._event_ids = EventIds()
        self._keys = IdempotencyKeys(connection)
        self._epoch: Epoch | None = None
        self._rows: list[tuple[object, ...]] = []
        self._partly_applied = False

    @property
    def projectors(self) -> Projectors:
        """The inline views, for operations other than appending that change them."""
        return self._projectors

    @property
    def state(self) -> State:
        """The state that decisions read, current inside a transaction after `record` or `catch_up`."""
        return self._state

    def append(self, requests: Sequence[Request]) -> list[Answer]:
        """Record a batch and return an answer to each request. The caller holds the cross-process lock.

        If a request fails after part of it was applied, the transaction is rolled back and each request of the batch
        gets its own transaction. An answer may be a `sqlite3.Error`, which the log translates.
        """
        try:
            return self._transaction(requests)
        except Exception as error:  # noqa: BLE001 - each caller gets the error of its own request
            is_about_the_file = isinstance(error, sqlite3.Error) and not isinstance(error, BAD_ROW)
            if len(requests) == 1 or is_about_the_file:
                return [error] * len(requests)
        return [answer for request in requests for answer in self.append([request])]

    def record(self, requests: Iterable[Request], *, event_bytes_max: int | None = None) -> None:
        """Record any number of requests inside the caller's transaction. The caller holds the cross-process lock.

        The first refusal is raised, with `requests` at the refused one; the caller then rolls back and calls `forget`.

        Args:
            event_bytes_max: the largest encoded event of these requests, in bytes; by default the log's limit.
        """
        limit, self._event_bytes_max = self._event_bytes_max, event_bytes_max or self._event_bytes_max
        try:
            self.catch_up()
            for count, request in enumerate(requests, start=1):
                self._record(request)
                if count % _REQUESTS_BUFFERED_MAX == 0:
                    self._flush()
            self._flush()
        finally:
            self._event_bytes_max = limit

    def _transaction(self, requests: Sequence[Request]) -> list[Answer]:
        try:
            with transaction(self._connection):
                self.catch_up()
                before = self._position
                answers = [self._answer(request) for request in requests]
                if self._position > before:
                    self._flush()
                return answers
        except BaseException:
            self.forget()
            raise

    def forget(self) -> None:
        """Drop the caches; the next batch reads from the file."""
        self._data_version = -1
        self._epoch = None
        self._rows.clear()
        self._heads.forget()
        self._projectors.forget()
        self._state.forget()

    def catch_up(self) -> None:
        """Drop outdated cache entries and take the current time; `record` does this too. Call it inside a transaction.

        Raises:
            StoreChanged
        """
        version = self._connection.execute("PRAGMA data_version").fetchone()[0]
        if version != self._data_version:
            self._forget_outdated()
            self._data_version = version
        self._recorded_at = time.time_ns() // 1000
        self._moment = from_microseconds(self._recorded_at)
        self._milliseconds = as_milliseconds(self._recorded_at)

    def _forget_outdated(self) -> None:
        """Drop cache entries of streams that another process appended to, or all of them if it did more than append."""
        epoch = read_epoch(self._connection)
        position = last_position(self._connection)
        if epoch == self._epoch and position - self._position <= _CAUGHT_UP_EVENTS_MAX:
            moved = "SELECT DISTINCT stream_id FROM events WHERE position > ?"
            stream_ids = {stream_id for (stream_id,) in self._connection.execute(moved, (self._position,))}
            self._heads.forget(stream_ids)
            self._projectors.forget(stream_ids)
        else:
            self.forget()
            self._check_versions(epoch)
            self._epoch = epoch
        self._position = position

    def _check_versions(self, epoch: Epoch) -> None:
        # Newer code in another process may have migrated the file or rebuilt its views.
        if epoch.log_version != SCHEMA_VERSION:
            raise StoreChanged("the log's tables")
        if epoch.view_versions != self._projectors.versions():
            raise StoreChanged("its views")

    def _answer(self, request: Request) -> Answer:
        self._partly_applied = False
        try:
            return self._record(request)
        except Exception as error:
            if self._partly_applied or isinstance(error, sqlite3.Error):
                raise
            return error

    def _record(self, request: Request) -> Recorded:
        run_id = request.run_id
        if request.idempotency_key is not None and (recorded := self._find_duplicate(request)) is not None:
            return recorded
        branch = request.commands[0].branch
        guarded = self._heads.find(run_id, branch)
        actual = 0 if guarded is None else guarded.version
        if not holds(request.expected_version, actual):
            raise VersionConflict(run_id, branch, request.expected_version, actual)
        first = self._position + 1
        events: list[RecordedEvent] = []
        for command in request.commands:
            self._append(run_id, decide(run_id, command, self._state), events)
        guarded = guarded or self._heads.find(run_id, branch)
        answer = Recorded(tuple(events), 0 if guarded is None else guarded.version)
        if request.idempotency_key is not None:
            self._partly_applied = True
            self._keys.remember(self._heads.root_id(run_id), request, first, answer)
        return answer

    def _append(self, run_id: str, decision: Decision, recorded: list[RecordedEvent]) -> None:
        """Add a decision's events to the batch: hash-chain them, fold them into the views and buffer their rows."""
        if not decision.events:
            return
        encoded = [self._encoded(event) for event in decision.events]
        self._partly_applied = True
        stream = decision.stream
        if decision.opens is not None:
            stream = self._heads.open(run_id, decision.opens.branch, decision.opens.parent)
        assert stream is not None, "a decision with events names its stream or opens one"
        root_id, branch = self._heads.root_id(run_id), stream.branch
        for event, payload in zip(decision.events, encoded, strict=True):
            event_type = type(event).__name__
            schema_version = SCHEMA_VERSIONS[event_type]
            event_id = self._event_ids.take(self._milliseconds)
            self._position += 1
            stream.version += 1
            digest = payload_digest(payload)
            header = event_type, schema_version, event_id, self._recorded_at
            stream.hash = link(stream.hash, run_id, branch, stream.version, *header, digest)
            row = (
                self._position,
                root_id,
                stream.stream_id,
                stream.version,
                event_type,
                schema_version,
                # sqlite3 binds byte arrays without looking for adapters, which would take longer than the copy.
                bytearray(event_id),
                self._recorded_at,
                bytearray(payload),
                bytearray(stream.hash),
            )
            self._rows.append(row)
            envelope = RecordedEvent(
                self._position, run_id, branch, stream.version, event_id.hex(), self._moment, stream.hash, event
            )
            self._projectors.apply(stream, envelope)
            recorded.append(envelope)
        self._heads.mark_changed(stream)

    def _encoded(self, event: Event) -> bytes:
        payload = encode_canonical(event)
        if len(payload) > self._event_bytes_max:
            raise EventTooLarge(type(event).__name__, len(payload), self._event_bytes_max)
        return payload

    def _find_duplicate(self, request: Request) -> Recorded | None:
        root = self._heads.find(request.run_id, ROOT)
        if root is None:
            return None
        kept = self._keys.find(root.stream_id, request)
        if kept is None:
            return None
        self._insert_events()
        return self._keys.read(kept)

    def _flush(self) -> None:
        self._write()
        self._heads.trim()
        write_checkpoints(self._connection, self._projectors, self._position)

    def _write(self) -> None:
        """Write the rows buffered so far, so that SQL can read them within the batch."""
        self._insert_events()
        self._heads.flush()
        self._projectors.flush()

    def _insert_events(self) -> None:
        insert_rows(self._connection, "events", _EVENT_COLUMNS, self._rows)
        self._rows.clear()


def write_checkpoints(connection: sqlite3.Connection, projectors: Projectors, position: int) -> None:
    """Set the views' checkpoints."""
    connection.executemany(
        "UPDATE view_checkpoints SET position = ? WHERE view = ?",
        [(position, projector.name) for projector in projectors.all],
    )
