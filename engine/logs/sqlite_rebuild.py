"""Rebuilding and checking the views of a SQLite log.

The log is folded in chunks into a scratch database beside the file, while others go on writing. At the end, under the
lock, the last events are folded too and the scratch tables replace the live ones in one transaction. What was folded
before something was erased or deleted still holds it: then the folding starts over.
"""

import asyncio
import os
import secrets
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import gettempdir
from typing import TypeVar
from urllib.parse import quote

from engine.errors import DiskFull, ReadFailed, RebuildRunning, StoreChanged
from engine.logger import get_logger
from engine.logs.connections import ThreadConnection
from engine.logs.file_lock import FileLock
from engine.logs.forking import connect_new, inside_sqlite
from engine.logs.own_files import COMPARE, REBUILD, REBUILD_LOCK, beside, is_scratch_name
from engine.logs.readers import connect_read_only, in_snapshot
from engine.logs.sqlite import SqliteEventLog
from engine.logs.sqlite_epoch import removals
from engine.logs.sqlite_errors import reading, translate
from engine.logs.sqlite_fold import SELECT_FOLDED, FoldedEvents
from engine.logs.sqlite_read import last_position
from engine.logs.sqlite_schema import SCHEMA_VERSION, damage_in_pages, schema_version, used_twice, view_versions
from engine.logs.transactions import transaction
from engine.ports import Progress, Rebuilder, ViewDifference
from engine.row_chunks import Chunk

Result = TypeVar("Result")

_log = get_logger(__name__)

CHUNK_EVENTS = 4000
LOCKED_EVENTS_MAX = 1000  # what the swap may fold while it holds up every writer
_TRIES_MAX = 5  # while others keep taking things out; then all is folded at once, which they wait for
_ASK_AGAIN_SECONDS = 0.05
_PROBLEMS_TOLD_MAX = 5

_SELECT = f"{SELECT_FOLDED} WHERE position > ? AND position <= ? ORDER BY position"


class SqliteViewMaintenance:
    """`engine.ports.ViewMaintenance` for a SQLite log; `make_rebuilder` makes one for each use."""

    def __init__(self, log: SqliteEventLog, make_rebuilder: Callable[[], Rebuilder]) -> None:
        self._log = log
        self._make_rebuilder = make_rebuilder

    async def rebuild(self, progress: Progress | None) -> int:
        """Make every view anew; return how many events there were.

        Raises:
            RebuildRunning: another process, or another task, is rebuilding this file.
            StoreChanged: newer code has migrated the file since it was opened.
            ReadFailed, DiskFull: the scratch tables cannot be made.
        """
        return await self._rebuild(progress, self._log.appender.projectors.versions())

    async def _rebuild(self, progress: Progress | None, replaced: Mapping[str, int]) -> int:
        # `replaced` are the latest versions of views that may be; of those that are not in it, any may.
        self._log.check_writable()
        with _errors_of_ours(self._log.path):
            lock = FileLock(beside(self._log.path, REBUILD_LOCK))
        try:
            if not lock.try_acquire():
                raise RebuildRunning(self._log.path)
            damaged = await _is_damaged(self._log.path)
            # One name for all rebuilds: what one that was killed has left is removed by the next.
            return await self._folded(
                REBUILD,
                progress,
                lambda scratch: self._log.exclusively(
                    lambda each: _swap(each, scratch, self._log, replaced, damaged=damaged)
                ),
            )
        finally:
            lock.close()

    async def bring_to(self, versions: Mapping[str, int]) -> None:
        """Rebuild the views unless they are of these versions; while another process does it, wait."""
        while await self._log.readers.run(lambda connection: _are_of_other_versions(connection, versions)):
            try:
                await self._rebuild(None, {})  # while it is being opened, its views become ours, whatever they were
            except RebuildRunning:
                await asyncio.sleep(_ASK_AGAIN_SECONDS)

    async def compare(self, progress: Progress | None) -> list[ViewDifference]:
        """Return where the live views differ from views made anew."""
        self._log.check_open()
        name = f"{COMPARE}{secrets.token_hex(8)}"  # any number of processes may compare at once
        return await self._folded(name, progress, _Scratch.compare)

    async def _folded(
        self, suffix: str, progress: Progress | None, end: Callable[["_Scratch"], Awaitable[Result | None]]
    ) -> Result:
        """Fold the log into scratch tables and return what comes of them, over again whenever that is None."""
        tries = 0
        while True:
            tries += 1
            async with _Scratch(self._log, suffix, self._make_rebuilder()) as scratch:
                if tries >= _TRIES_MAX or await scratch.catch_up(progress):
                    result = await end(scratch)
                    if result is not None:
                        return result


