"""The list of runs, in pages. It never loads a run's payloads."""

import sqlite3
from datetime import datetime
from typing import Any

from msgspec import Struct

from engine.errors import InvalidValue, RunNotFound
from engine.model import RunInfo, RunPage
from engine.times import from_microseconds
from projections.columns import from_json, from_text, to_text

PAGE_RUNS_MAX = 1000

_CURSOR_DIGITS_MAX = 18
_SELECT = (
    "SELECT run_id, status, status_reason, tag, created_at, dag_hash, original_run_id, workspace_slug, root_path,"
    " description, tags, finalized_hash IS NOT NULL, pinned, status_changed_at, stream_id FROM runs"
)


class RunsQuery(Struct, frozen=True):
    """A request for a page of runs. The cursor is the `stream_id` of the previous page's last run."""

    status: str | None
    tag: str | None
    created_from: datetime | None
    created_until: datetime | None
    limit: int
    cursor: str | None


def run_info(connection: sqlite3.Connection, run_id: str) -> RunInfo:
    """Return one run's row.

    Raises:
        RunNotFound
    """
    row = connection.execute(f"{_SELECT} WHERE run_id = ?", (run_id,)).fetchone()
    if row is None:
        raise RunNotFound(run_id)
    return _as_run_info(row)


def run_not_found(connection: sqlite3.Connection, run_id: str) -> RunNotFound:
    """Return the error for a missing run, with the time and reason of its deletion, if it was deleted."""
    row = connection.execute(
        "SELECT deleted_at, reason FROM deleted_runs WHERE run_id = ? ORDER BY root_id DESC LIMIT 1", (run_id,)
    ).fetchone()
    return RunNotFound(run_id) if row is None else RunNotFound(run_id, from_microseconds(row[0]), row[1])


def runs_page(connection: sqlite3.Connection, query: RunsQuery) -> RunPage:
    """Return a page of runs, the last recorded first.

    Raises:
        InvalidValue: for the limit or the cursor.
    """
    if type(query.limit) is not int or not 1 <= query.limit <= PAGE_RUNS_MAX:
        raise InvalidValue("limit", query.limit, f"is not an integer from 1 to {PAGE_RUNS_MAX}")
    conditions = _conditions(query)
    where = " AND ".join(conditions) or "TRUE"
    statement = f"{_SELECT} WHERE {where} ORDER BY stream_id DESC LIMIT ?"
    rows = connection.execute(statement, (*conditions.values(), query.limit + 1)).fetchall()
    page = rows[: query.limit]
    return RunPage([_as_run_info(row) for row in page], str(page[-1][-1]) if len(rows) > query.limit else None)


def _conditions(query: RunsQuery) -> dict[str, Any]:
    conditions = {
        "status = ?": query.status,
        "tag = ?": query.tag,
        "created_at >= ?": None if query.created_from is None else to_text(query.created_from),
        "created_at <= ?": None if query.created_until is None else to_text(query.created_until),
        "stream_id < ?": None if query.cursor is None else _stream_id(query.cursor),
    }
    return {condition: value for condition, value in conditions.items() if value is not None}


def _stream_id(cursor: object) -> int:
    if not (isinstance(cursor, str) and cursor.isascii() and cursor.isdecimal() and len(cursor) <= _CURSOR_DIGITS_MAX):
        raise InvalidValue("cursor", cursor, "is not the cursor of a page of runs")
    return int(cursor)


def _as_run_info(row: tuple[Any, ...]) -> RunInfo:
    columns = dict(zip(RunInfo.__struct_fields__, row, strict=False))  # ignores `stream_id`, the last column
    columns["created_at"] = from_text(columns["created_at"])
    columns["tags"] = from_json(columns["tags"]) if columns["tags"] else {}
    columns["finalized"] = bool(columns["finalized"])
    columns["pinned"] = bool(columns["pinned"])
    changed_at = columns["status_changed_at"]
    columns["status_changed_at"] = None if changed_at is None else from_text(changed_at)
    return RunInfo(**columns)
