"""Rebuilding and checking the views of a SQLite log.

The log is folded in chunks into a scratch database beside the file, while writers continue. At the end, under the lock,
the last events are folded and the scratch tables replace the live ones in one transaction. If an event is erased or a
run deleted meanwhile, the scratch tables still hold it, so folding starts over.
"""

import asyncio
import os
import secrets
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from engine.errors import ReadFailed, RebuildRunning, StoreChanged
from engine.logger import get_logger
from engine.logs.connections import ThreadConnection
from engine.logs.file_lock import FileLock
from engine.logs.own_files import COMPARE, REBUILD, REBUILD_LOCK, beside
from engine.logs.readers import connect_read_only
from engine.logs.sqlite import SqliteEventLog
from engine.logs.sqlite_damage import damage_in_pages, first_shared_page
from engine.logs.sqlite_read import last_position
from engine.logs.sqlite_schema import SCHEMA_VERSION, schema_version, view_versions
from engine.logs.sqlite_scratch import Scratch, translated_errors
from engine.logs.transactions import transaction
from engine.ports import Progress, Rebuilder, ViewDifference

Result = TypeVar("Result")

_log = get_logger(__name__)

_TRIES_MAX = 5  # interrupted by removals; the last one folds everything under the lock
_POLL_SECONDS = 0.05
_PROBLEMS_TOLD_MAX = 5


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
        with translated_errors(self._log.path):
            lock = FileLock(beside(self._log.path, REBUILD_LOCK))
        try:
            if not lock.try_acquire():
                raise RebuildRunning(self._log.path)
            damaged = await _is_damaged(self._log.path)

            async def swap(scratch: Scratch) -> int | None:
                swapping = partial(_swap, scratch=scratch, log=self._log, replaceable=replaceable, damaged=damaged)
                return await self._log.exclusively(swapping)

            # All rebuilds use one name, so that the next one removes the leftovers of a killed one.
            return await self._fold_then(REBUILD, progress, swap)
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
        return await self._fold_then(name, progress, Scratch.compare)

    async def _fold_then(
        self, suffix: str, progress: Progress | None, end: Callable[[Scratch], Awaitable[Result | None]]
    ) -> Result:
        """Fold the log into scratch tables and return the result of `end`; start over whenever that is None."""
        tries = 0
        while True:
            tries += 1
            async with Scratch(self._log, suffix, self._make_rebuilder()) as scratch:
                if tries >= _TRIES_MAX or await scratch.catch_up(progress):
                    result = await end(scratch)
                    if result is not None:
                        return result


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
    with translated_errors(path):
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
    *,
    scratch: Scratch,
    log: SqliteEventLog,
    replaceable: Mapping[str, int],
    damaged: bool,
) -> int | None:
    # The writers' lock is held, so nothing is appended or removed between the last chunk and the swap, unless the lock
    # file was deleted.
    if scratch.is_outdated(connection):
        return None
    position = last_position(connection)
    while scratch.position < position:
        scratch.fold_chunk(connection)
    with translated_errors(log.path):  # may fail for lack of descriptors, before anything is written
        connection.execute("ATTACH ? AS scratch", (os.fsencode(scratch.path),))
    try:
        if damaged:
            with translated_errors(log.path):
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


def _check_log_pages(connection: sqlite3.Connection, scratch: Scratch, path: Path) -> None:
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
