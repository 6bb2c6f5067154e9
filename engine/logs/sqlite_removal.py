"""Removing data from a SQLite log permanently: payloads, whole runs, and the traces of both in the file.

Each erasure (`sqlite_erasure`) and each deletion (`sqlite_deletion`) is one transaction under the writers' lock. Freed
pages may keep their bytes until they are reused; `compact` rewrites the file without them.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Final, TypeVar

from engine.errors import ReadFailed
from engine.logs.sqlite import SqliteEventLog
from engine.logs.sqlite_append import Appender
from engine.logs.sqlite_damage import damage_in_pages
from engine.logs.sqlite_deletion import check_expired, delete_run, find_expired, recorded_until
from engine.logs.sqlite_epoch import note_removal
from engine.logs.sqlite_erasure import ToErase, erase_payload
from engine.logs.sqlite_errors import as_row_damaged
from engine.logs.sqlite_ledger import SqliteLedger, lenient
from engine.logs.sqlite_scratch import remove_scratch
from engine.logs.transactions import transaction
from engine.logs.wal_limit import truncate_log
from engine.removal import Collected, Compaction, DeletedRun, Deletion, Erasure, Expiry
from engine.times import from_microseconds

Result = TypeVar("Result")

READERS_WAITED_FOR_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.05


class SqliteRemoval:
    """`engine.removal.Removal` for a SQLite log."""

    def __init__(self, log: SqliteEventLog) -> None:
        self._log = log

    async def erase(self, run_id: str, branch: str, version: int, reason: str, by: str | None) -> Erasure:
        """Erase one payload; see `Engine.erase`."""
        what = ToErase(run_id, branch, version, reason, by)
        return await self._exclusively(lambda connection: erase_payload(connection, self._log.appender, what))

    async def recorded_until(self, microseconds: int) -> int:
        """See `engine.removal.Removal`."""
        return await self._log.readers.run(lambda connection: recorded_until(connection, microseconds))

    async def expired(self, expiry: Expiry) -> Collected:
        """Return what `Engine.collect` would delete, newest first, and what it would keep."""
        return await self._log.readers.run(lambda connection: find_expired(connection, expiry))

    async def delete_run(self, run_id: str, reason: str, *, carry_over: bool, expiry: Expiry | None) -> DeletedRun:
        """Delete one run; see `Engine.delete_run` and `Engine.collect`."""

        def delete(connection: sqlite3.Connection) -> DeletedRun:
            if expiry is not None:
                check_expired(connection, run_id, expiry)
            return delete_run(connection, self._log.appender, run_id, reason, carry_over=carry_over)

        return await self._exclusively(delete)

    async def deletions(self) -> list[Deletion]:
        """Return the records of deleted runs, the last deleted first."""
        return await self._log.readers.run(lenient(_deletions))

    async def compact(self) -> Compaction:
        """Rewrite the file; see `Engine.compact`."""
        before, after = await self._log.exclusively(lambda connection: _vacuum(connection, self._log.path))
        waited = 0.0
        truncate = partial(truncate_log, waiting_ms=0)
        while not (complete := await self._log.exclusively(truncate)) and waited < READERS_WAITED_FOR_SECONDS:
            await asyncio.sleep(_POLL_SECONDS)  # without the lock, so that writers can continue
            waited += _POLL_SECONDS
        return Compaction(bytes_before=before, bytes_after=after, complete=complete)

    async def _exclusively(self, job: Callable[[sqlite3.Connection], Result]) -> Result:
        def in_transaction(connection: sqlite3.Connection) -> Result:
            try:
                with _secure_transaction(connection, self._log.appender):
                    return job(connection)
            except Exception as error:  # noqa: BLE001 - re-raised, translated
                raise as_row_damaged(error, self._log.path)  # noqa: B904 - it has its cause

        return await self._log.exclusively(in_transaction)


def _deletions(connection: sqlite3.Connection) -> list[Deletion]:
    found = sorted(SqliteLedger(connection).deleted(), key=attrgetter("deleted_at"), reverse=True)
    return [
        Deletion(
            run_id=each.run_id,
            deleted_at=from_microseconds(each.deleted_at),
            reason=each.reason,
            events=each.events,
            first_position=each.first_position,
            last_position=each.last_position,
        )
        for each in found
    ]


@contextmanager
def _secure_transaction(connection: sqlite3.Connection, appender: Appender) -> Iterator[None]:
    (before,) = connection.execute("PRAGMA secure_delete").fetchone()
    connection.execute("PRAGMA secure_delete = ON")
    try:
        with transaction(connection):
            appender.catch_up()  # another process may have written since the caches were filled
            note_removal(connection)
            yield
    except BaseException:
        appender.forget()
        raise
    finally:
        connection.execute(f"PRAGMA secure_delete = {before}")


def _vacuum(connection: sqlite3.Connection, path: Path) -> tuple[int, int]:
    """Rewrite the file, by way of the write-ahead log; return its size in bytes before and after."""
    if problems := damage_in_pages(connection):  # unreadable data, which may be recoverable, would be lost
        raise ReadFailed(path, f"{problems[0]}; nothing was written", "`anabranch doctor` says what to do")
    before = _bytes(connection)
    note_removal(connection)
    remove_scratch(path)  # including those of a killed rebuild
    connection.execute("VACUUM")
    return before, _bytes(connection)


def _bytes(connection: sqlite3.Connection) -> int:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    return int(pages) * int(size)
