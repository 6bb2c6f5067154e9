"""Converts the rows of a state store into requests, which keep the original times. Pure.

A row is a mapping of column names to SQLite values; a column that the file lacks is NULL.
"""

import json
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias, TypeVar

from engine.commands import Command, LogStep, OpenRun, Record, Request
from engine.encoding.values import check_document, check_task_spec, check_text, check_value
from engine.errors import InvalidValue
from engine.events import (
    AttemptCreated,
    AttemptUpdated,
    Event,
    ExternalRunRegistered,
    RunCreated,
    RunStatusChanged,
    StepLogged,
)
from engine.model import CREATED, AttemptChanges, StepDocument, TaskSpec
from engine.names import ROOT, check_name
from engine.times import to_microseconds

Row: TypeAlias = Mapping[str, Any]
Value = TypeVar("Value")

BACKFILL_NAMESPACE: Final = uuid.UUID("6df7afdd-8f9f-4b0c-9a2c-6f2b0c2b2b1a")
"""The namespace of the ids of backfilled attempts, which version 1 lacks: every migration derives the same ids."""

UNKNOWN: Final = "UNKNOWN"
"""The status of a run or a step whose row is missing."""

LOST_RUN: Final = "opened by the migration: the state store had rows of this run, but not the run itself"

_TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:?\d\d)?")


def run_request(row: Row) -> Request:
    """Return the request that opens a run, with its status and reason.

    Raises:
        InvalidInput: naming the column, as for every row.
    """
    status, reason = _text(row, "status"), _optional(row, "status_reason", _text)
    event = RunCreated(
        branch=ROOT,
        created_at=_time(row, "created_at"),
        workspace_slug=_optional(row, "workspace_slug", _text),
        root_path=_optional(row, "root_path", _text),
        status=status,
        tags=_document(row, "tags") or {},
        description=_optional(row, "description", _text),
    )
    commands: list[Command] = [OpenRun(event=event)]
    if reason is not None:
        commands.append(Record(events=(RunStatusChanged(branch=ROOT, status=status, reason=reason),)))
    return Request(run_id=_name(row, "run_id"), commands=tuple(commands))


def task_request(row: Row) -> Request:
    """Return the request that logs a task as a step."""
    task_id = _name(row, "task_id")
    spec = TaskSpec(
        image=row["image"],
        command=row["command"],
        files=_json(row, "files", {}),
        env=_json(row, "env", {}),
        dependencies=_json(row, "dependencies", []),
        cores=row["cores"],
        memory_gb=row["memory_gb"],
        gpus=row["gpus"],
        time_limit_minutes=row["time_limit_minutes"],
        allow_dependency_failure=_flag(row, "allow_dependency_failure"),
        allow_failure=_flag(row, "allow_failure"),
        download_patterns=_json(row, "download_patterns", None),
        task_type=row["task_type"],
        operator_key=row["operator_key"],
    )
    status = _text(row, "status")
    logged = StepLogged(branch=ROOT, step=task_id, name=task_id, status=status, spec=check_task_spec(spec))
    return _request(row, logged)


def attempt_request(row: Row, *, backfill: bool) -> Request:
    """Return the request that opens an attempt and brings it to its status.

    Besides its columns the row has `has_run`, `has_task`, `is_current` (it is its task's current attempt) and
    `no_current` (its task has none). With `backfill`, an attempt left by an interrupted older migration is current.
    """
    left_behind = backfill and row["no_current"] and row["attempt_id"] == _backfilled_id(row)
    created = AttemptCreated(
        branch=ROOT,
        step=_name(row, "task_id"),
        attempt_id=_name(row, "attempt_id"),
        attempt_index=_integer(row, "attempt_index"),
        operator_key=_optional(row, "operator_key", _text),
        created_at=_time(row, "created_at"),
        current=bool(row["is_current"] or left_behind) or not row["has_task"],
        **_operator(row),
    )
    return _request(row, created, *_progress(row, created))


