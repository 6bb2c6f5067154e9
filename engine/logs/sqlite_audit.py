"""Verifying a SQLite log: passes its stored rows, in bounded chunks, to the checks.

A store is checked run by run, so memory holds the streams of one run. Each chunk is one job of a reader, so others can
read and write meanwhile. Events recorded during the check are checked too, but are not part of a Merkle tree.
"""

import sqlite3
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from itertools import islice
from typing import TypeVar

from msgspec import Struct, field

from engine.checkpoint import Checkpoint
from engine.errors import CheckpointOfAnotherStore, InvalidValue, ReadFailed, RunNotFound
from engine.findings import Problem, Verification
from engine.logs.readers import Readers
from engine.logs.sqlite_checksums import changed_rows
from engine.logs.sqlite_errors import is_damage
from engine.logs.sqlite_ledger import SqliteLedger, Tombstone, leaves, lenient, root_stream_id
from engine.logs.sqlite_read import last_position
from engine.logs.sqlite_strays import PROBLEMS_MAX, strays
from engine.model import Head
from engine.names import ROOT
from engine.ports import Progress
from engine.proof.merkle import Tree, run_leaf
from engine.proof.verification import RunCheck
from engine.stored import StoredStream
from engine.times import from_microseconds

Result = TypeVar("Result")

CHUNK_EVENTS = 2000
CHUNK_RUNS = 500


class _TreeAt(Struct):
    """The Merkle tree over the runs as of a position."""

    position: int
    tree: Tree = field(default_factory=Tree)


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
        check = _StoreCheck(self._readers, since, progress)
        await check.begin()
        await (check.store() if run_id is None else check.one(run_id))
        return check.verification(store_id)


