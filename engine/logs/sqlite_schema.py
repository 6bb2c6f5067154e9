"""The SQLite log's own tables, their numbered migrations, and the check that a file is a log."""

import sqlite3
import uuid
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from engine.errors import ForeignDatabase, NewerDatabase
from engine.logs.sqlite_checksums import add_checksums
from engine.logs.state_store import check_migratable, is_state_store

APPLICATION_ID: Final = 0x616E6162
"""`anab`, in the header of each of the engine's files."""

_VERSION_1 = """
CREATE TABLE store (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE streams (
    stream_id INTEGER PRIMARY KEY,
    root_id INTEGER NOT NULL,
    run_id TEXT NOT NULL,
    branch TEXT NOT NULL,
    parent_id INTEGER,
    parent_version INTEGER NOT NULL,
    version INTEGER NOT NULL,
    hash BLOB NOT NULL,
    UNIQUE (run_id, branch)
) STRICT;
CREATE INDEX streams_by_parent ON streams (parent_id);
CREATE TABLE events (
    position INTEGER PRIMARY KEY,
    root_id INTEGER NOT NULL,
    stream_id INTEGER NOT NULL,
    stream_version INTEGER NOT NULL,
    event_type TEXT NOT NULL,
    schema_version INTEGER NOT NULL,
    event_id BLOB NOT NULL,
    recorded_at INTEGER NOT NULL,
    payload BLOB,
    payload_digest BLOB,
    hash BLOB NOT NULL
) STRICT;
CREATE INDEX events_by_run ON events (root_id);
CREATE TABLE idempotency_keys (
    root_id INTEGER NOT NULL,
    idempotency_key TEXT NOT NULL,
    digest BLOB NOT NULL,
    first_position INTEGER NOT NULL,
    events INTEGER NOT NULL,
    stream_version INTEGER NOT NULL,
    PRIMARY KEY (root_id, idempotency_key)
) STRICT, WITHOUT ROWID;
CREATE TABLE view_checkpoints (
    view TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    position INTEGER NOT NULL
) STRICT;
"""


_VERSION_2 = """
CREATE TABLE deleted_runs (
    root_id INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL,
    last_stream_id INTEGER NOT NULL,
    first_position INTEGER NOT NULL,
    last_position INTEGER NOT NULL,
    events INTEGER NOT NULL,
    leaf BLOB NOT NULL,
    store_position INTEGER NOT NULL,
    deleted_at INTEGER NOT NULL,
    reason TEXT NOT NULL
) STRICT;
"""


# Every read, batch and new stream looks up the maximum of one of these columns.
_VERSION_3 = """
CREATE INDEX deleted_runs_by_stream ON deleted_runs (last_stream_id);
CREATE INDEX deleted_runs_by_position ON deleted_runs (store_position);
CREATE INDEX deleted_runs_by_time ON deleted_runs (deleted_at);
"""


def _create(connection: sqlite3.Connection) -> None:
    _execute_each(connection, _VERSION_1)
    connection.execute("INSERT INTO store VALUES ('store_id', ?)", (str(uuid.uuid4()),))


def _execute_each(connection: sqlite3.Connection, script: str) -> None:
    """Execute the statements of a script in the caller's transaction, which `executescript` would commit."""
    for statement in script.split(";\n"):
        connection.execute(statement)


# Migration n takes the log's tables from version n - 1 to n; version 0 is an empty file.
MIGRATIONS: Final[tuple[Callable[[sqlite3.Connection], None], ...]] = (
    _create,
    lambda connection: _execute_each(connection, _VERSION_2),
    lambda connection: _execute_each(connection, _VERSION_3),
    add_checksums,
)
SCHEMA_VERSION: Final = len(MIGRATIONS)


LOG_TABLES: Final = ("store", "streams", "events", "idempotency_keys", "view_checkpoints", "deleted_runs")


def check_ours(connection: sqlite3.Connection, path: Path, view_tables: Collection[str]) -> None:
    """Raise unless the file is empty, a log that this version can read, or a state store to be migrated.

    Args:
        view_tables: the names of the views' tables. A state store may have foreign tables, but none by these names, or
            by those of the log's tables.

    Raises:
        ForeignDatabase, NewerDatabase, UnknownStateSchema
    """
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    version = schema_version(connection)
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if application_id != APPLICATION_ID and (tables or application_id or version):
        if application_id or version or not is_state_store(connection):
            raise ForeignDatabase(path, "it is a SQLite database, but not one of anabranch's")
        check_migratable(connection, path, (*LOG_TABLES, *view_tables))
    if version > SCHEMA_VERSION:
        raise NewerDatabase(path, version, SCHEMA_VERSION)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the log's tables up to date, inside the caller's transaction."""
    version = schema_version(connection)
    for migration in MIGRATIONS[version:]:
        migration(connection)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def schema_version(connection: sqlite3.Connection) -> int:
    """Return the version of the log's tables, 0 if there are none."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def view_versions(connection: sqlite3.Connection) -> dict[str, int]:
    """Return the version of each view's tables, by the view's name."""
    return dict(connection.execute("SELECT view, version FROM view_checkpoints"))
