"""The scratch database that the views of a SQLite log are folded into, to replace the live ones or be compared."""

import asyncio
import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import gettempdir
from urllib.parse import quote

from engine.errors import DiskFull, ReadFailed
from engine.logger import get_logger
from engine.logs.connections import ThreadConnection
from engine.logs.forking import connect_new, inside_sqlite
from engine.logs.own_files import beside, is_scratch_name
from engine.logs.readers import connect_read_only, in_snapshot
from engine.logs.sqlite import SqliteEventLog
from engine.logs.sqlite_epoch import removals
from engine.logs.sqlite_errors import reading, translate
from engine.logs.sqlite_fold import SELECT_FOLDED, FoldedEvents
from engine.logs.sqlite_read import last_position
from engine.ports import Progress, Rebuilder, ViewDifference
from engine.row_chunks import Chunk

CHUNK_EVENTS = 4000
LOCKED_EVENTS_MAX = 1000  # how many events the swap may fold while it blocks all writers

_SELECT = f"{SELECT_FOLDED} WHERE position > ? AND position <= ? ORDER BY position"

_log = get_logger(__name__)


class Scratch:
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

    async def __aenter__(self) -> "Scratch":
        try:
            with translated_errors(self._source_path):
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
            with translated_errors(self._source_path):
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
        with translated_errors(self._source_path):
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


def remove_scratch(path: Path) -> None:
    """Remove the scratch files beside a database, even if in use: call `note_removal` first."""
    try:
        for found in path.parent.iterdir():
            if is_scratch_name(found.name, path.name):
                found.unlink(missing_ok=True)
    except OSError as error:  # not ignored, because a scratch file may hold erased data
        raise ReadFailed(path, f"its scratch files cannot be found and removed: {error}") from error


@contextmanager
def translated_errors(path: Path) -> Iterator[None]:
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
