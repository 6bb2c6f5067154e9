"""The file of a state store: how it is told from other databases, which versions there were, and a copy of it.

State stores are what this project's state views are named after: `runs`, `tasks`, `external_runs` and, from version 2
on, `task_attempts`, with the version in `schema_info`. Foreign keys were declared in them and never enforced.
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
    """Say whether the file has the tables of a state store, and no program's mark: ours has views of those names."""
    marks = [connection.execute(f"PRAGMA {mark}").fetchone()[0] for mark in ("application_id", "user_version")]
    if any(marks):
        return False
    return tables_of(connection) >= _OF_EVERY_VERSION and columns_of(connection, "schema_info") >= {"key", "value"}


def check_migratable(connection: sqlite3.Connection, path: Path, our_tables: Collection[str]) -> None:
    """Raise unless the state store is of a known version and has room for `our_tables` beside its own.

    Raises:
        UnknownStateSchema, ForeignDatabase
    """
    version = version_of(connection)
    if version not in VERSIONS:
        raise UnknownStateSchema(path, version)
    taken = sorted(tables_of(connection) & (set(our_tables) - COLUMNS.keys()))
    if taken:
        raise ForeignDatabase(path, f"it is a state store with a table of another program's: {taken[0]}")


def version_of(connection: sqlite3.Connection) -> str | None:
    """Return what the state store says of its version, None when it says nothing."""
    row = connection.execute("SELECT value FROM schema_info WHERE key = 'version'").fetchone()
    return None if row is None else str(row[0])


def tables_of(connection: sqlite3.Connection) -> set[str]:
    """Return the names of tables and views, in lower case: to SQLite the cases are the same."""
    found = connection.execute("SELECT lower(name) FROM sqlite_schema WHERE type IN ('table', 'view')")
    return {name for (name,) in found}


def columns_of(connection: sqlite3.Connection, table: str) -> set[str]:
    """Return the names of a table's columns, in lower case."""
    return {name.lower() for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")}


def back_up(path: Path, target: Path) -> None:
    """Make `target` a durable copy of the database that its owner alone can read, replacing an earlier one.

    The caller keeps others from writing meanwhile.

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
    partial.unlink(missing_ok=True)  # a process that was killed may have left one
    with contextlib.closing(connect_read_only(path)) as source, contextlib.closing(connect_new(partial)) as copy:
        source.backup(copy)
    sync_file(partial)


def _as_ours(error: OSError, path: Path) -> AnabranchError:
    if is_disk_full(error):
        return DiskFull(path)
    return FolderNotWritable(path, f"its backup: {error.strerror or error}")
