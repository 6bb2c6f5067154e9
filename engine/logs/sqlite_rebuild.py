"""Rebuilding and checking the views of a SQLite log.

The log is folded in chunks into a scratch database beside the file, while writers continue. At the end, under the lock,
the last events are folded and the scratch tables replace the live ones in one transaction. If an event is erased or a
run deleted meanwhile, the scratch tables still hold it, so folding starts over.
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
from engine.logs.sqlite_schema import SCHEMA_VERSION, damage_in_pages, first_shared_page, schema_version, view_versions
from engine.logs.transactions import transaction
from engine.ports import Progress, Rebuilder, ViewDifference
from engine.row_chunks import Chunk

Result = TypeVar("Result")

_log = get_logger(__name__)

CHUNK_EVENTS = 4000
LOCKED_EVENTS_MAX = 1000  # how many events the swap may fold while it blocks all writers
_TRIES_MAX = 5  # interrupted by removals; the last one folds everything under the lock
_POLL_SECONDS = 0.05
_PROBLEMS_TOLD_MAX = 5

_SELECT = f"{SELECT_FOLDED} WHERE position > ? AND position <= ? ORDER BY position"


class SqliteViewMaintenance:
    """`engine.ports.ViewMaintenance` for a SQLite log; `make_rebuilder` creates one for each use."""

    def __init__(self, log: SqliteEventLog, make_rebuilder: Callable[[], Rebuilder]) -> None:
        self._log = log
        self._make_rebuilder = make_rebuilder

    async def rebuild(self, progress: Progress | None) -> int:
        """Rebuild every view; return the position that the views are true up to.

        Raises:
            RebuildRunning: another process, or another task, is rebuilding this file.
            StoreChanged: newer code has migrated the file since it was opened.
            ReadFailed, DiskFull: the scratch tables cannot be created.
        """
        return await self._rebuild(progress, self._log.appender.projectors.versions())

    async def _rebuild(self, progress: Progress | None, replaceable: Mapping[str, int]) -> int:
        # `replaceable` holds, by view, the highest version that may be replaced; of other views, any version may.
        self._log.check_writable()
        with _translated_errors(self._log.path):
            lock = FileLock(beside(self._log.path, REBUILD_LOCK))
        try:
            if not lock.try_acquire():
                raise RebuildRunning(self._log.path)
            damaged = await _is_damaged(self._log.path)
            # All rebuilds use one name, so that the next one removes the leftovers of a killed one.
            return await self._fold_then(
                REBUILD,
                progress,
                lambda scratch: self._log.exclusively(
                    lambda each: _swap(each, scratch, self._log, replaceable, damaged=damaged)
                ),
            )
        finally:
            lock.close()

    async def bring_to(self, versions: Mapping[str, int]) -> None:
        """Rebuild the views unless they have these versions; while another process rebuilds them, wait."""
        while await self._log.readers.run(lambda connection: _have_other_versions(connection, versions)):
            try:
                await self._rebuild(None, {})  # opening may replace views of any version
            except RebuildRunning:
                await asyncio.sleep(_POLL_SECONDS)

    async def compare(self, progress: Progress | None) -> list[ViewDifference]:
        """Return where the live views differ from freshly folded ones."""
        self._log.check_open()
        name = f"{COMPARE}{secrets.token_hex(8)}"  # any number of processes may compare at once
        return await self._fold_then(name, progress, _Scratch.compare)

    async def _fold_then(
        self, suffix: str, progress: Progress | None, end: Callable[["_Scratch"], Awaitable[Result | None]]
    ) -> Result:
        """Fold the log into scratch tables and return the result of `end`; start over whenever that is None."""
        tries = 0
        while True:
            tries += 1
            async with _Scratch(self._log, suffix, self._make_rebuilder()) as scratch:
                if tries >= _TRIES_MAX or await scratch.catch_up(progress):
                    result = await end(scratch)
                    if result is not None:
                        return result


def remove_scratch(path: Path) -> None:
    """Remove the scratch files beside a database, even if in use: call `note_removal` first."""
    try:
        for found in path.parent.iterdir():
            if is_scratch_name(found.name, path.name):
                found.unlink(missing_ok=True)
    except OSError as error:  # not ignored, because a scratch file may hold erased data
        raise ReadFailed(path, f"its scratch files cannot be found and removed: {error}") from error


@contextmanager
def _translated_errors(path: Path) -> Iterator[None]:
    """Translate the errors of SQLite and the file system into the engine's."""
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


def _have_other_versions(connection: sqlite3.Connection, versions: Mapping[str, int]) -> bool:
    found = view_versions(connection)
    return any(found.get(view) != version for view, version in versions.items())


def _check_not_newer(connection: sqlite3.Connection, replaceable: Mapping[str, int]) -> None:
    """Raise `StoreChanged` if newer code has migrated the file since it was opened."""
    if schema_version(connection) != SCHEMA_VERSION:
        raise StoreChanged("the log's tables")
    if any(version > replaceable.get(view, version) for view, version in view_versions(connection).items()):
        raise StoreChanged("its views")


async def _is_damaged(path: Path) -> bool:
    """Whether pages of the file are damaged. Then the pages of the old views must not be freed.

    Which pages those are is known only from the damaged tables, and one may really belong to the log.
    """
    with _translated_errors(path):
        connection = await ThreadConnection.open(lambda: connect_read_only(path))
        try:
            problems = await connection.run(lambda: damage_in_pages(connection.raw))
        finally:
            connection.raw.interrupt()  # if the caller was cancelled
            await connection.close()
    if problems:
        _log.warning(
            "pages are damaged: the pages of the old views stay unused until the file is compacted",
            path=str(path),
            problems=problems[:_PROBLEMS_TOLD_MAX],
        )
    return bool(problems)