def external_run_request(row: Row, *, backfill: bool) -> Request:
    """Return the request that registers an external run and, with `backfill`, its attempt, which version 1 lacks.

    Besides its columns the row has `has_run`, `has_task` and `run_created_at`.
    """
    task_id, status, operator = _name(row, "task_id"), _text(row, "status"), _operator(row)
    operator["operator_type"] = _text(row, "operator_type")
    events: list[Event] = [ExternalRunRegistered(branch=ROOT, task_id=task_id, status=status, **operator)]
    if backfill:
        created = AttemptCreated(
            branch=ROOT,
            step=task_id,
            attempt_id=_backfilled_id(row),
            attempt_index=1,
            created_at=_optional(row, "run_created_at", _time),
            **operator,
        )
        events += [created, *_progress(row, created)]
    return _request(row, *events)


def _backfilled_id(row: Row) -> str:
    return str(uuid.uuid5(BACKFILL_NAMESPACE, f"{row['run_id']}:{row['task_id']}"))


def _progress(row: Row, created: AttemptCreated) -> list[Event]:
    changes = AttemptChanges(
        status=_text(row, "status"),
        status_reason=_optional(row, "status_reason", _text),
        # Always given, even as None: the fold would fill in times that are left out.
        submitted_at=_optional(row, "submitted_at", _time),
        ended_at=_optional(row, "ended_at", _time),
    )
    if changes == AttemptChanges(status=CREATED, status_reason=None, submitted_at=None, ended_at=None):
        return []
    return [AttemptUpdated(branch=ROOT, step=created.step, attempt_id=created.attempt_id, changes=changes)]


def _operator(row: Row) -> dict[str, Any]:
    return {
        "operator_type": _optional(row, "operator_type", _text),
        "external_id": _optional(row, "external_id", _text),
        "operator_data": _document(row, "operator_data"),
        "relative_path": _optional(row, "relative_path", _text),
    }


def _request(row: Row, *events: Event) -> Request:
    """Return the events as a request that also opens the row's run and logs its step, if their rows are missing."""
    commands: list[Command] = []
    if not row["has_run"]:
        lost = RunCreated(branch=ROOT, status=UNKNOWN, description=LOST_RUN)
        commands.append(OpenRun(event=lost, exist_ok=True))
    if not row["has_task"]:
        task_id = _name(row, "task_id")
        commands.append(LogStep(document=StepDocument(step=task_id, name=task_id, status=UNKNOWN)))
    return Request(run_id=_name(row, "run_id"), commands=(*commands, Record(events=events)))


def _name(row: Row, column: str) -> str:
    return check_name(row[column], column)


def _text(row: Row, column: str) -> str:
    return check_text(row[column], column)


def _optional(row: Row, column: str, read: Callable[[Row, str], Value]) -> Value | None:
    return None if row.get(column) is None else read(row, column)


def _integer(row: Row, column: str) -> int:
    value = row[column]
    if not isinstance(value, int):
        raise InvalidValue(column, value, "is not an integer")
    return value


def _flag(row: Row, column: str) -> bool:
    value = row[column]
    if value not in (None, 0, 1):
        raise InvalidValue(column, value, "is neither 0 nor 1")
    return bool(value)


def _time(row: Row, column: str) -> datetime:
    text = check_text(row[column], column)
    if _TIME.fullmatch(text) is None:
        raise InvalidValue(column, text, "is not a time like 2026-01-31 12:00:00.000000")
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        to_microseconds(moment)
    except ValueError as error:
        raise InvalidValue(column, text, f"is not a time: {error}") from error
    return moment.astimezone(UTC)


def _document(row: Row, column: str) -> dict[str, Any] | None:
    value = _json(row, column, None)
    return None if value is None else check_document(value, column)


def _json(row: Row, column: str, missing: Any) -> Any:
    """Return a JSON column's value, or `missing` for SQL's NULL and JSON's null."""
    text = row[column]
    if text is None:
        return missing
    try:
        # A JSON column has numeric affinity, so SQLite has converted a number's text to the number.
        value = json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError) as error:
        raise InvalidValue(column, text, f"is not JSON: {error}") from error
    return missing if value is None else check_value(value, column)