def remove_scratch(path: Path) -> None:
    """Remove the scratch files beside a database, those in use too: call `note_removal` first."""
    try:
        for found in path.parent.iterdir():
            if is_scratch_name(found.name, path.name):
                found.unlink(missing_ok=True)
    except OSError as error:  # it may hold what was erased
        raise ReadFailed(path, f"its scratch files cannot be looked for and removed: {error}") from error


@contextmanager
def _errors_of_ours(path: Path) -> Iterator[None]:
    """Raise what SQLite and the file system say as errors of ours."""
    with reading(path):
        try:
            yield
        except OSError as error:
            raise ReadFailed(path, str(error)) from error
        except sqlite3.Error as error:
            translated = translate(error, path, busy_timeout=0)
            if isinstance(translated, DiskFull):
                raise translated from error
            raise


def _are_of_other_versions(connection: sqlite3.Connection, versions: Mapping[str, int]) -> bool:
    found = view_versions(connection)
    return any(found.get(view) != version for view, version in versions.items())


def _check_not_newer(connection: sqlite3.Connection, replaced: Mapping[str, int]) -> None:
    """Raise `StoreChanged` where newer code has migrated the file since it was opened."""
    if schema_version(connection) != SCHEMA_VERSION:
        raise StoreChanged("the log's tables")
    if any(version > replaced.get(view, version) for view, version in view_versions(connection).items()):
        raise StoreChanged("its views")


async def _is_damaged(path: Path) -> bool:
    """Say whether pages of the file are lost: then none of those that the views have may be given back.

    Which they are is what the damaged tables say, and one may be a page of the log.
    """
    with _errors_of_ours(path):
        connection = await ThreadConnection.open(lambda: connect_read_only(path))
        try:
            problems = await connection.run(lambda: damage_in_pages(connection.raw))
        finally:
            connection.raw.interrupt()  # of a caller that was cancelled
            await connection.close()
    if problems:
        _log.warning(
            "pages are damaged: what the views fill is unused until the file is compacted",
            path=str(path),
            problems=problems[:_PROBLEMS_TOLD_MAX],
        )
    return bool(problems)


def _swap(
    connection: sqlite3.Connection,
    scratch: "_Scratch",
    log: SqliteEventLog,
    replaced: Mapping[str, int],
    *,
    damaged: bool,
) -> int | None:
    # The writer's lock is held: nothing is appended or removed between the last chunk and the swap, unless somebody has
    # taken the lock's file away.
    if scratch.is_outdated(connection):
        return None
    position = last_position(connection)
    while scratch.position < position:
        scratch.fold_chunk(connection)
    with _errors_of_ours(log.path):  # no descriptor may be left: nothing was written
        connection.execute("ATTACH ? AS scratch", (os.fsencode(scratch.path),))
    try:
        if damaged:
            with _errors_of_ours(log.path):
                _check_what_remains(connection, scratch, log.path)
        with transaction(connection):
            _check_not_newer(connection, replaced)
            if last_position(connection) != position or scratch.is_outdated(connection):
                return None
            if damaged:
                scratch.rebuilder.disown(connection)
            scratch.rebuilder.replace(connection, "scratch", position)
    finally:
        if damaged:  # a transaction that was rolled back has left its schema in memory
            connection.execute("PRAGMA writable_schema = RESET")
        connection.execute("DETACH scratch")
        log.appender.forget()
    return position


def _check_what_remains(connection: sqlite3.Connection, scratch: "_Scratch", path: Path) -> None:
    """Raise where pages of the log may be written over, once the views are no longer in the schema.

    Raises:
        ReadFailed
    """
    # Not in the transaction that writes: where SQLite has met a page that is lost, it refuses to change the schema.
    connection.execute("BEGIN IMMEDIATE")
    try:
        scratch.rebuilder.disown(connection)
        problems = damage_in_pages(connection)
    finally:
        connection.execute("ROLLBACK")
        connection.execute("PRAGMA writable_schema = RESET")  # else the schema in memory stays that without them
    if problem := used_twice(problems):
        advice = "nothing was written; `anabranch doctor` says what to do"
        raise ReadFailed(path, f"pages of its log may be taken for others: {problem}", advice)


