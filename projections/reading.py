"""Conversion of view rows to the model's structs, and the lookups shared by decisions and readers."""

import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from engine.model import AttemptLog, ExternalRun, Parameter, StepLog, TaskSpec
from engine.ports import OwnParameter, check_opened_before
from projections.columns import from_json, from_text, parameters_from_json
from projections.own_parameters import LATEST, own_parameters
from projections.partition_tables import BranchRow, StepRow
from projections.state_tables import AttemptRow, ExternalRunRow

IN_RUN = "stream_id IN (SELECT stream_id FROM branches WHERE run_id = ?)"

Result = TypeVar("Result")

_ATTEMPTS = f"SELECT {', '.join(AttemptRow.__struct_fields__)} FROM task_attempts"
_EXTERNAL_RUNS = f"SELECT {', '.join(ExternalRunRow.__struct_fields__)} FROM external_runs"
_STEPS = f"SELECT {', '.join(StepRow.__struct_fields__)} FROM step_logs"
_BRANCHES = f"SELECT {', '.join(BranchRow.__struct_fields__)} FROM branches"


class Readers(Protocol):
    """Runs a job on a read-only connection, in one snapshot."""

    async def run(self, job: Callable[[sqlite3.Connection], Result]) -> Result: ...


def attempt_rows(connection: sqlite3.Connection, clauses: str, values: Sequence[Any]) -> list[AttemptRow]:
    """Return rows of `task_attempts`; here and below, `clauses` is the rest of the statement, from WHERE on."""
    return [AttemptRow(*row) for row in connection.execute(f"{_ATTEMPTS} {clauses}", values).fetchall()]


def external_run_rows(connection: sqlite3.Connection, clauses: str, values: Sequence[Any]) -> list[ExternalRunRow]:
    return [ExternalRunRow(*row) for row in connection.execute(f"{_EXTERNAL_RUNS} {clauses}", values).fetchall()]


def step_rows(connection: sqlite3.Connection, clauses: str, values: Sequence[Any]) -> list[StepRow]:
    return [StepRow(*row) for row in connection.execute(f"{_STEPS} {clauses}", values).fetchall()]


def removed_steps(connection: sqlite3.Connection, stream_id: int) -> set[str]:
    """Return the steps that a branch has removed at least once."""
    return {step for (step,) in connection.execute("SELECT step FROM removed_steps WHERE stream_id = ?", (stream_id,))}


def logged_steps(connection: sqlite3.Connection, stream_id: int) -> set[str]:
    """Return the steps that a branch has ever logged, or that were carried over into it."""
    rows = connection.execute("SELECT step FROM step_logs WHERE stream_id = ?", (stream_id,))
    return {step for (step,) in rows} | removed_steps(connection, stream_id)


def branch_rows(connection: sqlite3.Connection, clauses: str, values: Sequence[Any]) -> list[BranchRow]:
    return [BranchRow(*row) for row in connection.execute(f"{_BRANCHES} {clauses}", values).fetchall()]


def lineage(connection: sqlite3.Connection, stream_id: int, version: int) -> Iterator[tuple[int, int]]:
    """Yield the streams that a branch reads through, nearest first, each with the last version it reads."""
    current: int | None = stream_id
    while current is not None:
        yield current, version
        parent, version = connection.execute(
            "SELECT parent_stream_id, parent_version FROM branches WHERE stream_id = ?", (current,)
        ).fetchone()
        check_opened_before(parent, current)
        current = parent


def resolved_parameters(
    connection: sqlite3.Connection,
    stream_id: int,
    version: int = LATEST,
    names: Collection[str] | None = None,
) -> dict[str, tuple[int, OwnParameter]]:
    """Return the parameters that a branch sees as of a version, by name, each with the stream that it comes from."""
    resolved: dict[str, tuple[int, OwnParameter]] = {}
    remaining = None if names is None else frozenset(names)
    for source, until in lineage(connection, stream_id, version):
        for name, own in own_parameters(connection, source, until, remaining).items():
            resolved.setdefault(name, (source, own))
        if remaining is not None:
            remaining -= resolved.keys()
            if not remaining:
                break
    return dict(sorted(resolved.items()))


def seen_parameters(
    connection: sqlite3.Connection, stream_id: int, version: int = LATEST, names: Collection[str] | None = None
) -> dict[str, Parameter]:
    """Return the parameters of `resolved_parameters` without their streams."""
    resolved = resolved_parameters(connection, stream_id, version, names)
    return {name: own.parameter for name, (_, own) in resolved.items()}


def event_version(connection: sqlite3.Connection, stream_id: int, name: str, own: OwnParameter) -> int:
    """Return the version of the event that set a stream's parameter."""
    if own.stream_version > 1:
        return own.stream_version
    # The event that opens a stream sets no parameters, so this one was carried over by a later event.
    (version,) = connection.execute(
        "SELECT events.stream_version FROM parameters JOIN events USING (position)"
        " WHERE parameters.stream_id = ? AND name = ? AND parameters.stream_version = 1",
        (stream_id, name),
    ).fetchone()
    return int(version)


def as_attempt(row: AttemptRow) -> AttemptLog:
    return AttemptLog(
        attempt_id=row.attempt_id,
        step=row.task_id,
        attempt_index=row.attempt_index,
        status=row.status,
        status_reason=row.status_reason,
        operator_key=row.operator_key,
        operator_type=row.operator_type,
        external_id=row.external_id,
        operator_data=from_json(row.operator_data) if row.operator_data else None,
        relative_path=row.relative_path,
        message=row.message,
        inputs=parameters_from_json(row.inputs),
        outputs=parameters_from_json(row.outputs),
        metrics=parameters_from_json(row.metrics),
        details=from_json(row.details) if row.details else {},
        created_at=from_text(row.created_at),
        submitted_at=from_text(row.submitted_at) if row.submitted_at else None,
        ended_at=from_text(row.ended_at) if row.ended_at else None,
    )


def as_step(row: StepRow, attempts: list[AttemptLog]) -> StepLog:
    return StepLog(
        step=row.step,
        name=row.name,
        status=row.status,
        status_reason=row.status_reason,
        step_type=row.step_type,
        message=row.message,
        mock=bool(row.mock),
        spec=as_task_spec(row.spec),
        details=from_json(row.details),
        current_attempt_id=row.current_attempt_id,
        attempts=attempts,
    )


def as_task_spec(text: str | None) -> TaskSpec | None:
    return None if text is None else msgspec.convert(from_json(text), TaskSpec)


def as_external_run(row: ExternalRunRow) -> ExternalRun:
    return ExternalRun(
        task_id=row.task_id,
        operator_type=row.operator_type,
        status=row.status,
        external_id=row.external_id,
        operator_data=from_json(row.operator_data) if row.operator_data else None,
        relative_path=row.relative_path,
    )
