"""Verifying a SQLite log: passes its stored rows, in bounded chunks, to the checks.

A store is checked run by run, so memory holds the streams of one run. Each chunk is one job of a reader, so others can
read and write meanwhile. Events recorded during the check are checked too, but are not part of a Merkle tree.
"""

import sqlite3
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import TypeVar

from engine.checkpoint import Checkpoint
from engine.errors import CheckpointOfAnotherStore, InvalidValue, ReadFailed, RunNotFound
from engine.findings import Problem, Verification
from engine.logs.readers import Readers
from engine.logs.sqlite_checksums import changed_rows
from engine.logs.sqlite_errors import is_damage
from engine.logs.sqlite_ledger import SqliteLedger, Tombstone, leaves, lenient, root_stream_id
from engine.logs.sqlite_read import last_position
from engine.logs.sqlite_strays import PROBLEMS_MAX, strays
from engine.logs.sqlite_trees import Trees
from engine.model import Head
from engine.names import ROOT
from engine.ports import Progress
from engine.proof.merkle import Tree
from engine.proof.verification import RunCheck
from engine.stored import StoredStream

Result = TypeVar("Result")

CHUNK_EVENTS = 2000
CHUNK_RUNS = 500


class SqliteAudit:
    """`engine.ports.Audit` for a SQLite log."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def checkpoint(self) -> Checkpoint:
        """Return a checkpoint of the store's current state. It trusts the stored heads; `verify` checks them."""

        def read(connection: sqlite3.Connection) -> Checkpoint:
            tree = Tree()
            for leaf in leaves(connection):
                tree.add(leaf)
            return Checkpoint(
                store_id=_store_id(connection),
                position=last_position(connection),
                runs=tree.size,
                deletions=SqliteLedger(connection).deletions(),
                root=tree.root().hex(),
                created_at=datetime.now(UTC),
            )

        return await self._readers.run(lenient(read))

    async def verify(self, run_id: str | None, since: Checkpoint | None, progress: Progress | None) -> Verification:
        """Check one run or the whole store; see `Engine.verify`."""
        store_id = await self._readers.run(lenient(_store_id))
        if since is not None:
            if run_id is not None:
                raise InvalidValue("run_id", run_id, "cannot be combined with a checkpoint, which covers the store")
            if since.store_id != store_id:
                raise CheckpointOfAnotherStore(since.store_id, store_id)
        check = _LogCheck(self._readers, progress)
        last = await check.find_end()
        trees = await (check.store(last, since) if run_id is None else check.run(last, run_id))
        return Verification(
            store_id=store_id,
            position=last,
            runs=check.runs,
            streams=check.streams,
            events=check.events,
            root=trees.root,
            problems=check.problems,
            deleted=trees.deleted,
        )


