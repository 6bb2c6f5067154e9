"""Turning a state store into a log in place, inside the transaction that makes the log's tables.

The old tables are set aside, their rows become events by the ordinary way of appending, and the tables are dropped. A
kill at any moment leaves the state store as it was, or the log.
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
from engine.logs.state_aside import ROWS, TablesAside
from engine.logs.state_rows import attempt_request, external_run_request, run_request, task_request
from engine.logs.state_store import back_up, check_migratable, is_state_store, version_of

Facts: TypeAlias = dict[str, Any]

# What is there already is taken as it is: a state store had no limit, and files stood inside its rows.
_EVENT_BYTES_MAX: Final = 1024 * 1024 * 1024

_NAMED_MAX: Final = 10  # how many of many things a line of the log names
_WITHOUT_ATTEMPTS: Final = "1"

# What SQLite says of tables and rows that are not as they should be; its other errors are about the file.
_BAD_TABLE: Final = frozenset({sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH})

_log = get_logger(__name__)


@contextmanager
def from_state_store(connection: sqlite3.Connection, path: Path, appender: Appender) -> Iterator[Facts]:
    """Make what is in a state store the log's first events; where the file is no state store, do nothing.

    It is entered at the start of a transaction that holds the write lock, its block makes the tables of the log and of
    the views, and the caller commits. What it yields is filled at the end, for a line that says what was done: the
    version, the backup, and how many rows became how many events.

    Raises:
        CannotMigrate: naming the table, the row and the problem; or an orchestrator is at work on it.
        UnknownStateSchema
        DiskFull, FolderNotWritable: there is no backup.
    """
    facts: Facts = {}
    if not is_state_store(connection):
        yield facts
        return
    with _at_rest(path):
        yield from _migrated(connection, path, appender, facts)


@contextmanager
def _at_rest(path: Path) -> Iterator[None]:
    """Hold the lock that an orchestrator of the old store takes while it is at work, where there is one."""
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
            raise CannotMigrate(path, f"{shown(RUN_LOCK_NAME)} beside it is held: an orchestrator is at work on it")
        yield
    finally:
        lock.close()


def _migrated(connection: sqlite3.Connection, path: Path, appender: Appender, facts: Facts) -> Iterator[Facts]:
    check_migratable(connection, path, ())  # until now, another program may have changed it
    version = version_of(connection)
    backup = path.with_name(f"{path.name}.v{version}-backup")
    # Nobody else can write now: the copy is of what becomes events.
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
            raise CannotMigrate(path, f"it is a state store that SQLite cannot read as one: {error}") from error
        raise


@contextmanager
def _any_text(connection: sqlite3.Connection) -> Iterator[None]:
    # Bytes that are not UTF-8 are read as surrogates, which no value may hold: so the error names the row.
    before = connection.text_factory
    connection.text_factory = _with_surrogates
    try:
        yield
    finally:
        connection.text_factory = before


def _with_surrogates(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


class _Migration:
    """One state store on its way, and the row it is at."""

    def __init__(self, connection: sqlite3.Connection, path: Path, *, backfill: bool) -> None:
        self._connection = connection
        self._path = path
        self._backfill = backfill
        self._aside = TablesAside(connection)
        self._table = ""
        self._row_id: object = None

    def begin(self) -> None:
        unknown = self._aside.unknown_columns()
        if unknown:
            _log.warning("columns that only the backup keeps", path=str(self._path), columns=unknown)
        self._aside.set_aside()

    def finish(self, appender: Appender) -> Facts:
        """Record every row, and return how many there were."""
        try:
            appender.record(self._requests(), event_bytes_max=_EVENT_BYTES_MAX)
        except AnabranchError as error:
            reason = f"table {self._table}, row {shown(self._row_id)}: {error}"
            raise CannotMigrate(self._path, reason) from error
        self._check_whole()
        for what, count, names in self._aside.orphans(_NAMED_MAX):
            first = [shown(name) for name in names]
            _log.warning("rows speak of what is not there", path=str(self._path), what=what, count=count, first=first)
        counts = self._aside.counts()
        self._aside.drop()
        return {**counts, "events": self._count("events")}

    def _requests(self) -> Iterator[Request]:
        for self._table in ROWS:
            for row in self._aside.rows(self._table):
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

    def _check_whole(self) -> None:
        # A file whose tables lost their keys may hold rows that cannot stand beside each other in the views.
        for table, due in self._aside.counts_due(backfill=self._backfill).items():
            found = self._count(table)
            if found != due:
                raise CannotMigrate(self._path, f"table {table}: of {due} rows only {found} have keys of their own")

    def _count(self, table: str) -> int:
        number: int = self._connection.execute(f"SELECT count(*) FROM main.{table}").fetchone()[0]
        return number
