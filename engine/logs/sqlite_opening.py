"""Opening a SQLite log: a new file becomes one, a state store is migrated, an older log is brought up to date."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from engine.codec import EVENT_BYTES_MAX
from engine.errors import CannotOpen, StoreBusy
from engine.logger import get_logger
from engine.logs.file_lock import FileLock
from engine.logs.file_system import prepare_file
from engine.logs.forking import connect, inside_sqlite
from engine.logs.own_files import WAL, beside
from engine.logs.readers import in_snapshot
from engine.logs.sqlite_append import Appender
from engine.logs.sqlite_read import last_position
from engine.logs.sqlite_schema import SCHEMA_VERSION, check_ours, check_roots, migrate, schema_version, view_versions
from engine.logs.state_migration import from_state_store
from engine.logs.state_store import is_state_store
from engine.logs.sync_failures import write_again
from engine.logs.transactions import transaction
from engine.logs.wal_limit import WAL_BYTES_MAX
from engine.projectors import Projector, Projectors

Durability: TypeAlias = Literal["full", "relaxed"]

SQLITE_VERSION_MIN: Final = (3, 37, 0)  # the first with STRICT tables
WAL_PAGES_MAX: Final = 1000

_log = get_logger(__name__)

# Held inside `inside_sqlite`, so that no fork happens while it is: see `prepare_file`.
_CONNECTING = threading.Lock()


class Settings(Struct, frozen=True, kw_only=True):
    """How a SQLite log is opened.

    `durability="full"` syncs every commit; `"relaxed"` leaves that to checkpoints, and a power cut may lose the last
    ones. `event_bytes_max` is the largest encoded event in bytes; `busy_timeout` in seconds; `wal_bytes_max` is how
    large the write-ahead log may grow, in bytes. What is opened `read_only` needs none of these: see `sqlite_to_read`.
    """

    durability: Durability = "full"
    event_bytes_max: int = EVENT_BYTES_MAX
    busy_timeout: float = 30.0
    wal_bytes_max: int = WAL_BYTES_MAX
    allow_network: bool = False
    read_only: bool = False


class SetUp:
    """Makes a connection ready to write, and the file one that today's code reads. Runs on the connection's thread."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self._path = path
        self._settings = settings
        self._synchronous = "FULL" if settings.durability == "full" else "NORMAL"

    def connect(self) -> sqlite3.Connection:
        """Return a connection to the file, which is created when missing."""
        if sqlite3.sqlite_version_info < SQLITE_VERSION_MIN:
            needed = ".".join(map(str, SQLITE_VERSION_MIN))
            raise CannotOpen(self._path, f"SQLite {sqlite3.sqlite_version} is too old; {needed} is needed")
        self._refuse_lost_file()
        with _CONNECTING:
            if prepare_file(self._path, allow_network=self._settings.allow_network):
                _log.info("database created", path=str(self._path))
            return connect(self._path, busy_timeout=self._settings.busy_timeout)

    def _refuse_lost_file(self) -> None:
        # SQLite would take it for a new one, and remove a log that may hold all that was ever written.
        try:
            left = beside(self._path, WAL).stat().st_size
        except OSError:
            return
        if left and not (self._path.exists() and self._path.stat().st_size):
            raise CannotOpen(
                self._path,
                f"it is not there, or empty, and its write-ahead log of {left} bytes is: put the file back, or take the"
                " log away",
            )

    def write_log_again(self, lock: FileLock) -> None:
        """Bring the write-ahead log to the disk once more after a sync failed, before SQLite reads it.

        Raises:
            CannotOpen: the disk still does not take it.
            StoreBusy
        """
        with self._locked(lock):
            try:
                write_again(beside(self._path, WAL))
            except OSError as error:
                raise CannotOpen(
                    self._path, f"a sync of it failed before, and now: {error.strerror or error}"
                ) from error

    def prepare(self, connection: sqlite3.Connection, lock: FileLock, appender: Appender) -> list[str]:
        """Return the names of the views that have to be rebuilt.

        A file that is up to date is only read, so that opening it waits for no writer. What is in a state store becomes
        events by `appender`.
        """
        execute = connection.execute
        projectors = appender.projectors
        with inside_sqlite():
            # Somebody else may be making the file just now: seen half before and half after, it would look like a
            # stranger's.
            in_snapshot(connection, lambda snapshot: self._check_ours(snapshot, projectors))
            execute(f"PRAGMA synchronous = {self._synchronous}")
            execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES_MAX}")
            execute(f"PRAGMA journal_size_limit = {int(self._settings.wal_bytes_max) // 2}")
            if _is_current(connection, projectors):
                return []
        with self._locked(lock), inside_sqlite():
            self._check_ours(connection, projectors)
            return self._bring_up_to_date(connection, appender)

    @contextmanager
    def _locked(self, lock: FileLock) -> Iterator[None]:
        with lock.tried_for(self._settings.busy_timeout) as held:
            if not held:
                raise StoreBusy(self._path, self._settings.busy_timeout)
            yield

    def _bring_up_to_date(self, connection: sqlite3.Connection, appender: Appender) -> list[str]:
        execute = connection.execute
        if is_state_store(connection):
            # It keeps its journal until it is a log: when it cannot become one, not a byte has changed.
            execute("PRAGMA synchronous = FULL")
            execute("PRAGMA foreign_keys = OFF")  # as a state store had them; some builds of SQLite have them on
        else:
            execute("PRAGMA journal_mode = WAL")
        with transaction(connection), from_state_store(connection, self._path, appender) as migrated:
            migrate(connection)
            stale = [name for projector in appender.projectors.all for name in _prepare_view(connection, projector)]
        if migrated:
            _log.warning("state store migrated", path=str(self._path), **migrated)
            execute("PRAGMA journal_mode = WAL")
            schema_version(connection)  # a connection that has not used the log would not clear it away on closing
            execute(f"PRAGMA synchronous = {self._synchronous}")
        return stale

    def _check_ours(self, connection: sqlite3.Connection, projectors: Projectors) -> None:
        check_roots(connection, self._path)
        check_ours(connection, self._path, [table for projector in projectors.all for table in projector.tables()])


def _is_current(connection: sqlite3.Connection, projectors: Projectors) -> bool:
    if schema_version(connection) != SCHEMA_VERSION:
        return False
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    return mode == "wal" and view_versions(connection) == projectors.versions()


def _prepare_view(connection: sqlite3.Connection, projector: Projector) -> list[str]:
    row = connection.execute("SELECT version FROM view_checkpoints WHERE view = ?", (projector.name,)).fetchone()
    if row is not None:
        return [] if row[0] == projector.version else [projector.name]
    projector.create_tables()
    to_build = last_position(connection) > 0
    # A new view of an old log has no version until it is built: whoever opens the file after a crash builds it.
    version = 0 if to_build else projector.version
    connection.execute("INSERT INTO view_checkpoints VALUES (?, ?, 0)", (projector.name, version))
    return [projector.name] if to_build else []
