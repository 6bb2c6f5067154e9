"""The compiled run log: partitions put together again into one nested document."""

import sqlite3
from collections.abc import Iterable
from typing import Any

from engine.model import BranchLog, RunLog, StepLog
from engine.ports import Stream
from projections.columns import from_json, from_text
from projections.partitions import BranchRow, StepRow
from projections.reading import (
    SELECT_ATTEMPTS,
    SELECT_BRANCHES,
    SELECT_STEPS,
    as_attempt,
    as_step,
    resolved_parameters,
)
from projections.state import AttemptRow

_IN_RUN = "stream_id IN (SELECT stream_id FROM branches WHERE run_id = ?)"


def compile_run(connection: sqlite3.Connection, root: Stream) -> RunLog:
    """Return the log of a whole run."""
    compiled = compile_branch(connection, root)
    row = connection.execute(
        "SELECT tag, dag_hash, created_at, config, job, finalized_hash FROM runs WHERE run_id = ?",
        (root.run_id,),
    ).fetchone()
    tag, dag_hash, created_at, config, job, finalized_hash = row
    return RunLog(
        run_id=root.run_id,
        status=compiled.status,
        status_reason=compiled.status_reason,
        tag=tag,
        dag_hash=dag_hash,
        created_at=from_text(created_at),
        stream_version=compiled.stream_version,
        steps=compiled.steps,
        branches=compiled.branches,
        parameters=compiled.parameters,
        config=from_json(config),
        job=None if job is None else from_json(job),
        finalized=finalized_hash is not None,
    )


def compile_branch(connection: sqlite3.Connection, stream: Stream) -> BranchLog:
    """Return the log of a branch and of all branches below it."""
    rows = {
        row[0]: BranchRow(*row)
        for row in connection.execute(f"{SELECT_BRANCHES} WHERE run_id = ? ORDER BY stream_id", (stream.run_id,))
    }
    versions = dict(connection.execute("SELECT stream_id, version FROM streams WHERE run_id = ?", (stream.run_id,)))
    steps = _steps_by_stream(connection, stream.run_id)
    # Children open after their parents, so going backwards meets every branch after all of its children.
    below: dict[int, list[BranchLog]] = {}
    for stream_id in sorted(rows, reverse=True):
        row = rows[stream_id]
        children = below.pop(stream_id, [])
        parent = rows.get(row.parent_stream_id) if row.parent_stream_id is not None else None
        compiled = BranchLog(
            branch=row.branch,
            parent=None if parent is None else parent.branch,
            status=row.status,
            status_reason=row.status_reason,
            stream_version=versions[stream_id],
            steps=steps.get(stream_id, {}),
            branches={child.branch: child for child in reversed(children)},
            parameters=_parameters(connection, stream_id),
            details=from_json(row.details),
        )
        if stream_id == stream.stream_id:
            return compiled
        if row.parent_stream_id is not None:
            below.setdefault(row.parent_stream_id, []).append(compiled)
    raise AssertionError("the stream is one of its run's")


def _parameters(connection: sqlite3.Connection, stream_id: int) -> Any:
    resolved = resolved_parameters(connection, stream_id)
    return {name: own.parameter for name, (_, own) in resolved.items()}


def _steps_by_stream(connection: sqlite3.Connection, run_id: str) -> dict[int, dict[str, StepLog]]:
    attempts: dict[tuple[int, str], list[Any]] = {}
    for row in _rows(connection, f"{SELECT_ATTEMPTS} WHERE {_IN_RUN} ORDER BY attempt_index", run_id):
        attempt = AttemptRow(*row)
        attempts.setdefault((attempt.stream_id, attempt.task_id), []).append(as_attempt(attempt))
    steps: dict[int, dict[str, StepLog]] = {}
    for row in _rows(connection, f"{SELECT_STEPS} WHERE {_IN_RUN} ORDER BY position", run_id):
        step = StepRow(*row)
        found = attempts.get((step.stream_id, step.step), [])
        steps.setdefault(step.stream_id, {})[step.step] = as_step(step, found)
    return steps


def _rows(connection: sqlite3.Connection, statement: str, run_id: str) -> Iterable[tuple[Any, ...]]:
    return connection.execute(statement, (run_id,))
