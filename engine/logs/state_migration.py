"""Migrating a state store into a log in place, inside the transaction that creates the log's tables.

The old tables are renamed, their rows are appended as events in the ordinary way, and the tables are dropped. A kill at
any moment leaves either the unchanged state store or the complete log.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

from engine.commands import Request
from engine.errors import AnabranchError, CannotMigrate, shown
from engine.logger import get_logger
from engine.logs.file_lock import RUN_LOCK_NAME, FileLock
from engine.logs.sqlite_append import Appender
from engine.logs.sqlite_errors import primary_code
from engine.logs.state_rows import attempt_request, external_run_request, run_request, task_request
from engine.logs.state_store import back_up, check_migratable, is_state_store, version_of
from engine.logs.state_tables import ROWS, OldTables

Facts: TypeAlias = dict[str, Any]

# State stores had no limit, and held whole files in their rows: accept what exists.
_EVENT_BYTES_MAX: Final = 1024 * 1024 * 1024

_NAMED_MAX: Final = 10  # names listed in one log line
_WITHOUT_ATTEMPTS: Final = "1"

# SQLite's error codes for unexpected tables and rows; its other errors are about the file.
_BAD_TABLE: Final = frozenset({sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH})

_log = get_logger(__name__)


@contextmanager
def from_state_store(connection: sqlite3.Connection, path: Path, appender: Appender) -> Iterator[Facts]:
    """Record the rows of a state store as the log's first events; do nothing if the file is not a state store.

    Enter it at the start of a transaction that holds the write lock; the block creates the tables of the log and the
    views, and the caller commits. The yielded dict is filled at the end, for logging: the version, the backup, and the
    numbers of rows and events.

    Raises:
        CannotMigrate: naming the table, the row and the problem; or an orchestrator is running on the store.
        UnknownStateSchema
        DiskFull, FolderNotWritable: the backup could not be made.
    """
    facts: Facts = {}
    if not is_state_store(connection):
        yield facts
        return
    with _no_orchestrator(path):
        yield from _migrated(connection, path, appender, facts)


@contextmanager
def _no_orchestrator(path: Path) -> Iterator[None]:
    """Hold the lock that a running orchestrator of the old store takes, if its file exists."""
    lock_path = path.with_name(RUN_LOCK_NAME)
    if not lock_path.exists():
        yield
        return
    try:
        lock = FileLock(lock_path)
    except OSError as error:
        raise CannotMigrate(path, f"{shown(RUN_LOCK_NAME)} beside it cannot be opened: {error}") from error
    try:
        if not lock.try_acquire():
            raise CannotMigrate(path, f"a running orchestrator holds {shown(RUN_LOCK_NAME)} beside it: stop it first")
        yield
    finally:
        lock.close()


def _migrated(connection: sqlite3.Connection, path: Path, appender: Appender, facts: Facts) -> Iterator[Facts]:
    check_migratable(connection, path, ())  # again, because another program may have changed it
    version = version_of(connection)
    backup = path.with_name(f"{path.name}.v{version}-backup")
    # No one else can write now, so the backup is exactly what becomes events.
    back_up(path, backup)
    with _failing_as_migration(path), _any_text(connection):
        migration = _Migration(connection, path, backfill=version == _WITHOUT_ATTEMPTS)
        migration.begin()
        yield facts
        facts |= {"version": version, "backup": str(backup), **migration.finish(appender)}


@contextmanager
def _failing_as_migration(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if primary_code(error) in _BAD_TABLE:
            raise CannotMigrate(path, f"SQLite cannot read its tables as those of a state store: {error}") from error
        raise


@contextmanager
def _any_text(connection: sqlite3.Connection) -> Iterator[None]:
    # Read invalid UTF-8 as surrogates, which value checks refuse, so that the error names the row.
    before = connection.text_factory
    connection.text_factory = lambda stored: stored.decode("utf-8", "surrogateescape")
    try:
        yield
    finally:
        connection.text_factory = before


class _Migration:
    """The migration of one state store, and its current row."""

    def __init__(self, connection: sqlite3.Connection, path: Path, *, backfill: bool) -> None:
        self._connection = connection
        self._path = path
        self._backfill = backfill
        self._old = OldTables(connection)
        self._table = ""
        self._row_id: object = None

    def begin(self) -> None:
        unknown = self._old.unknown_columns()
        if unknown:
            _log.warning("unknown columns are kept only in the backup", path=str(self._path), columns=unknown)
        self._old.set_aside()

    def finish(self, appender: Appender) -> Facts:
        """Record every row; return the numbers of rows and events."""
        try:
            appender.record(self._requests(), event_bytes_max=_EVENT_BYTES_MAX)
        except AnabranchError as error:
            reason = f"table {self._table}, row {shown(self._row_id)}: {error}"
            raise CannotMigrate(self._path, reason) from error
        self._check_counts()
        for what, count, names in self._old.orphans(_NAMED_MAX):
            first = [shown(name) for name in names]
            _log.warning("rows refer to missing rows", path=str(self._path), what=what, count=count, first=first)
        counts = self._old.counts()
        self._old.drop()
        return {**counts, "events": self._count("events")}

    def _requests(self) -> Iterator[Request]:
        for self._table in ROWS:
            for row in self._old.rows(self._table):
                self._row_id = next(iter(row.values()))
                yield self._request(row)

    def _request(self, row: dict[str, Any]) -> Request:
        match self._table:
            case "runs":
                return run_request(row)
            case "tasks":
                return task_request(row)
            case "task_attempts":
                return attempt_request(row, backfill=self._backfill)
            case _:
                return external_run_request(row, backfill=self._backfill and bool(row["untried"]))

    def _check_counts(self) -> None:
        # A file whose tables lost their keys may hold duplicate rows, which the views merge.
        for table, due in self._old.counts_due(backfill=self._backfill).items():
            found = self._count(table)
            if found != due:
                raise CannotMigrate(self._path, f"table {table}: only {found} of {due} rows have unique keys")

    def _count(self, table: str) -> int:
        number: int = self._connection.execute(f"SELECT count(*) FROM main.{table}").fetchone()[0]
        return number
