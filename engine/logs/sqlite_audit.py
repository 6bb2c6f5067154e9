"""Verifying a SQLite log: its rows are read as they are stored, in bounded pieces, and handed to the checks.

A store is checked run by run, so that what is kept in memory is one run's streams. Each piece is one job of a reader:
others read and write meanwhile. Events that come during the check are looked at too, and belong to no tree.
"""

import sqlite3
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

from msgspec import Struct, field

from engine.checkpoint import Checkpoint
from engine.errors import CheckpointOfAnotherStore, InvalidValue, RunNotFound
from engine.findings import Problem, Verification
from engine.logs.readers import Readers
from engine.logs.sqlite_read import last_position
from engine.merkle import Tree, run_leaf
from engine.model import Head
from engine.names import ROOT
from engine.ports import Progress
from engine.stored import StoredEvent, StoredStream
from engine.verification import RunCheck

CHUNK_EVENTS = 2000
CHUNK_RUNS = 500
GAPS_MAX = 100

_STREAM = "SELECT stream_id, root_id, run_id, branch, parent_id, parent_version, version, hash FROM streams"
_EVENT = (
    "SELECT position, stream_id, stream_version, event_type, schema_version, event_id, recorded_at, payload,"
    " payload_digest, hash FROM events"
)


class SqliteLedger:
    """`engine.stored.Ledger` on one connection, inside one snapshot."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def stream(self, stream_id: int) -> StoredStream | None:
        return self._stream("stream_id = ?", stream_id)

    def named(self, run_id: str, branch: str) -> StoredStream | None:
        return self._stream("run_id = ? AND branch = ?", run_id, branch)

    def event_at(self, position: int) -> StoredEvent | None:
        return self._event("position = ?", position)

    def event_of(self, stream: StoredStream, stream_version: int) -> StoredEvent | None:
        where = "root_id = ? AND stream_id = ? AND stream_version = ?"
        return self._event(where, stream.root_id, stream.stream_id, stream_version)

    def events_of_types(self, root_id: int, types: Collection[str]) -> Iterator[StoredEvent]:
        marks = ", ".join("?" * len(types))
        rows = self._connection.execute(
            f"{_EVENT} WHERE root_id = ? AND event_type IN ({marks}) ORDER BY position", (root_id, *types)
        )
        return (StoredEvent(*row) for row in rows)

    def _stream(self, where: str, *values: object) -> StoredStream | None:
        row = self._connection.execute(f"{_STREAM} WHERE {where}", values).fetchone()
        return None if row is None else StoredStream(*row)

    def _event(self, where: str, *values: object) -> StoredEvent | None:
        row = self._connection.execute(f"{_EVENT} WHERE {where}", values).fetchone()
        return None if row is None else StoredEvent(*row)


class _DeletedRun(Struct, frozen=True):
    """What the store remembers of a run that was deleted."""

    root_id: int
    run_id: str
    first_position: int
    last_position: int
    leaf: bytes


class _Cut(Struct):
    """The tree over the runs as they stood at a position."""

    position: int
    tree: Tree = field(default_factory=Tree)


class SqliteAudit:
    """`engine.ports.Audit` for a SQLite log."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def checkpoint(self) -> Checkpoint:
        """Return what the store holds now. The heads are taken as they are: `verify` says whether they are right."""

        def read(connection: sqlite3.Connection) -> Checkpoint:
            tree = Tree()
            streams = connection.execute(f"{_STREAM} ORDER BY root_id, stream_id")
            leaves = [*_leaves(streams), *((gone.root_id, gone.leaf) for gone in _deleted(connection))]
            for _, leaf in sorted(leaves):
                tree.add(leaf)
            return Checkpoint(
                store_id=_store_id(connection),
                position=last_position(connection),
                runs=tree.size,
                root=tree.root().hex(),
                created_at=datetime.now(UTC),
            )

        return await self._readers.run(read)

    async def verify(self, run_id: str | None, since: Checkpoint | None, progress: Progress | None) -> Verification:
        """Check one run or the whole store; see `Engine.verify`."""
        store_id, last = await self._readers.run(lambda each: (_store_id(each), last_position(each)))
        if since is not None:
            if run_id is not None:
                raise InvalidValue("since", since.position, "is for the whole store, not for one run")
            if since.store_id != store_id:
                raise CheckpointOfAnotherStore(since.store_id, store_id)
        check = _StoreCheck(self._readers, last, since, progress)
        if run_id is not None:
            root = await self._readers.run(lambda each: SqliteLedger(each).named(run_id, ROOT))
            if root is None:
                raise RunNotFound(run_id)
            await check.run(root)
        else:
            await check.store()
        return check.verification(store_id)


