"""`engine.transfer.port.Transfer` for a SQLite log."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncGenerator, Sequence
from typing import BinaryIO

from engine.logs.sqlite import SqliteEventLog
from engine.logs.sqlite_export import export_lines
from engine.logs.sqlite_import import Importing, Interrupted
from engine.logs.transactions import transaction
from engine.ports import Progress
from engine.transfer.port import Imported
from engine.transfer.reading import ExportReader


class SqliteTransfer:
    """Exports through the log's readers, imports on its writing connection."""

    def __init__(self, log: SqliteEventLog) -> None:
        self._log = log

    def export_runs(
        self, run_ids: Sequence[str] | None, *, with_sources: bool, readable: bool, progress: Progress | None
    ) -> AsyncGenerator[bytes, None]:
        """Yield the lines of an export; see `Engine.export_runs`."""
        return export_lines(self._log.readers, run_ids, with_sources=with_sources, readable=readable, progress=progress)

    async def import_runs(self, file: BinaryIO, progress: Progress | None) -> Imported:
        """Import an export; see `Engine.import_runs`.

        A cancelled caller waits for the rollback, which begins after the current chunk.
        """
        job = _Job(self._log, file, progress)
        return await self._log.exclusively(job.run, stop=job.stop)


class _Job:
    """One import on the writing connection's thread. `progress` is called on the event loop."""

    def __init__(self, log: SqliteEventLog, file: BinaryIO, progress: Progress | None) -> None:
        self._appender = log.appender
        self._event_bytes_max = log.capabilities.event_bytes_max
        self._reader = ExportReader(file, self._event_bytes_max)
        self._size = _size(file)
        self._progress = progress
        self._loop = asyncio.get_running_loop()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Make the import end after its current chunk, with nothing recorded."""
        self._stopped.set()

    def run(self, connection: sqlite3.Connection) -> Imported:
        try:
            with transaction(connection):
                importing = Importing(
                    connection,
                    self._appender,
                    self._reader,
                    event_bytes_max=self._event_bytes_max,
                    pause=self._pause,
                )
                return importing.run()
        finally:
            self._appender.forget()

    def _pause(self) -> None:
        if self._stopped.is_set():
            raise Interrupted
        if self._progress is not None:
            self._loop.call_soon_threadsafe(self._progress, self._reader.bytes_read, self._size)


def _size(file: BinaryIO) -> int:
    """Return the number of bytes left to read, 0 if unknown."""
    if not file.seekable():
        return 0
    here = file.tell()
    size = file.seek(0, 2) - here
    file.seek(here)
    return size
