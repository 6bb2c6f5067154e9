"""Opening a SQLite log: initialises a new file, migrates a state store, or upgrades an older log."""

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
from engine.logs.sqlite_damage import check_roots
from engine.logs.sqlite_library import check_library
from engine.logs.sqlite_read import last_position
from engine.logs.sqlite_schema import SCHEMA_VERSION, check_ours, migrate, schema_version, view_versions
from engine.logs.state_migration import from_state_store
from engine.logs.state_store import is_state_store
from engine.logs.sync_failures import write_again
from engine.logs.transactions import transaction
from engine.logs.wal_limit import WAL_BYTES_MAX
from engine.projectors import Projector, Projectors

Durability: TypeAlias = Literal["full", "relaxed"]

WAL_PAGES_MAX: Final = 1000

_log = get_logger(__name__)

# Taken only inside `inside_sqlite`, so that no fork happens while it is held. Why it is needed: see `prepare_file`.
_CONNECTING = threading.Lock()


class Settings(Struct, frozen=True, kw_only=True):
    """How a SQLite log is opened.

    `durability="full"` syncs every commit; `"relaxed"` syncs only at checkpoints, so a power cut may lose the latest
    commits. `event_bytes_max` is the largest encoded event, in bytes; `busy_timeout` is in seconds; `wal_bytes_max` is
    the target limit of the write-ahead log, in bytes. `read_only` uses none of these: see `sqlite_read_only`.
    """

    durability: Durability = "full"
    event_bytes_max: int = EVENT_BYTES_MAX
    busy_timeout: float = 30.0
    wal_bytes_max: int = WAL_BYTES_MAX
    allow_network: bool = False
    read_only: bool = False


class Setup:
    """Prepares a connection and its file for writing. Runs on the connection's thread."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self._path = path
        self._settings = settings
        self._synchronous = "FULL" if settings.durability == "full" else "NORMAL"

    def connect(self) -> sqlite3.Connection:
        """Return a connection to the file, which is created if missing."""
        check_library(self._path)
        self._refuse_lost_file()
        with _CONNECTING:
            if prepare_file(self._path, allow_network=self._settings.allow_network):
                _log.info("database created", path=str(self._path))
            return connect(self._path, busy_timeout=self._settings.busy_timeout)

    def _refuse_lost_file(self) -> None:
        # SQLite would treat it as new, and delete a write-ahead log that may hold all of the data.
        try:
            left = beside(self._path, WAL).stat().st_size
        except OSError:
            return
        if left and not (self._path.exists() and self._path.stat().st_size):
            raise CannotOpen(
                self._path,
                f"the file is missing or empty, but its write-ahead log of {left} bytes exists: restore the file, or"
                " move the log away",
            )

    def write_log_again(self, lock: FileLock) -> None:
        """Rewrite and sync the write-ahead log after a failed sync, before SQLite reads it.

        Raises:
            CannotOpen: writing or syncing fails again.
            StoreBusy
        """
        with self._locked(lock):
            try:
                write_again(beside(self._path, WAL))
            except OSError as error:
                cause = f"a sync failed before, and failed again: {error.strerror or error}"
                raise CannotOpen(self._path, cause) from error

    def prepare(self, connection: sqlite3.Connection, lock: FileLock, appender: Appender) -> list[str]:
        """Bring the file up to date, and return the names of the views that have to be rebuilt.

        A file that is up to date is only read, so that opening it does not wait for writers. The rows of a state store
        are recorded as events by `appender`.
        """
        execute = connection.execute
        projectors = appender.projectors
        with inside_sqlite():
            # In one snapshot: a file that another process is just initialising would otherwise look foreign.
            in_snapshot(connection, lambda snapshot: self._check_ours(snapshot, projectors))
            execute(f"PRAGMA synchronous = {self._synchronous}")
            execute("PRAGMA fullfsync = ON")  # macOS only: its fsync leaves data in the disk's own cache
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
            # Keep its journal mode during the migration, so that a failed migration does not change a byte.
            execute("PRAGMA synchronous = FULL")
            execute("PRAGMA foreign_keys = OFF")  # state stores never enforced them; some builds of SQLite do
        else:
            execute("PRAGMA journal_mode = WAL")
        with transaction(connection), from_state_store(connection, self._path, appender) as migrated:
            migrate(connection)
            stale = [name for projector in appender.projectors.all for name in _prepare_view(connection, projector)]
        if migrated:
            _log.warning("state store migrated", path=str(self._path), **migrated)
            execute("PRAGMA journal_mode = WAL")
            schema_version(connection)  # a connection that has not used the log would not delete it on closing
            execute(f"PRAGMA synchronous = {self._synchronous}")
        return stale

    def _check_ours(self, connection: sqlite3.Connection, projectors: Projectors) -> None:
        check_roots(connection, self._path)
        check_ours(connection, self._path, projectors.tables())


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
    # A new view of an existing log has version 0 until it is built, so that it is built after a crash, too.
    version = 0 if to_build else projector.version
    connection.execute("INSERT INTO view_checkpoints VALUES (?, ?, 0)", (projector.name, version))
    return [projector.name] if to_build else []