class _StoreCheck:
    """One pass over the log."""

    def __init__(self, readers: Readers, since: Checkpoint | None, progress: Progress | None) -> None:
        self._readers = readers
        self._last = 0
        self._since = since
        self._progress = progress
        self._trees: list[_TreeAt] = []
        self._problems: list[Problem] = []
        self._broken: dict[int, int] = {}
        self._deleted: list[str] = []
        self._unprovable = self._unreadable = False
        self._deletions_seen_until = -1
        self._total = 0
        self._runs = self._streams = self._events = 0

    async def begin(self) -> None:
        """Find the end of the log."""
        last = await self._read_or_report(last_position, "the end of the log")
        self._last = self._total = await self._read(_folded_until) if last is None else last
        positions = [self._last] if self._since is None else [self._since.position, self._last]
        self._trees = [_TreeAt(position) for position in positions]

    async def store(self) -> None:
        """Check every run, and the rows that belong to none."""
        await self._find(strays, "the rows that belong to no run")
        kept = "the idempotency keys or the records of deleted runs"
        await self._find(lambda each: islice(changed_rows(each), PROBLEMS_MAX), kept)
        if self._since is not None:
            deletions, what = self._since.deletions, "the times of deletions"
            until = await self._read_or_report(lambda each: SqliteLedger(each).time_of_deletion(deletions), what)
            self._deletions_seen_until = -1 if until is None else until
        after: int | None = None
        listed = "the list of the runs"
        while runs := await self._read_or_report(lambda each: SqliteLedger(each).runs(after, CHUNK_RUNS), listed):  # noqa: B023
            for run in runs:
                if isinstance(run, Tombstone):
                    self._add_deleted(run)
                else:
                    await self._check(run)
            after = root_stream_id(runs[-1])
        self._check_since()

    async def one(self, run_id: str) -> None:
        """Check one run.

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
        for source in sources:
            await self._check(source, in_tree=False)
        if not await self._check(root):
            raise RunNotFound(run_id)
        await self._find(lambda each: changed_rows(each, root.stream_id), "the run's idempotency keys")

    async def _check(self, root: StoredStream, *, in_tree: bool = True) -> bool:
        """Check a run up to its last event, or to the first unreadable one; return whether the run still exists."""
        run = _RunPass(root, [each.position for each in self._trees], self._broken)
        try:
            await self._check_chunks(run)
        except ReadFailed as error:
            what = f"an event after position {run.after}, or one that it is linked to,"
            self._report_unreadable(error, what, root.run_id)
            run.check.mark_unreadable(await self._read(lambda each: list(SqliteLedger(each).streams_of(root.run_id))))
        if run.deleted is not None:
            if in_tree:
                self._add_deleted(run.deleted)
            return False
        for each in self._trees:
            if in_tree and run.heads.get(each.position):
                each.tree.add(run_leaf(root.run_id, run.heads[each.position]))
        self._runs += 1
        self._streams += run.check.streams
        self._problems += run.check.problems
        return True

    async def _check_chunks(self, run: "_RunPass") -> None:
        while not run.done:
            before = run.check.events
            try:
                await self._read(run.check_chunk)
            finally:
                self._events += run.check.events - before
            if self._progress is not None:
                self._progress(min(self._events, self._total), self._total)

    def _report_unreadable(self, error: ReadFailed, what: str, run_id: str | None = None) -> None:
        """Report that part of the file is damaged; re-raise an error that has another cause."""
        if not is_damage(error.__cause__):
            raise error
        message = f"{what} cannot be read: {error.cause}"
        self._problems.append(Problem(kind="unreadable", message=message, run_id=run_id))
        self._unreadable = True

    async def _find(self, job: Callable[[sqlite3.Connection], Iterable[Problem]], what: str) -> None:
        """Report the problems that a job yields."""
        self._problems += await self._read_or_report(lambda each: list(job(each)), what) or []

    async def _read_or_report(self, job: Callable[[sqlite3.Connection], Result], what: str) -> Result | None:
        """Return the result of a job, or None after reporting that the file is damaged there."""
        try:
            return await self._read(job)
        except ReadFailed as error:
            self._report_unreadable(error, what)
            return None

    async def _read(self, job: Callable[[sqlite3.Connection], Result]) -> Result:
        return await self._readers.run(lenient(job))

    def _add_deleted(self, deleted: Tombstone) -> None:
        """Add a deleted run's leaf in place of the run's."""
        first = self._trees[0].position
        if deleted.first_position <= first:
            self._deleted.append(deleted.run_id)
        later = self._since is not None and deleted.deleted_at > self._deletions_seen_until
        for each in self._trees:
            if deleted.first_position <= each.position:
                # The checkpoint covers either the run or its deletion, which comparing the roots confirms. Its time
                # cannot tell which: a deletion may have begun before the checkpoint and been committed after it.
                each.tree.add(deleted.leaf if later and each is self._trees[0] else deleted.leaf_now())
        when = from_microseconds(deleted.deleted_at).isoformat(timespec="seconds")
        if later and deleted.last_position <= first:
            message = f"the run was deleted after the checkpoint, at {when} according to the store: {deleted.reason}"
            self._problems.append(Problem(kind="deleted", message=message, run_id=deleted.run_id))
        if self._since is not None and deleted.first_position <= first < deleted.last_position:
            message = (
                f"the run continued after the checkpoint and was deleted at {when}, according to the store:"
                f" {deleted.reason}; its state at the checkpoint cannot be proven"
            )
            self._problems.append(Problem(kind="checkpoint", message=message, run_id=deleted.run_id, position=first))
            self._unprovable = True

    def _check_since(self) -> None:
        since = self._since
        if since is None:
            return
        if self._last < since.position:
            message = f"the checkpoint is at position {since.position}, but the log ends at position {self._last}"
        elif self._unreadable:
            return  # the heads of the unreadable runs are unknown
        elif (runs := self._trees[0].tree.size) != since.runs:
            message = f"the checkpoint covers {since.runs} runs up to position {since.position}, but the log has {runs}"
        elif self._trees[0].tree.root().hex() != since.root and not self._unprovable:
            message = f"the history up to position {since.position} does not match the checkpoint"
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
            root=self._trees[-1].tree.root().hex(),
            problems=self._problems,
            deleted=self._deleted,
        )


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