class _LogCheck:
    """One pass over the log, or over one run. `problems`, and the counts of what was checked, are those so far."""

    def __init__(self, readers: Readers, progress: Progress | None) -> None:
        self.problems: list[Problem] = []
        self.runs = self.streams = self.events = 0
        self._readers = readers
        self._progress = progress
        self._total = 0
        self._broken: dict[int, int] = {}
        self._unreadable = False

    async def find_end(self) -> int:
        """Return the last position of the log."""
        last = await self._read_or_report(last_position, "the end of the log")
        return await self._read(_folded_until) if last is None else last

    async def store(self, last: int, since: Checkpoint | None) -> Trees:
        """Check every run, and the rows that belong to none."""
        self._total = last
        await self._find(strays, "the rows that belong to no run")
        kept = "the idempotency keys or the records of deleted runs"
        await self._find(lambda each: islice(changed_rows(each), PROBLEMS_MAX), kept)
        trees = Trees(last, since, deletions_until=await self._last_deletion(since))
        after: int | None = None
        while runs := await self._read_or_report(partial(_next_runs, after), "the list of the runs"):
            for run in runs:
                deleted = run if isinstance(run, Tombstone) else await self._check(run, trees)
                if deleted is not None:
                    self.problems += trees.add_deleted(deleted)
            after = root_stream_id(runs[-1])
        self.problems += trees.differences(unreadable=self._unreadable)
        return trees

    async def _last_deletion(self, since: Checkpoint | None) -> int:
        """Return the time of the last deletion that a checkpoint covers, -1 if that is none or unknown."""
        if since is None:
            return -1
        count, what = since.deletions, "the times of deletions"
        until = await self._read_or_report(lambda each: SqliteLedger(each).time_of_deletion(count), what)
        return -1 if until is None else until

    async def run(self, last: int, run_id: str) -> Trees:
        """Check one run, and the runs that it inherits from.

        Raises:
            RunNotFound
        """
        root = await self._read(lambda each: SqliteLedger(each).named(run_id, ROOT))
        if root is None:
            raise RunNotFound(run_id)
        sources = await self._read(lambda each: _sources(SqliteLedger(each), root))
        ids = [each.stream_id for each in (*sources, root)]
        what = "the run's number of events"
        self._total = await self._read_or_report(lambda each: sum(map(SqliteLedger(each).count, ids)), what) or 0
        trees = Trees(last)
        for source in sources:
            await self._check(source, None)
        if await self._check(root, trees) is not None:
            raise RunNotFound(run_id)
        await self._find(lambda each: changed_rows(each, root.stream_id), "the run's idempotency keys")
        return trees

    async def _check(self, root: StoredStream, trees: Trees | None) -> Tombstone | None:
        """Check a run up to its last event, or to the first unreadable one; return its record if it was deleted."""
        run = _RunPass(root, [] if trees is None else trees.positions, self._broken)
        try:
            await self._check_chunks(run)
        except ReadFailed as error:
            what = f"an event after position {run.after}, or one that it is linked to,"
            self._report_unreadable(error, what, root.run_id)
            run.check.mark_unreadable(await self._read(lambda each: list(SqliteLedger(each).streams_of(root.run_id))))
        if run.deleted is not None:
            return run.deleted
        if trees is not None:
            trees.add(root.run_id, run.heads)
        self.runs += 1
        self.streams += run.check.streams
        self.problems += run.check.problems
        return None

    async def _check_chunks(self, run: "_RunPass") -> None:
        while not run.done:
            before = run.check.events
            try:
                await self._read(run.check_chunk)
            finally:
                self.events += run.check.events - before
            if self._progress is not None:
                self._progress(min(self.events, self._total), self._total)

    def _report_unreadable(self, error: ReadFailed, what: str, run_id: str | None = None) -> None:
        """Report that part of the file is damaged; re-raise an error that has another cause."""
        if not is_damage(error.__cause__):
            raise error
        message = f"{what} cannot be read: {error.cause}"
        self.problems.append(Problem(kind="unreadable", message=message, run_id=run_id))
        self._unreadable = True

    async def _find(self, job: Callable[[sqlite3.Connection], Iterable[Problem]], what: str) -> None:
        """Report the problems that a job yields."""
        self.problems += await self._read_or_report(lambda each: list(job(each)), what) or []

    async def _read_or_report(self, job: Callable[[sqlite3.Connection], Result], what: str) -> Result | None:
        """Return the result of a job, or None after reporting that the file is damaged there."""
        try:
            return await self._read(job)
        except ReadFailed as error:
            self._report_unreadable(error, what)
            return None

    async def _read(self, job: Callable[[sqlite3.Connection], Result]) -> Result:
        return await self._readers.run(lenient(job))


class _RunPass:
    """The check of one run, chunk by chunk, so far up to the position `after`.

    `heads` holds, for each of the given positions that the check has passed, the run's heads there, none if the run
    began later. `deleted` is set if the run was deleted before its last chunk was read.
    """

    def __init__(self, root: StoredStream, positions: list[int], broken: dict[int, int]) -> None:
        self.check = RunCheck(root, broken)
        self.done = False
        self.deleted: Tombstone | None = None
        self.heads: dict[int, list[Head]] = {}
        self._root = root
        self._positions = positions
        self.after = 0

    def check_chunk(self, connection: sqlite3.Connection) -> None:
        """Check the next chunk of events and, after the last event, the heads in the same snapshot."""
        ledger = SqliteLedger(connection)
        before = self.check.events
        for event in ledger.run_events(self._root.stream_id, self.after, CHUNK_EVENTS):
            self._keep_heads(event.position)
            self.check.check(event, ledger)
            self.after = event.position
        if self.check.events - before < CHUNK_EVENTS:
            self._keep_heads(None)
            self.check.finish(ledger.streams_of(self._root.run_id))
            if ledger.stream(self._root.stream_id) is None:
                self.deleted = next(iter(ledger.deleted(self._root.stream_id)), None)
            self.done = True

    def _keep_heads(self, next_position: int | None) -> None:
        """Keep the heads for the positions before the run's next event; `None` means the end of the run."""
        for position in self._positions:
            if position not in self.heads and (next_position is None or next_position > position):
                self.heads[position] = self.check.heads()


def _next_runs(after: int | None, connection: sqlite3.Connection) -> list[StoredStream | Tombstone]:
    return SqliteLedger(connection).runs(after, CHUNK_RUNS)


def _sources(ledger: SqliteLedger, root: StoredStream) -> list[StoredStream]:
    """Return the root streams of the runs that a run inherits from, the oldest first."""
    found: list[StoredStream] = []
    run: StoredStream | None = root
    while run is not None and run.parent_id is not None:
        parent = ledger.stream(run.parent_id)
        run = None if parent is None else ledger.stream(parent.root_id)
        if run is None or run in found or run == root:  # tampered rows may form a cycle
            break
        found.insert(0, run)
    return found


def _folded_until(connection: sqlite3.Connection) -> int:
    """Return the views' checkpoint, which is the log's last position."""
    (position,) = connection.execute("SELECT coalesce(max(position), 0) FROM view_checkpoints").fetchone()
    return int(position)


def _store_id(connection: sqlite3.Connection) -> str:
    row = connection.execute("SELECT value FROM store WHERE key = 'store_id'").fetchone()
    return "" if row is None else str(row[0])
