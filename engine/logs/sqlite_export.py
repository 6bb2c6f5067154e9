"""Exporting runs: the rows of a SQLite log as lines.

Each chunk is one job of a reader, so that no read stays open while a slow receiver consumes the previous chunk. A run
is exported as of its first chunk: later events are left out, and an erasure meanwhile aborts the export, because the
event that records it would be missing.
"""

import sqlite3
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from msgspec import Struct

from engine.errors import RunNotFound
from engine.events import PayloadErased, RunForked, SourceCarriedOver
from engine.logs.readers import Readers
from engine.logs.sqlite_ledger import EVENTS_OF_RUN
from engine.logs.sqlite_read import last_position
from engine.names import ROOT
from engine.ports import Progress
from engine.stored import StoredEvent
from engine.transfer.lines import (
    FORMAT,
    FORMAT_VERSION,
    End,
    Header,
    HeadLine,
    RunEnd,
    RunLine,
    encode_line,
    event_line,
)
from engine.transfer.refusals import ExportOvertaken

CHUNK_EVENTS: Final = 2000
CHUNK_BYTES: Final = 4 * 1024 * 1024

_EVENTS: Final = f"{EVENTS_OF_RUN} AND position > ? AND position <= ? ORDER BY position LIMIT ?"

# A run and all runs it inherits from. After a carry-over there is no source any more.
_WITH_SOURCES: Final = (
    "WITH RECURSIVE wanted (run_id) AS (SELECT ? UNION SELECT source.run_id FROM wanted"
    " JOIN streams AS fork ON fork.run_id = wanted.run_id AND fork.branch = ''"
    " JOIN streams AS source ON source.stream_id = fork.parent_id) SELECT run_id FROM wanted"
)


class _Run(Struct, frozen=True):
    run_id: str
    root_id: int
    events: int


async def export_lines(
    readers: Readers, run_ids: Sequence[str] | None, *, with_sources: bool, readable: bool, progress: Progress | None
) -> AsyncGenerator[bytes, None]:
    """Yield whole lines, several at a time; see `Engine.export_runs`."""
    runs = await readers.run(lambda connection: _select_runs(connection, run_ids, with_sources=with_sources))
    total, done = sum(run.events for run in runs), 0
    yield encode_line(Header(format=FORMAT, version=FORMAT_VERSION, readable=readable))
    for run in runs:
        export = _RunExport(run, readable=readable)
        while not export.ended:
            yield await readers.run(export.next_chunk)
            if progress is not None:
                progress(min(done + export.events, total), total)
        done += export.events
    yield encode_line(End(runs=len(runs), events=done))


class _RunExport:
    """One run, chunk by chunk. `events` is the number of events exported so far."""

    def __init__(self, run: _Run, *, readable: bool) -> None:
        self.events = 0
        self.ended = False
        self._run = run
        self._readable = readable
        self._after = 0
        self._until: int | None = None
        self._expected = 0
        self._heads: dict[str, tuple[int, str]] = {}

    def next_chunk(self, connection: sqlite3.Connection) -> bytes:
        """Return the next lines; after the last event, including the heads and the run's end."""
        opening = self._begin_lines(connection) if self._until is None else b""
        events = self._next_events(connection)
        if self.ended:
            self._check_complete(connection)
            events.append(self._end_lines())
        return opening + b"".join(events)

    def _begin_lines(self, connection: sqlite3.Connection) -> bytes:
        self._until = last_position(connection)
        (self._expected,) = connection.execute(
            "SELECT count(*) FROM events WHERE root_id = ?", (self._run.root_id,)
        ).fetchone()
        return encode_line(RunLine(run=self._run.run_id, carried_over=_is_carried_over(connection, self._run.root_id)))

    def _next_events(self, connection: sqlite3.Connection) -> list[bytes]:
        lines, size = list[bytes](), 0
        rows = connection.execute(_EVENTS, (self._run.root_id, self._after, self._until, CHUNK_EVENTS))
        for branch, *columns in rows:
            row = StoredEvent(*columns)
            self.events += 1
            line = event_line(self._run.run_id, branch, self.events, row, readable=self._readable)
            self._heads[branch] = line.stream_version, line.hash
            self._after = row.position
            lines.append(encode_line(line))
            size += len(lines[-1])
            if size > CHUNK_BYTES:
                return lines
        self.ended = len(lines) < CHUNK_EVENTS
        return lines

    def _check_complete(self, connection: sqlite3.Connection) -> None:
        changed = connection.execute(
            "SELECT 1 FROM events WHERE root_id = ? AND position > ? AND event_type IN (?, ?)",
            (self._run.root_id, self._until, PayloadErased.__name__, SourceCarriedOver.__name__),
        ).fetchone()
        if changed is not None or not self.events or self.events != self._expected:
            raise ExportOvertaken(self._run.run_id)

    def _end_lines(self) -> bytes:
        run = self._run.run_id
        heads = [
            HeadLine(run=run, branch=branch, stream_version=version, hash=hash_)
            for branch, (version, hash_) in self._heads.items()
        ]
        end = RunEnd(run=run, branches=len(heads), events=self.events)
        return b"".join([*map(encode_line, heads), encode_line(end)])


def _select_runs(connection: sqlite3.Connection, run_ids: Sequence[str] | None, *, with_sources: bool) -> list[_Run]:
    """Return the runs in the order in which they were opened, so sources come before their forks."""
    if run_ids is None:
        return [_Run(*row) for row in connection.execute(f"{_RUNS} ORDER BY stream_id")]
    wanted = set(run_ids)
    if with_sources:
        wanted = {found for run_id in wanted for (found,) in connection.execute(_WITH_SOURCES, (run_id,))}
    runs = [_find_run(connection, run_id) for run_id in sorted(wanted)]
    return sorted(runs, key=lambda run: run.root_id)


_RUNS: Final = (
    "SELECT run_id, stream_id, (SELECT count(*) FROM events WHERE events.root_id = streams.stream_id)"
    " FROM streams WHERE branch = ''"
)


def _find_run(connection: sqlite3.Connection, run_id: str) -> _Run:
    row = connection.execute(f"{_RUNS} AND run_id = ?", (run_id,)).fetchone()
    if row is None:
        raise RunNotFound(run_id)
    return _Run(*row)


def _is_carried_over(connection: sqlite3.Connection, root_id: int) -> bool:
    row = connection.execute(
        "SELECT 1 FROM streams JOIN events USING (stream_id) WHERE stream_id = ? AND branch = ? AND parent_id IS NULL"
        " AND events.root_id = stream_id AND stream_version = 1 AND event_type = ?",
        (root_id, ROOT, RunForked.__name__),
    ).fetchone()
    return row is not None