class _StoreCheck:
    """One pass over the log."""

    def __init__(self, readers: Readers, last: int, since: Checkpoint | None, progress: Progress | None) -> None:
        self._readers = readers
        self._last = last
        self._since = since
        self._progress = progress
        self._cuts = [_Cut(last)] if since is None else [_Cut(since.position), _Cut(last)]
        self._problems: list[Problem] = []
        self._deleted: list[str] = []
        self._runs = self._streams = self._events = 0

    async def store(self) -> None:
        """Check every run, and what belongs to none."""
        self._problems += await self._readers.run(_strays)
        gone = await self._readers.run(_deleted)
        roots = await self._readers.run(partial(_roots, after=0))
        while roots:
            for root in roots:
                while gone and gone[0].root_id < root.root_id:
                    self._remember(gone.pop(0))
                await self.run(root)
            roots = await self._readers.run(partial(_roots, after=roots[-1].stream_id))
        for each in gone:
            self._remember(each)
        self._check_since()

    def _remember(self, gone: _DeletedRun) -> None:
        """Put a deleted run's leaf where the run stood."""
        first = self._cuts[0].position
        if gone.first_position <= first:
            self._deleted.append(gone.run_id)
        for cut in self._cuts:
            if gone.first_position <= cut.position:
                cut.tree.add(gone.leaf)
        if gone.first_position <= first < gone.last_position:
            message = "the run went on after the checkpoint and was then deleted: nothing proves what it was before"
            self._problems.append(Problem(kind="checkpoint", message=message, run_id=gone.run_id, position=first))

    async def run(self, root: StoredStream) -> None:
        """Check one run from its first event to its last."""
        found = _RunPass(root, [cut.position for cut in self._cuts])
        while not found.done:
            before = found.check.events
            await self._readers.run(found.piece)
            self._events += found.check.events - before
            if self._progress is not None:
                self._progress(min(self._events, self._last), self._last)
        for cut in self._cuts:
            if found.heads[cut.position]:
                cut.tree.add(run_leaf(root.run_id, found.heads[cut.position]))
        self._runs += 1
        self._streams += found.check.streams
        self._problems += found.check.problems

    def _check_since(self) -> None:
        since = self._since
        if since is None:
            return
        if self._last < since.position:
            message = f"the checkpoint saw {since.position} events, and the log ends at position {self._last}"
        elif self._cuts[0].tree.size != since.runs:
            message = f"the checkpoint saw {since.runs} runs up to position {since.position}, and there are"
            message += f" {self._cuts[0].tree.size}"
        elif self._cuts[0].tree.root().hex() != since.root:
            message = f"the history up to position {since.position} is not the one that the checkpoint saw"
        else:
            return
        self._problems.append(Problem(kind="checkpoint", message=message, position=since.position))

    def verification(self, store_id: str) -> Verification:
        return Verification(
            store_id=store_id,
            position=self._last,
            runs=self._runs,
            streams=self._streams,
            events=self._events,
            root=self._cuts[-1].tree.root().hex(),
            problems=self._problems,
            deleted=self._deleted,
        )


