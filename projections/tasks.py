"""The reads of a state store: `engine.views.TaskViews` as SQL on read-only connections."""

import sqlite3

from engine.errors import RunNotFound
from engine.model import TERMINAL_STATUSES, UNENDED_STATUSES, ExternalRun, StepLog
from engine.names import ROOT
from engine.point import Point
from engine.ports import Stream
from engine.views import PlacedAttempt
from projections.past import EXTERNAL_RUN_EVENTS, past_at
from projections.reading import (
    IN_RUN,
    Readers,
    as_attempt,
    as_external_run,
    as_step,
    attempt_rows,
    external_run_rows,
    step_rows,
)
from projections.state_tables import AttemptRow
from projections.steps import step_of, steps_of
from projections.streams import branch_name, find_stream

_TERMINAL, _UNENDED = (
    ", ".join(f"'{status}'" for status in sorted(statuses)) for statuses in (TERMINAL_STATUSES, UNENDED_STATUSES)
)
# The negation of `model.has_ended`. An attempt carried over from another run counts as ended until this run resumes it.
_GOES_ON = f"ended_position IS NOT 0 AND status NOT IN ({_TERMINAL}) AND (ended_at IS NULL OR status IN ({_UNENDED}))"


class SqliteTaskViews:
    """Reads the state views. Each call is one job on one connection, in one snapshot."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def places(self, task_id: str, run_id: str | None) -> list[tuple[str, str]]:
        def read(connection: sqlite3.Connection) -> list[tuple[str, str]]:
            found = _places(connection, task_id, run_id)
            if run_id is None or (run_id, ROOT) in found or not _is_inherited(connection, run_id, task_id):
                return found
            return [(run_id, ROOT), *found]

        return await self._readers.run(read)

    async def tasks(self, run_id: str) -> list[tuple[str, StepLog]]:
        def read(connection: sqlite3.Connection) -> list[tuple[str, StepLog]]:
            steps = step_rows(connection, f"WHERE {IN_RUN} AND spec IS NOT NULL ORDER BY position", (run_id,))
            inherited = [step for step in _inherited_steps(connection, run_id).values() if step.spec is not None]
            own = [(branch_name(connection, row.stream_id), as_step(row, [])) for row in steps]
            return [*((ROOT, step) for step in inherited), *own]

        return await self._readers.run(read)

    async def attempt(self, attempt_id: str) -> PlacedAttempt | None:
        def read(connection: sqlite3.Connection) -> PlacedAttempt | None:
            rows = attempt_rows(connection, "WHERE attempt_id = ?", (attempt_id,))
            return _placed(connection, rows[0]) if rows else None

        return await self._readers.run(read)

    async def unfinished(self, run_id: str | None) -> list[PlacedAttempt]:
        def read(connection: sqlite3.Connection) -> list[PlacedAttempt]:
            where, values = ("", ()) if run_id is None else (f" AND {IN_RUN}", (run_id,))
            rows = attempt_rows(connection, f"WHERE {_GOES_ON}{where} ORDER BY position, attempt_index", values)
            return [_placed(connection, row) for row in rows]

        return await self._readers.run(read)

    async def attempted(self, run_id: str) -> set[str]:
        def read(connection: sqlite3.Connection) -> set[str]:
            rows = connection.execute(f"SELECT DISTINCT task_id FROM task_attempts WHERE {IN_RUN}", (run_id,))
            inherited = {name for name, step in _inherited_steps(connection, run_id).items() if step.attempts}
            return inherited.union(task_id for (task_id,) in rows)

        return await self._readers.run(read)

    async def external_run(self, run_id: str, branch: str, task_id: str) -> ExternalRun | None:
        def read(connection: sqlite3.Connection) -> ExternalRun | None:
            stream = "(SELECT stream_id FROM branches WHERE run_id = ? AND branch = ?)"
            clauses = f"WHERE task_id = ? AND stream_id = {stream}"
            rows = external_run_rows(connection, clauses, (task_id, run_id, branch))
            return as_external_run(rows[0]) if rows else None

        return await self._readers.run(read)

    async def external_runs(self, run_id: str, *, at: Point = None) -> list[tuple[str, ExternalRun]]:
        def read(connection: sqlite3.Connection) -> list[tuple[str, ExternalRun]]:
            if at is None:
                return _external_runs(connection, run_id)
            root = find_stream(connection, run_id, ROOT)
            with past_at(connection, root, at, whole_run=True, types=EXTERNAL_RUN_EVENTS) as past:
                return _external_runs(past, run_id)

        return await self._readers.run(read)


def _places(connection: sqlite3.Connection, task_id: str, run_id: str | None) -> list[tuple[str, str]]:
    """Return where tasks with an id were logged; if there are none, plain steps with that name."""
    where, values = ("", (task_id,)) if run_id is None else (" AND branches.run_id = ?", (task_id, run_id))
    # Tasks are indexed by id; steps need a scan, which is made only for ids that no task has.
    for table, column in (("tasks", "task_id"), ("step_logs", "step")):
        rows = connection.execute(
            f"SELECT branches.run_id, branch FROM {table} JOIN branches USING (stream_id)"
            f" WHERE {column} = ?{where} ORDER BY stream_id",
            values,
        ).fetchall()
        if rows:
            return rows
    return []


def _is_inherited(connection: sqlite3.Connection, run_id: str, step: str) -> bool:
    root = _forked_root(connection, run_id)
    found = None if root is None else step_of(connection, root, step)
    return found is not None and found.inherited_from is not None


def _inherited_steps(connection: sqlite3.Connection, run_id: str) -> dict[str, StepLog]:
    """Return the steps that a run inherits and has not made its own; none if the run does not exist."""
    root = _forked_root(connection, run_id)
    steps = {} if root is None else steps_of(connection, root)
    return {name: step for name, step in steps.items() if step.inherited_from is not None}


def _forked_root(connection: sqlite3.Connection, run_id: str) -> Stream | None:
    try:
        root = find_stream(connection, run_id, ROOT)
    except RunNotFound:
        return None
    return None if root.parent_id is None else root


def _external_runs(connection: sqlite3.Connection, run_id: str) -> list[tuple[str, ExternalRun]]:
    rows = external_run_rows(connection, f"WHERE {IN_RUN} ORDER BY stream_id, task_id", (run_id,))
    return [(branch_name(connection, row.stream_id), as_external_run(row)) for row in rows]


def _placed(connection: sqlite3.Connection, row: AttemptRow) -> PlacedAttempt:
    return PlacedAttempt(row.run_id, branch_name(connection, row.stream_id), as_attempt(row))
