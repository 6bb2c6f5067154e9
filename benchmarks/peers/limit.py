"""Limit (a): plain `sqlite3` on one thread, group commit of rows that were encoded beforehand, and nothing else.

It has no decisions, hashes, views or stream heads on disk: what is left is the cost of SQLite, of a thread, and of a
future for each write. With several processes it takes a file lock around each transaction, as anabranch does.
"""

import asyncio
import fcntl
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, Generic, TypeAlias, TypeVar

from benchmarks.durability import of_connection
from benchmarks.operations import Found, Values, branch_names, branch_number
from benchmarks.peers.sample_rows import EncodedRow, SampleRows, record_sample_rows

FILE_NAME: Final = "limit.db"
_LOCK_NAME: Final = "limit.lock"

Write = TypeVar("Write")

_RowsOfAWrite: TypeAlias = tuple["LimitBranch", Sequence[EncodedRow]]


class Limit:
    """Limit (a), a `benchmarks.ports.Peer`."""

    async def create(self, folder: Path) -> None:
        """Create the file with only the events table."""
        rows = await record_sample_rows(folder)
        with connected(folder / FILE_NAME) as connection:
            connection.execute(rows.create_table)

    @asynccontextmanager
    async def open(self, folder: Path, *, shared: bool) -> AsyncIterator["LimitStore"]:
        """Start the thread that commits."""
        rows = await record_sample_rows(folder)
        with connected(folder / FILE_NAME) as connection, (folder / _LOCK_NAME).open("a") as lock:
            commits = GroupCommit(_Commit(connection, rows, lock.fileno() if shared else None))
            try:
                yield LimitStore(connection, rows, commits)
            finally:
                commits.end()


@contextmanager
def connected(path: Path) -> Iterator[sqlite3.Connection]:
    """Connect with anabranch's default settings, in autocommit mode; any one thread at a time may use it."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        yield connection
    finally:
        connection.close()


class GroupCommit(Generic[Write]):
    """Commits in groups: writes submitted during a commit form the next one. `commit` runs on its own thread."""

    def __init__(self, commit: Callable[[Sequence[Write]], None]) -> None:
        self._commit = commit
        self._loop = asyncio.get_running_loop()
        self._pending: list[tuple[Write, asyncio.Future[None]]] = []
        self._busy = False
        self._batches: SimpleQueue[list[tuple[Write, asyncio.Future[None]]] | None] = SimpleQueue()
        self._thread = Thread(target=self._commit_all)
        self._thread.start()

    def submit(self, write: Write) -> asyncio.Future[None]:
        """Return a future that is done when the write is committed."""
        future = self._loop.create_future()
        self._pending.append((write, future))
        if not self._busy and len(self._pending) == 1:
            self._loop.call_soon(self._begin)
        return future

    def end(self) -> None:
        """Stop the thread."""
        self._batches.put(None)
        self._thread.join()

    def _begin(self) -> None:
        if self._pending and not self._busy:
            self._busy = True
            batch, self._pending = self._pending, []
            self._batches.put(batch)

    def _done(self, batch: list[tuple[Write, asyncio.Future[None]]], error: sqlite3.Error | None) -> None:
        for _, future in batch:
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
        self._busy = False
        if self._pending:
            self._loop.call_soon(self._begin)  # so that writers just woken join this batch

    def _commit_all(self) -> None:
        while (batch := self._batches.get()) is not None:
            error = None
            try:
                self._commit([write for write, _ in batch])
            except sqlite3.Error as raised:
                error = raised
            self._loop.call_soon_threadsafe(self._done, batch, error)


class _Commit:
    """Inserts rows in one transaction, under the file lock if there is one."""

    def __init__(self, connection: sqlite3.Connection, rows: SampleRows, lock: int | None) -> None:
        self._connection = connection
        self._insert = rows.insert
        self._placed = rows.placed
        self._lock = lock

    def __call__(self, writes: Sequence[_RowsOfAWrite]) -> None:
        placed: list[list[Any]] = []
        for branch, rows in writes:
            for row in rows:
                branch.version += 1
                placed.append(self._placed(row, branch.stream_id, branch.version))
        if self._lock is None:
            self._transaction(placed)
            return
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            self._transaction(placed)
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _transaction(self, placed: list[list[Any]]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(self._insert, placed)
        self._connection.execute("COMMIT")


class LimitStore:
    """Implements `benchmarks.ports.Store`."""

    def __init__(self, connection: sqlite3.Connection, rows: SampleRows, commits: GroupCommit[_RowsOfAWrite]) -> None:
        self._connection = connection
        self._rows = rows
        self._commits = commits

    async def branch(self, name: str) -> "LimitBranch":
        """Return a stream, which is only a number."""
        return LimitBranch(branch_number(name), self._rows, self._commits)

    async def found(self) -> dict[str, Found]:
        """Count the rows of each stream."""
        return count_operations(self._connection, self._rows)

    async def durability(self) -> str:
        """Read the settings of the connection, which is idle when nothing is being written."""
        return of_connection(self._connection)


class LimitBranch:
    """A `benchmarks.operations.BranchWriter`; only the thread that commits uses `version`."""

    def __init__(self, stream_id: int, rows: SampleRows, commits: GroupCommit[_RowsOfAWrite]) -> None:
        self.stream_id = stream_id
        self.version = 0
        self._rows = rows
        self._submit = commits.submit

    async def set_parameters(self, values: Values) -> None:
        """Write the rows that anabranch would write, whose values are already encoded."""
        del values
        await self._submit((self, self._rows.set_parameters))

    async def log_step(self, step: str) -> None:
        """Write the rows of the start, then those of the end."""
        del step
        await self._submit((self, self._rows.start_step))
        await self._submit((self, self._rows.finish_step))


def count_operations(connection: sqlite3.Connection, rows: SampleRows) -> dict[str, Found]:
    """Return how many complete operations each stream of an events table holds."""
    counts = connection.execute(
        "SELECT stream_id, sum(event_type = ?), sum(event_type <> ?) FROM events GROUP BY stream_id",
        (rows.parameters_set, rows.parameters_set),
    )
    of_a_step = len(rows.start_step) + len(rows.finish_step)
    return {
        branch_names(1, first=stream_id)[0]: Found(sets // len(rows.set_parameters), others // of_a_step)
        for stream_id, sets, others in counts
    }