class _Scratch:
    """A database beside the file that holds the views as far as they are folded. An async context manager."""

    def __init__(self, log: SqliteEventLog, suffix: str, rebuilder: Rebuilder) -> None:
        # Nothing is made beside a file that is only read.
        self.path = beside(Path(gettempdir(), log.path.name) if log.is_read_only else log.path, suffix)
        self.rebuilder = rebuilder
        self.position = 0
        self._source_path = log.path
        self._is_immutable = log.is_read_only
        self._limit = log.wal_limit
        self._source: ThreadConnection | None = None
        self._scratch: sqlite3.Connection | None = None
        self._events = FoldedEvents()
        self._removals = 0

    async def __aenter__(self) -> "_Scratch":
        try:
            with _errors_of_ours(self._source_path):
                self._source = await ThreadConnection.open(self._connect)
        except BaseException:
            self._remove()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._source is not None, "entered"
        await self._source.close(self._remove)

    def _connect(self) -> sqlite3.Connection:
        # The swap folds the last chunk on the writer's thread; the two are never at it at once.
        self.path.unlink(missing_ok=True)
        self._scratch = connect_new(self.path)
        self.rebuilder.create(self._scratch)
        with ExitStack() as unless_read:
            connecting = connect_read_only(self._source_path, immutable=self._is_immutable)
            source = unless_read.enter_context(closing(connecting))
            self._removals = removals(source)
            unless_read.pop_all()
        return source

    def _remove(self) -> None:
        if self._scratch is not None:
            with inside_sqlite():
                self._scratch.close()
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:  # what was to be done is done, or its own error matters more
            _log.warning("a scratch file is left behind", path=str(self.path), error=str(error))

    async def catch_up(self, progress: Progress | None) -> bool:
        """Fold chunk after chunk until little is left, to which others may be adding all the time.

        It says False when the folding has to start over.
        """
        source = self._running()
        while True:
            with _errors_of_ours(self._source_path):
                # The run of an event may be deleted before its stream is looked up: all of a chunk is of one snapshot.
                last = await source.run(lambda: in_snapshot(source.raw, self._fold_if_up_to_date))
            if last is None:
                return False
            if progress is not None:
                progress(self.position, last)
            if last - self.position < LOCKED_EVENTS_MAX:
                return True
            await asyncio.sleep(0)

    def is_outdated(self, source: sqlite3.Connection) -> bool:
        """Say whether something was taken out of the log since the folding began, and the scratch file with it."""
        return removals(source) != self._removals or not self.path.exists()

    async def compare(self) -> list[ViewDifference] | None:
        """Compare with the live tables in one snapshot; None when the folding has to start over."""
        source = self._running()
        with _errors_of_ours(self._source_path):
            return await source.run(lambda: self._compare(source.raw))

    def _compare(self, source: sqlite3.Connection) -> list[ViewDifference] | None:
        try:
            # A plain name would be made anew where the file is gone: that `source` only reads is not handed on.
            source.execute("ATTACH ? AS scratch", (f"file:{quote(os.fsencode(self.path))}?mode=ro",))
        except sqlite3.Error:
            if self.is_outdated(source):  # then its file may be gone
                return None
            raise
        with self._limit.reading(source):
            source.execute("BEGIN")
            if self.is_outdated(source):
                return None
            while self.position < last_position(source):
                self.fold_chunk(source)
            return self.rebuilder.differences(source, "scratch")

    def fold_chunk(self, source: sqlite3.Connection) -> None:
        """Fold the next chunk as `source` sees the log."""
        last = last_position(source)
        with closing(source.execute(_SELECT, (self.position, last))) as cursor:
            chunk = Chunk(cursor, CHUNK_EVENTS)
            self.rebuilder.fold(self._events.of(source, chunk))
        # The last events may be of a run that was deleted.
        self.position = last if chunk.is_last else chunk.position

    def _fold_if_up_to_date(self, source: sqlite3.Connection) -> int | None:
        # A run that was deleted may have been made anew: what is left of the old one would be in the way of its rows.
        if self.is_outdated(source):
            return None
        self.fold_chunk(source)
        return last_position(source)

    def _running(self) -> ThreadConnection:
        assert self._source is not None, "entered"
        return self._source