def _swap(
    connection: sqlite3.Connection,
    scratch: "_Scratch",
    log: SqliteEventLog,
    replaceable: Mapping[str, int],
    *,
    damaged: bool,
) -> int | None:
    # The writers' lock is held, so nothing is appended or removed between the last chunk and the swap, unless the lock
    # file was deleted.
    if scratch.is_outdated(connection):
        return None
    position = last_position(connection)
    while scratch.position < position:
        scratch.fold_chunk(connection)
    with _translated_errors(log.path):  # may fail for lack of descriptors, before anything is written
        connection.execute("ATTACH ? AS scratch", (os.fsencode(scratch.path),))
    try:
        if damaged:
            with _translated_errors(log.path):
                _check_log_pages(connection, scratch, log.path)
        with transaction(connection):
            _check_not_newer(connection, replaceable)
            if last_position(connection) != position or scratch.is_outdated(connection):
                return None
            if damaged:
                scratch.rebuilder.disown(connection)
            scratch.rebuilder.replace(connection, "scratch", position)
    finally:
        if damaged:  # a rollback does not reset the schema in memory
            connection.execute("PRAGMA writable_schema = RESET")
        connection.execute("DETACH scratch")
        log.appender.forget()
    return position


def _check_log_pages(connection: sqlite3.Connection, scratch: "_Scratch", path: Path) -> None:
    """Raise `ReadFailed` if, without the views in the schema, writing could still overwrite pages of the log."""
    # Not in the transaction that writes: once SQLite has met a damaged page, it refuses to change the schema.
    connection.execute("BEGIN IMMEDIATE")
    try:
        scratch.rebuilder.disown(connection)
        problems = damage_in_pages(connection)
    finally:
        connection.execute("ROLLBACK")
        connection.execute("PRAGMA writable_schema = RESET")  # else the schema in memory stays without the views
    if problem := first_shared_page(problems):
        advice = "nothing was written; `anabranch doctor` says what to do"
        raise ReadFailed(path, f"pages of its log may be overwritten: {problem}", advice)


class _Scratch:
    """A temporary database with the views as folded so far. An async context manager."""

    def __init__(self, log: SqliteEventLog, suffix: str, rebuilder: Rebuilder) -> None:
        # Beside the file, unless that is read-only.
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
            with _translated_errors(self._source_path):
                self._source = await ThreadConnection.open(self._connect)
        except BaseException:
            self._remove()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._source is not None, "entered"
        await self._source.close(self._remove)

    def _connect(self) -> sqlite3.Connection:
        # Used on this thread and, for the swap's last chunks, on the writer's, but never on both at once.
        self.path.unlink(missing_ok=True)
        self._scratch = connect_new(self.path)
        self.rebuilder.create(self._scratch)
        with ExitStack() as on_failure:
            connecting = connect_read_only(self._source_path, immutable=self._is_immutable)
            source = on_failure.enter_context(closing(connecting))
            self._removals = removals(source)
            on_failure.pop_all()
        return source

    def _remove(self) -> None:
        if self._scratch is not None:
            with inside_sqlite():
                self._scratch.close()
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:  # not raised: the work is done, or its own error matters more
            _log.warning("a scratch file is left behind", path=str(self.path), error=str(error))

    async def catch_up(self, progress: Progress | None) -> bool:
        """Fold chunk after chunk until few events are left; return False if folding has to start over."""
        source = self._running()
        while True:
            with _translated_errors(self._source_path):
                # One snapshot per chunk: an event's run might be deleted before its stream is looked up.
                last = await source.run(lambda: in_snapshot(source.raw, self._fold_if_up_to_date))
            if last is None:
                return False
            if progress is not None:
                progress(self.position, last)
            if last - self.position < LOCKED_EVENTS_MAX:
                return True
            await asyncio.sleep(0)

    def is_outdated(self, source: sqlite3.Connection) -> bool:
        """Whether something was removed from the log since folding began, or the scratch file was removed."""
        return removals(source) != self._removals or not self.path.exists()

    async def compare(self) -> list[ViewDifference] | None:
        """Compare with the live tables in one snapshot; None if folding has to start over."""
        source = self._running()
        with _translated_errors(self._source_path):
            return await source.run(lambda: self._compare(source.raw))

    def _compare(self, source: sqlite3.Connection) -> list[ViewDifference] | None:
        try:
            # By URI: an attached plain name would be created if missing, even though `source` is read-only.
            source.execute("ATTACH ? AS scratch", (f"file:{quote(os.fsencode(self.path))}?mode=ro",))
        except sqlite3.Error:
            if self.is_outdated(source):  # its file may have been removed
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
        # The last position may belong to a deleted run.
        self.position = last if chunk.is_last else chunk.position

    def _fold_if_up_to_date(self, source: sqlite3.Connection) -> int | None:
        # A deleted run may have been recreated, whose rows would collide with those of the old one.
        if self.is_outdated(source):
            return None
        self.fold_chunk(source)
        return last_position(source)

    def _running(self) -> ThreadConnection:
        assert self._source is not None, "entered"
        return self._source
