"""Past states: the view tables as of a point, folded from the events up to it into an in-memory database.

The database has the same tables as the file, including `streams`, so reads use the same SQL. The file is only read.
Time and memory are proportional to the number of folded events: those of the run up to the point, and those of its
sources up to the forks.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime

from msgspec import structs

from engine.codec import decode_recorded
from engine.events import (
    AttemptCreated,
    AttemptUpdated,
    BranchForked,
    ExternalRunRegistered,
    ExternalRunUpdated,
    RecordedEvent,
    RunConfigured,
    RunCreated,
    RunFinalized,
    RunForked,
    RunPinned,
    RunStatusChanged,
    RunUnpinned,
    SourceCarriedOver,
    StepLogged,
    StepRemoved,
    StepStatusChanged,
)
from engine.names import ROOT
from engine.point import Position
from engine.ports import Stream
from engine.projectors import Projectors
from engine.row_chunks import chunks
from projections.own_parameters import LATEST
from projections.partition_tables import StepRow
from projections.partitions import Partitions
from projections.reading import lineage
from projections.state import StateViews
from projections.streams import event_of, find_stream, position_at, version_at

CHUNK_EVENTS = 1000

_STREAMS = """
CREATE TABLE streams (
    stream_id INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL,
    branch TEXT NOT NULL,
    parent_id INTEGER,
    parent_version INTEGER NOT NULL,
    version INTEGER NOT NULL,
    hash BLOB NOT NULL,
    UNIQUE (run_id, branch)
) STRICT;
CREATE INDEX streams_by_parent ON streams (parent_id);
"""
_EVENTS = (
    "SELECT stream_id, run_id, branch, parent_id, parent_version, position, stream_version, event_id, recorded_at,"
    " events.hash, event_type, schema_version, payload FROM events JOIN streams USING (stream_id)"
)
_OPENING = (RunCreated, RunForked, BranchForked, SourceCarriedOver)
STEP_EVENTS = (*_OPENING, StepLogged, StepStatusChanged, StepRemoved, AttemptCreated, AttemptUpdated)
"""The event types that determine a branch's steps and attempts, including those that open a branch."""
CONFIGURATION_EVENTS = (*_OPENING, RunConfigured)
"""Likewise for a run's configuration."""
RUN_EVENTS = (*_OPENING, RunStatusChanged, RunFinalized, RunPinned, RunUnpinned)
"""Likewise for its row in the list of runs."""
EXTERNAL_RUN_EVENTS = (*_OPENING, StepRemoved, ExternalRunRegistered, ExternalRunUpdated)
"""Likewise for its external runs."""

_MENTIONS_STEP = "instr(payload, CAST(? AS BLOB)) > 0"  # MessagePack holds a name's bytes unchanged
_OF_RUN = "events.root_id = (SELECT root_id FROM streams WHERE stream_id = ?)"


@contextmanager
def past_at(
    connection: sqlite3.Connection,
    stream: Stream,
    at: int | datetime | Position,
    *,
    whole_run: bool,
    types: Sequence[type] = (),
) -> Iterator[sqlite3.Connection]:
    """Yield the views as of a point of a branch: for its whole run, or for the branch and its ancestors.

    Args:
        types: one of the tuples above, which limits the views to what it determines; the default is everything.
    """
    with _fold_into_memory(connection) as fold:
        if whole_run:
            root = find_stream(connection, stream.run_id, ROOT)
            fold.ancestors(root.stream_id, types)
            until = (root.stream_id, position_at(connection, stream, at))
            fold.events(f"position <= ?{_of_types(types)}", until)
        else:
            fold.ancestors(stream.stream_id, types)
            fold.stream(stream.stream_id, version_at(connection, stream, at), types)
        yield fold.done()


@contextmanager
def past_of_stream(
    connection: sqlite3.Connection, stream: Stream, version: int, types: Sequence[type], step: str | None = None
) -> Iterator[sqlite3.Connection]:
    """Yield the views of one branch's own events up to a version, without inherited data.

    If none of these events were recorded since, those are the current views.

    Args:
        types: `STEP_EVENTS` or `CONFIGURATION_EVENTS`: what the views need to contain.
        step: the only step that the views need to contain.

    Raises:
        ReadFailed: the event of that version is not there.
    """
    if version >= stream.version:
        yield connection
        return
    position, _ = event_of(connection, stream, version)
    if not _has_events_after(connection, stream, position, types, step):
        yield connection
        return
    with _fold_into_memory(connection) as fold:
        fold.stream(stream.stream_id, version, types, step)
        yield fold.done()


def _has_events_after(
    connection: sqlite3.Connection, stream: Stream, position: int, types: Sequence[type], step: str | None
) -> bool:
    """Return whether a stream has events of these types after a position that may concern the step, if given."""
    after = (
        f"SELECT 1 FROM events WHERE {_OF_RUN} AND stream_id = ? AND position > ?"
        f" AND event_type IN ({_quoted(types)}) AND {_MENTIONS_STEP} LIMIT 1"
    )
    values = stream.stream_id, stream.stream_id, position, step or ""
    return connection.execute(after, values).fetchone() is not None