class _RunPass:
    """One run, piece by piece. `heads` are those at each of the positions `cuts`: none where it began later."""

    def __init__(self, root: StoredStream, cuts: list[int]) -> None:
        self.check = RunCheck(root)
        self.done = False
        self.heads: dict[int, list[Head]] = {}
        self._root = root
        self._cuts = cuts
        self._after = 0

    def piece(self, connection: sqlite3.Connection) -> None:
        """Check the next events; after the last, the heads too, in the same snapshot."""
        ledger = SqliteLedger(connection)
        rows = connection.execute(
            f"{_EVENT} WHERE root_id = ? AND position > ? ORDER BY position LIMIT ?",
            (self._root.root_id, self._after, CHUNK_EVENTS),
        ).fetchall()
        for row in rows:
            event = StoredEvent(*row)
            self._note_heads(event.position)
            self.check.check(event, ledger)
            self._after = event.position
        if len(rows) < CHUNK_EVENTS:
            self._note_heads(None)
            streams = connection.execute(f"{_STREAM} WHERE run_id = ? ORDER BY stream_id", (self._root.run_id,))
            self.check.finish(StoredStream(*row) for row in streams.fetchall())
            self.done = True

    def _note_heads(self, coming: int | None) -> None:
        """Keep the heads at every cut that the run's next event lies behind; None is the end of the run."""
        for cut in self._cuts:
            if cut not in self.heads and (coming is None or coming > cut):
                self.heads[cut] = self.check.heads()


def _store_id(connection: sqlite3.Connection) -> str:
    row = connection.execute("SELECT value FROM store WHERE key = 'store_id'").fetchone()
    return "" if row is None else str(row[0])


def _roots(connection: sqlite3.Connection, after: int) -> list[StoredStream]:
    rows = connection.execute(
        f"{_STREAM} WHERE branch = '' AND stream_id > ? ORDER BY stream_id LIMIT ?", (after, CHUNK_RUNS)
    )
    return [StoredStream(*row) for row in rows]


def _deleted(connection: sqlite3.Connection) -> list[_DeletedRun]:
    rows = connection.execute(
        "SELECT root_id, run_id, first_position, last_position, leaf FROM deleted_runs ORDER BY root_id"
    )
    return [_DeletedRun(*row) for row in rows]


def _leaves(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[int, bytes]]:
    """Yield the root and the leaf of every run, from the rows of the streams in the order of runs and streams."""
    root_id, run_id, heads = 0, "", list[Head]()
    for row in rows:
        stream = StoredStream(*row)
        if heads and stream.root_id != root_id:
            yield root_id, run_leaf(run_id, heads)
            heads = []
        if not heads:
            root_id, run_id = stream.root_id, stream.run_id
        heads.append(Head(stream.branch, stream.version, stream.hash))
    if heads:
        yield root_id, run_leaf(run_id, heads)


def _strays(connection: sqlite3.Connection) -> list[Problem]:
    """Return what no run's own check can see: positions that are missing, and rows that belong to no run."""
    rows = connection.execute(
        "SELECT before, position FROM (SELECT position, lag(position, 1, 0) OVER (ORDER BY position) AS before"
        " FROM events) WHERE position > before + 1 LIMIT ?",
        (GAPS_MAX,),
    )
    found = [_gap(before, position) for before, position in rows] if _too_few(connection) else []
    rootless = connection.execute(
        "SELECT root_id, min(position), count(*) FROM events WHERE root_id NOT IN"
        " (SELECT stream_id FROM streams WHERE branch = '') GROUP BY root_id LIMIT ?",
        (GAPS_MAX,),
    )
    for _, position, count in rootless:
        message = f"{count} events from here on belong to a run that is not there"
        found.append(Problem(kind="missing stream", message=message, position=position))
    lost = connection.execute(
        "SELECT run_id, branch FROM streams WHERE run_id NOT IN (SELECT run_id FROM streams WHERE branch = '') LIMIT ?",
        (GAPS_MAX,),
    )
    for run_id, branch in lost:
        message = "the stream of its run's root branch is not there"
        found.append(Problem(kind="missing stream", message=message, run_id=run_id, branch=branch))
    return found


def _too_few(connection: sqlite3.Connection) -> bool:
    """Say whether more positions are missing than those of the runs that were deleted."""
    (there,) = connection.execute("SELECT count(*) FROM events").fetchone()
    (gone,) = connection.execute("SELECT coalesce(sum(events), 0) FROM deleted_runs").fetchone()
    return bool(last_position(connection) - there > gone)


def _gap(before: int, position: int) -> Problem:
    missing = f"position {before + 1} is" if position == before + 2 else f"positions {before + 1} to {position - 1} are"
    return Problem(kind="missing event", message=f"{missing} not there", position=before + 1)
