"""Checksums of the rows that a log keeps beside its events: idempotency keys and deleted runs.

Events have hashes, and views can be rebuilt from events; nothing else would reveal a flipped bit in these rows. A retry
could then be recorded twice, or be answered with another request's events.
"""

import sqlite3
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, Final

from engine.codec import encode_canonical
from engine.findings import Problem

CHECKSUM_BYTES: Final = 16

_COLUMNS: Final = {
    "idempotency_keys": "root_id, idempotency_key, digest, first_position, events, stream_version",
    "deleted_runs": (
        "root_id, run_id, last_stream_id, first_position, last_position, events, leaf, store_position, deleted_at,"
        " reason"
    ),
}


def checksum(*columns: Any) -> bytes:
    """Return the checksum of a row, 16 bytes, or `b""` for values that no valid row holds, such as invalid UTF-8."""
    try:
        return blake2b(encode_canonical(columns), digest_size=CHECKSUM_BYTES).digest()
    except ValueError:
        return b""


def add_checksums(connection: sqlite3.Connection) -> None:
    """Add the checksum column and fill it in for existing rows."""
    connection.create_function("checksum", -1, checksum, deterministic=True)
    try:
        for table, columns in _COLUMNS.items():
            connection.execute(f"ALTER TABLE {table} ADD COLUMN checksum BLOB NOT NULL DEFAULT x''")
            connection.execute(f"UPDATE {table} SET checksum = checksum({columns})")
    finally:
        connection.create_function("checksum", -1, None)


def changed_rows(connection: sqlite3.Connection, root_id: int | None = None) -> Iterator[Problem]:
    """Yield a problem for each row that does not match its checksum: one run's keys, or all rows of the log."""
    where, values = ("", ()) if root_id is None else ("WHERE root_id = ?", (root_id,))
    named = "(SELECT run_id FROM streams WHERE stream_id = root_id), idempotency_key"
    for run_id, key in _changed(connection, "idempotency_keys", named, where, values):
        message = f"the row of idempotency key {key!r} does not match its checksum"
        yield Problem(kind="checksum", message=message, run_id=run_id)
    if root_id is None:
        for run_id, reason in _changed(connection, "deleted_runs", "run_id, reason", where, values):
            message = f"the row of the run's deletion ({reason!r}) does not match its checksum"
            yield Problem(kind="checksum", message=message, run_id=run_id)


def _changed(
    connection: sqlite3.Connection, table: str, named: str, where: str, values: tuple[int, ...]
) -> Iterator[tuple[Any, Any]]:
    rows = connection.execute(f"SELECT {named}, checksum, {_COLUMNS[table]} FROM {table} {where}", values)
    for first, second, written, *columns in rows:
        if written != checksum(*columns):
            yield first, second