def _of_types(types: Sequence[type]) -> str:
    return f" AND event_type IN ({_quoted(types)})" if types else ""


def _quoted(types: Sequence[type]) -> str:
    return ", ".join(f"'{each.__name__}'" for each in types)


@contextmanager
def _fold_into_memory(connection: sqlite3.Connection) -> Iterator["_Fold"]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as memory:
        yield _Fold(connection, memory)


class _Fold:
    """Folds events read from `source` into `memory`, with the projectors of the live views."""

    def __init__(self, source: sqlite3.Connection, memory: sqlite3.Connection) -> None:
        self._source = source
        self._memory = memory
        self._partitions = Partitions(memory)
        self._projectors = Projectors(self._partitions, StateViews(memory))
        self._streams: dict[int, Stream] = {}
        self._without_source: list[Stream] = []
        memory.executescript(_STREAMS)
        memory.execute("BEGIN")  # never committed: it ends with the database
        for projector in self._projectors.all:
            projector.create_tables()

    def ancestors(self, stream_id: int, types: Sequence[type] = ()) -> None:
        """Fold a stream's ancestors, each up to the fork; with `types`, only these events."""
        _, *above = lineage(self._source, stream_id, LATEST)
        for ancestor, until in reversed(above):
            self.stream(ancestor, until, types)

    def stream(self, stream_id: int, version: int, types: Sequence[type] = (), step: str | None = None) -> None:
        """Fold one stream up to a version; with `types`, only these events, and with `step`, only those of one step."""
        where, values = "events.stream_id = ? AND stream_version <= ?", (stream_id, stream_id, version)
        if not types:
            self.events(where, values)
            return
        selected = f"event_type IN ({_quoted(types)}) AND ({_MENTIONS_STEP} OR event_type IN ({_quoted(_OPENING)}))"
        self.events(f"{where} AND {selected}", (*values, step or ""), step)

    def events(self, where: str, values: tuple[int | str, ...], step: str | None = None) -> None:
        """Fold a run's events for which `where` holds, in order.

        Args:
            values: the id of any stream of the run, then the values of `where`.
            step: skip events about other steps that happen to contain this step's name.

        Raises:
            CannotDecode
        """
        for stream, recorded in self._read(where, values):
            if step is not None and getattr(recorded.event, "step", step) != step:
                continue
            stream.version, stream.hash = recorded.stream_version, recorded.hash
            self._projectors.apply(stream, recorded)
            if isinstance(recorded.event, RunForked) and stream.parent_id is None:
                self._without_source.append(stream)

    def _fold_carried_over(self, root: Stream) -> None:
        """Fold the data carried over from a deleted source: it counts from the fork on, even if recorded later."""
        where = "events.stream_id = ? AND stream_version > ? AND event_type = 'SourceCarriedOver'"
        for stream, recorded in self._read(where, (root.stream_id, root.stream_id, root.version)):
            assert isinstance(recorded.event, SourceCarriedOver), "asked for by type"
            seen = self._without_hidden_steps(stream, recorded.event)
            self._projectors.apply(stream, structs.replace(recorded, event=seen))

    def _without_hidden_steps(self, root: Stream, event: SourceCarriedOver) -> SourceCarriedOver:
        """Return the carried-over data, with only the steps that the run had not logged or removed by the point."""
        carried = (*event.steps, *event.hidden)
        seen = [each for each in carried if not self._hides(root, each.log.step)]
        return structs.replace(event, steps=seen, hidden=[])

    def _hides(self, root: Stream, step: str) -> bool:
        key = root.stream_id, step
        return _is_own(self._partitions.steps.get(*key)) or self._partitions.removed.get(*key) is not None

    def _read(self, where: str, values: tuple[int | str, ...]) -> Iterator[tuple[Stream, RecordedEvent]]:
        cursor = self._source.execute(f"{_EVENTS} WHERE {_OF_RUN} AND {where} ORDER BY position", values)
        for chunk in chunks(cursor, CHUNK_EVENTS):
            for row in chunk:
                yield self._stream(*row[:5]), decode_recorded(row[5], *row[1:3], *row[6:])
            self._projectors.flush()

    def _stream(self, stream_id: int, run_id: str, branch: str, parent_id: int | None, parent_version: int) -> Stream:
        stream = self._streams.get(stream_id)
        if stream is None:
            stream = self._streams[stream_id] = Stream(stream_id, run_id, branch, parent_id, parent_version, 0, b"")
        return stream

    def done(self) -> sqlite3.Connection:
        """Complete and return the database; its streams' heads are the last folded events."""
        for stream in self._without_source:
            self._fold_carried_over(stream)
        rows = map(structs.astuple, self._streams.values())
        self._memory.executemany("INSERT INTO streams VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        return self._memory


def _is_own(known: StepRow | None) -> bool:
    return known is not None and known.position > 0  # otherwise an earlier part carried it over
