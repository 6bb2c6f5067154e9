"""Importing runs: the lines of an export as rows of a SQLite log.

All runs of a file are one transaction under the writers' lock: if a line is refused, or the import is interrupted or
killed, nothing of the file is recorded. Events keep their ids, times, payloads and hashes; they get new positions, and
the ordinary projectors fold them into the views. Every hash, link and reduction of the inserted rows is checked as in a
verification. Memory holds one chunk of a run, and its streams.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from msgspec import structs

from engine.encoding.free_form import INTEGER_MAX
from engine.events import BranchForked, Event, RecordedEvent, RunForked, SourceCarriedOver
from engine.logs.sqlite_append import Appender, write_checkpoints
from engine.logs.sqlite_heads import CachedHeads
from engine.logs.sqlite_ledger import EVENTS_OF_RUN, SqliteLedger
from engine.logs.sqlite_read import last_position
from engine.names import ROOT
from engine.ports import State, Stream
from engine.proof.verification import RunCheck
from engine.stored import StoredEvent, StoredStream
from engine.times import from_microseconds
from engine.transfer.event_checks import attempts_created, check_form, check_known, check_references, decoded_at
from engine.transfer.lines import EventLine, RunLine, event_line, stored_event
from engine.transfer.port import Imported, ImportedRun
from engine.transfer.reading import ExportReader
from engine.transfer.refusals import (
    DifferentRunExists,
    HistoryBroken,
    ImportedAttemptExists,
    ImportedEventTooLarge,
    MalformedLine,
    SourceMissing,
)

CHUNK_EVENTS: Final = 1000
CHUNK_BYTES: Final = 4 * 1024 * 1024
_HELD_ELSEWHERE_MAX: Final = 10_000  # remembered attempt ids that another run holds when an event creates them

_INSERT: Final = (
    "INSERT INTO events (position, stream_id, stream_version, event_type, schema_version, event_id, recorded_at,"
    " payload, payload_digest, hash, root_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class Interrupted(Exception):
    """The import was asked to stop."""


class Importing:
    """One import, inside the caller's transaction.

    Args:
        appender: its projectors fold the events; afterwards the caller calls its `forget`.
        event_bytes_max: the largest payload that is accepted, in bytes.
        pause: called after each chunk; it may raise `Interrupted`.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        appender: Appender,
        reader: ExportReader,
        *,
        event_bytes_max: int,
        pause: Callable[[], None],
    ) -> None:
        appender.catch_up()  # may raise StoreChanged
        self.connection = connection
        self.projectors = appender.projectors
        self.state: State = appender.state
        self.reader = reader
        self.event_bytes_max = event_bytes_max
        self.pause = pause
        self.heads = CachedHeads(connection)
        self.ledger = SqliteLedger(connection)
        self.position = last_position(connection)
        self._held_elsewhere: dict[str, int] = {}

    def run(self) -> Imported:
        """Import every run of the file.

        Raises:
            ImportRefused, DifferentRunExists, ImportedAttemptExists, CannotDecode, ImportedEventTooLarge, Interrupted
        """
        runs = []
        for run_line, events in self.reader.runs():
            existing = self.ledger.named(run_line.run, ROOT)
            if existing is None:
                runs.append(_NewRun(self, run_line).record(events))
            else:
                runs.append(self._compare(existing, events))
        self._check_held_once()
        write_checkpoints(self.connection, self.projectors, self.position)
        return Imported(tuple(runs))

    def check_free(self, attempt_id: str, stream: Stream, line: int) -> None:
        """Check that an attempt with that id can be created in a stream.

        An id that another stream holds may be freed later in the file, which is ordered by run and not by the order of
        recording; it is checked again at the end.

        Raises:
            ImportedAttemptExists: the stream has the attempt already, or too many ids are held elsewhere.
        """
        if self.state.attempt(attempt_id) is None:
            return
        if self.state.attempt(attempt_id, stream) is not None or len(self._held_elsewhere) == _HELD_ELSEWHERE_MAX:
            raise ImportedAttemptExists(attempt_id, line)
        self._held_elsewhere[attempt_id] = line

    def _check_held_once(self) -> None:
        for attempt_id, line in self._held_elsewhere.items():
            holders = "SELECT count(*) FROM task_attempts WHERE attempt_id = ?"
            if self.connection.execute(holders, (attempt_id,)).fetchone()[0] > 1:
                raise ImportedAttemptExists(attempt_id, line)

    def _compare(self, existing: StoredStream, events: Iterator[EventLine]) -> ImportedRun:
        """Check that a run that exists already is byte for byte the run of the file."""
        rows = self.connection.execute(f"{EVENTS_OF_RUN} ORDER BY position", (existing.root_id,))
        branches, count = set(), 0
        for count, line in enumerate(events, start=1):
            row = rows.fetchone()
            if row is None or _as_line(row, line) != line:
                raise DifferentRunExists(existing.run_id, self.reader.line)
            branches.add(line.branch)
            if count % CHUNK_EVENTS == 0:
                self.pause()
        if rows.fetchone() is not None:
            raise DifferentRunExists(existing.run_id, self.reader.line)
        return ImportedRun(run_id=existing.run_id, branches=len(branches), events=count, existed=True)


def _as_line(row: tuple[object, ...], wanted: EventLine) -> EventLine:
    """Return an existing event's export line, with the position and rendering of the line to compare it with."""
    branch, *columns = row
    stored = StoredEvent(*columns)  # type: ignore[arg-type]
    found = event_line(wanted.run, str(branch), wanted.position, stored, readable=False)
    return structs.replace(found, event=wanted.event)


