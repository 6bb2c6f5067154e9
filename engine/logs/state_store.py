"""The file of a state store: how to recognise it, its known versions, and how to back it up.

A state store has the tables that the state views are named after: `runs`, `tasks`, `external_runs` and, from version 2
on, `task_attempts`, with the version in `schema_info`. Its foreign keys were declared, but never enforced.
"""

import contextlib
import sqlite3
from collections.abc import Collection
from pathlib import Path
from typing import Final

from engine.errors import AnabranchError, DiskFull, FolderNotWritable, ForeignDatabase, UnknownStateSchema
from engine.logs.file_system import is_disk_full, sync_file, sync_folder
from engine.logs.forking import connect_new
from engine.logs.readers import connect_read_only

COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "schema_info": ("key", "value"),
    "runs": (
        "run_id",
        "workspace_slug",
        "root_path",
        "created_at",
        "status",
        "status_reason",
        "tags",
        "description",
    ),
    "tasks": (
        "task_id",
        "run_id",
        "image",
        "command",
        "files",
        "env",
        "dependencies",
        "cores",
        "memory_gb",
        "gpus",
        "time_limit_minutes",
        "allow_dependency_failure",
        "allow_failure",
        "download_patterns",
        "status",
        "task_type",
        "operator_key",
        "current_attempt_id",
    ),
    "task_attempts": (
        "attempt_id",
        "task_id",
        "run_id",
        "attempt_index",
        "status",
        "operator_key",
        "operator_type",
        "external_id",
        "operator_data",
        "relative_path",
        "created_at",
        "submitted_at",
        "ended_at",
        "status_reason",
    ),
    "external_runs": (
        "task_id",
        "run_id",
        "operator_type",
        "external_id",
        "status",
        "operator_data",
        "relative_path",
    ),
}
"""The tables and their columns as of version 4; earlier versions have fewer."""

VERSIONS: Final = ("1", "2", "3", "4")

_OF_EVERY_VERSION = COLUMNS.keys() - {"task_attempts"}


def is_state_store(connection: sqlite3.Connection) -> bool:
    """Whether the file has the tables of a state store but no program's mark: a log has views of the same names."""
    marks = [connection.execute(f"PRAGMA {mark}").fetchone()[0] for mark in ("application_id", "user_version")]
    if any(marks):
        return False
    return tables_of(connection) >= _OF_EVERY_VERSION and columns_of(connection, "schema_info") >= {"key", "value"}


def check_migratable(connection: sqlite3.Connection, path: Path, our_tables: Collection[str]) -> None:
    """Raise unless the state store has a known version and no foreign table by one of the names `our_tables`.

    Raises:
        UnknownStateSchema, ForeignDatabase
    """
    version = version_of(connection)
    if version not in VERSIONS:
        raise UnknownStateSchema(path, version)
    taken = sorted(tables_of(connection) & (set(our_tables) - COLUMNS.keys()))
    if taken:
        raise ForeignDatabase(path, f"it is a state store with another program's table {taken[0]}")


def version_of(connection: sqlite3.Connection) -> str | None:
    """Return the state store's version, or None if it states none."""
    row = connection.execute("SELECT value FROM schema_info WHERE key = 'version'").fetchone()
    return None if row is None else str(row[0])


def tables_of(connection: sqlite3.Connection) -> set[str]:
    """Return the names of tables and views, in lower case, since SQLite ignores their case."""
    found = connection.execute("SELECT lower(name) FROM sqlite_schema WHERE type IN ('table', 'view')")
    return {name for (name,) in found}


def columns_of(connection: sqlite3.Connection, table: str) -> set[str]:
    """Return the names of a table's columns, in lower case."""
    return {name.lower() for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")}


def back_up(path: Path, target: Path) -> None:
    """Make `target` a durable, owner-only copy of the database, replacing an earlier one.

    The caller prevents writes meanwhile.

    Raises:
        DiskFull, FolderNotWritable
    """
    partial = target.with_name(f"{target.name}-partial")
    try:
        _copy_durably(path, partial)
        partial.replace(target)
        sync_folder(target.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _as_ours(error, path) from error
        raise


def _copy_durably(path: Path, partial: Path) -> None:
    partial.unlink(missing_ok=True)  # a killed process may have left one
    with contextlib.closing(connect_read_only(path)) as source, contextlib.closing(connect_new(partial)) as copy:
        source.backup(copy)
    sync_file(partial)


def _as_ours(error: OSError, path: Path) -> AnabranchError:
    if is_disk_full(error):
        return DiskFull(path)
    return FolderNotWritable(path, f"its backup: {error.strerror or error}")