class _NewRun:
    """A run that did not exist before: its rows are inserted, then read back, checked and folded."""

    def __init__(self, importing: Importing, run_line: RunLine) -> None:
        self._importing = importing
        self._run_line = run_line
        self._line = importing.reader.line
        self._root_id = 0
        self._streams: dict[int, Stream] = {}
        self._missing_source: SourceMissing | None = None

    def record(self, events: Iterator[EventLine]) -> ImportedRun:
        """Record the run.

        Raises:
            ImportRefused, ImportedAttemptExists, CannotDecode, ImportedEventTooLarge, Interrupted
        """
        count = self._insert(events)
        self._check_and_fold()
        return ImportedRun(run_id=self._run_line.run, branches=len(self._streams), events=count, existed=False)

    def _insert(self, events: Iterator[EventLine]) -> int:
        chunk, size, count = list[tuple[Any, ...]](), 0, 0
        for line in events:
            count += 1
            chunk.append((*structs.astuple(self._row(line)), self._root_id))
            size += len(line.payload or b"")
            if len(chunk) >= CHUNK_EVENTS or size >= CHUNK_BYTES:
                self._insert_chunk(chunk)
                chunk, size = [], 0
        self._insert_chunk(chunk)
        return count

    def _insert_chunk(self, chunk: Sequence[tuple[Any, ...]]) -> None:
        self._importing.connection.executemany(_INSERT, chunk)
        self._importing.heads.flush()
        self._importing.pause()

    def _row(self, line: EventLine) -> StoredEvent:
        importing = self._importing
        check_known(line, importing.reader.line)
        size = len(line.payload or b"")
        if size > importing.event_bytes_max:
            raise ImportedEventTooLarge(line.type, size, importing.event_bytes_max, importing.reader.line)
        stream = importing.heads.find(line.run, line.branch) or self._open(line)
        try:
            row = stored_event(line, importing.position + 1, stream.stream_id)
        except ValueError as error:
            raise MalformedLine(importing.reader.line, str(error)) from error
        importing.position = row.position
        stream.version, stream.hash = row.stream_version, row.hash
        importing.heads.mark_changed(stream)
        return row

    def _open(self, line: EventLine) -> Stream:
        stream = self._importing.heads.open(line.run, line.branch, self._parent(line))
        self._root_id = self._root_id or stream.stream_id
        self._streams[stream.stream_id] = structs.replace(stream)
        return stream

    def _parent(self, line: EventLine) -> Stream | None:
        """Return the stream that a stream was forked from, at the version of the fork, or None."""
        match decoded_at(self._importing.reader.line, line.type, line.schema_version, line.payload):
            case BranchForked(parent=name, parent_version=version):
                parent = self._importing.heads.find(line.run, name)
            case RunForked(source_version=version) as event if not self._run_line.carried_over:
                parent = self._source(event)
            case _:
                return None
        return None if parent is None else structs.replace(parent, version=min(max(version, 0), INTEGER_MAX))

    def _source(self, event: RunForked) -> Stream | None:
        importing = self._importing
        stored = importing.ledger.named(event.source_run_id, event.source_branch)
        row = None if stored is None else importing.ledger.event_of(stored, event.source_version)
        if row is None or row.hash != event.source_hash:
            source = event.source_run_id, event.source_branch, event.source_version
            # Raised only after the event's own hash is verified, whose mismatch takes precedence.
            self._missing_source = SourceMissing(importing.reader.line, self._run_line.run, source)
            return None
        return importing.heads.find(event.source_run_id, event.source_branch)

    def _check_and_fold(self) -> None:
        importing = self._importing
        root = importing.ledger.stream(self._root_id)
        assert root is not None, "just inserted"
        check, count, size, carried_over = RunCheck(root), 0, 0, False
        rows = importing.ledger.run_events(self._root_id, 0, importing.position)
        for count, row in enumerate(rows, start=1):
            line = self._line + count
            check.check(row, importing.ledger)
            _raise_problem(check, line)
            if self._missing_source is not None:
                raise self._missing_source
            event = decoded_at(line, row.event_type, row.schema_version, row.payload)
            carried_over |= isinstance(event, SourceCarriedOver)
            size += len(row.payload or b"")
            with _refused_at(line):
                self._fold(row, event, line)
                if count % CHUNK_EVENTS == 0 or size >= CHUNK_BYTES:
                    self._flush()
                    size = 0
        with _refused_at(self._line + count):
            self._flush()
        check.finish(importing.ledger.streams_of(self._run_line.run))
        _raise_problem(check, importing.reader.line)
        if carried_over is not self._run_line.carried_over:
            raise HistoryBroken(self._line, "link", "its carried_over does not match its events")

    def _fold(self, row: StoredEvent, event: Event, line: int) -> None:
        stream = self._streams[row.stream_id]
        check_form(row, event, line)
        check_references(event, stream, self._importing.state, line)
        created = set[str]()
        for attempt_id in attempts_created(event):
            if attempt_id in created:
                raise ImportedAttemptExists(attempt_id, line)
            created.add(attempt_id)
            self._importing.check_free(attempt_id, stream, line)
        moment = from_microseconds(row.recorded_at)
        envelope = stream.run_id, stream.branch, row.stream_version, row.event_id.hex(), moment, row.hash
        self._importing.projectors.apply(stream, RecordedEvent(row.position, *envelope, event))

    def _flush(self) -> None:
        self._importing.projectors.flush()
        self._importing.pause()


@contextmanager
def _refused_at(line: int) -> Iterator[None]:
    """Raise `HistoryBroken` if the events violate a constraint of the views' tables."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise HistoryBroken(line, "link", f"the views cannot hold the events up to this line: {error}") from error


def _raise_problem(check: RunCheck, line: int) -> None:
    if check.problems:
        problem = check.problems[0]
        raise HistoryBroken(line, problem.kind, problem.message)
