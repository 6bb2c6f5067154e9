"""The state views: runs, tasks, task attempts and external runs, with the state store's table and column names.

SQL tools for state stores keep working: new columns come after the old ones. A task is a step with a `TaskSpec`;
`task_attempts` holds the attempts of every step.
"""

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from msgspec import UNSET

from engine.events import (
    AttemptCreated,
    AttemptUpdated,
    BranchForked,
    ExternalRunRegistered,
    ExternalRunUpdated,
    JobLogged,
    RecordedEvent,
    RunConfigured,
    RunCreated,
    RunFinalized,
    RunForked,
    RunPinned,
    RunStatusChanged,
    RunUnpinned,
    SourceCarriedOver,
    StepLogged,
    StepRemoved,
    StepStatusChanged,
)
from engine.model import CREATED, TERMINAL_STATUSES, UNENDED_STATUSES, CarriedStep
from engine.ports import Stream
from engine.projectors import Fold, out_of_place
from engine.views import STATE_SCHEMA_VERSION
from projections.columns import from_json, parameters_to_json, to_json, to_text
from projections.state_rows import carried_attempt, change_attempt, describe_run, repeat_description, run_row, task_row
from projections.state_tables import (
    STATE_TABLES,
    AttemptRow,
    ExternalRunRow,
    RunRow,
    TaskRow,
)
from projections.table import Table


class StateViews:
    """Folds events into `runs`, `tasks`, `task_attempts` and `external_runs`."""

    name = "state"
    version = 10

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.runs = Table(connection, "runs", RunRow, ("run_id",))
        self.tasks = Table(connection, "tasks", TaskRow, ("stream_id", "task_id"))
        self.attempts = Table(connection, "task_attempts", AttemptRow, ("attempt_id", "stream_id"))
        self._new_attempts: dict[str, int] = {}
        self.external_runs = Table(connection, "external_runs", ExternalRunRow, ("stream_id", "task_id"))
        self._tables: Sequence[Table[Any]] = (self.runs, self.tasks, self.attempts, self.external_runs)
        self.folds: Mapping[type, Fold] = {
            RunCreated: self._run_created,
            RunForked: self._run_forked,
            BranchForked: self._branch_forked,
            RunStatusChanged: self._run_status,
            RunConfigured: self._run_configured,
            JobLogged: self._job_logged,
            RunFinalized: self._run_finalized,
            SourceCarriedOver: self._carried_over,
            RunPinned: self._run_pinned,
            RunUnpinned: self._run_pinned,
            StepLogged: self._step_logged,
            StepStatusChanged: self._step_status,
            StepRemoved: self._step_removed,
            AttemptCreated: self._attempt_created,
            AttemptUpdated: self._attempt_updated,
            ExternalRunRegistered: self._external_run,
            ExternalRunUpdated: self._external_run_updated,
        }

    def create_tables(self) -> None:
        for statement in STATE_TABLES.split(";\n"):
            self._connection.execute(statement)
        self._connection.execute("INSERT INTO schema_info VALUES ('version', ?)", (STATE_SCHEMA_VERSION,))

    def drop_tables(self) -> None:
        for table in self.tables():
            self._connection.execute(f"DROP TABLE IF EXISTS main.{table}")

    def tables(self) -> Sequence[str]:
        return "runs", "tasks", "task_attempts", "external_runs", "schema_info"

    def flush(self) -> None:
        for table in self._tables:
            table.flush()
        self._new_attempts.clear()

    def forget(self, stream_ids: Collection[int] | None = None) -> None:
        for table in self._tables:
            table.forget(stream_ids)
        self._new_attempts.clear()

    def clear(self, stream_ids: Collection[int]) -> None:
        for table in self._tables:
            table.clear(stream_ids)

    def attempt(self, attempt_id: str, stream_id: int | None) -> AttemptRow | None:
        """Return the attempt with that id, in one stream or in any."""
        if stream_id is None:
            stream_id = self._new_attempts.get(attempt_id) or self._stream_of_attempt(attempt_id)
        return None if stream_id is None else self.attempts.get(attempt_id, stream_id)

    def _stream_of_attempt(self, attempt_id: str) -> int | None:
        where = "SELECT stream_id FROM task_attempts WHERE attempt_id = ?"
        row = self._connection.execute(where, (attempt_id,)).fetchone()
        return None if row is None else int(row[0])

    def _opened(self, stream: Stream) -> None:
        for table in (self.tasks, self.external_runs):
            table.opened(stream.stream_id)

    def _branch_forked(self, stream: Stream, _recorded: RecordedEvent, _event: BranchForked) -> None:
        self._opened(stream)

    def _run_created(self, stream: Stream, recorded: RecordedEvent, event: RunCreated) -> None:
        row = run_row(stream, event, event.created_at or recorded.recorded_at)
        row.original_run_id = event.original_run_id
        describe_run(row, event)
        self._opened(stream)
        self.runs.add((stream.run_id,), row)

    def _run_forked(self, stream: Stream, recorded: RecordedEvent, event: RunForked) -> None:
        row = run_row(stream, event, recorded.recorded_at)
        row.original_run_id = event.source_run_id
        source = self.runs.get(event.source_run_id)
        if source is not None:  # otherwise it was deleted, and `SourceCarriedOver` has the description
            row.source_stream_id = source.stream_id
            repeat_description(row, source)
        self._opened(stream)
        self.runs.add((stream.run_id,), row)

    def _carried_over(self, stream: Stream, recorded: RecordedEvent, event: SourceCarriedOver) -> None:
        run = self._run(recorded, stream.run_id)
        run.source_stream_id = None
        run.config = to_json(event.config | from_json(run.config))
        for run_id in self._with_forks(stream) if event.part == 1 else ():
            describe_run(self._run(recorded, run_id), event)
        for carried in event.steps:
            self._step_carried(stream, carried)

    def _with_forks(self, stream: Stream) -> list[str]:
        """Return a run and its forks, recursively: their rows repeat its description."""
        self.runs.flush()
        rows = self._connection.execute(
            "WITH RECURSIVE found (stream_id, run_id) AS (SELECT ?, ? UNION"
            " SELECT runs.stream_id, runs.run_id FROM found JOIN runs ON source_stream_id = found.stream_id)"
            " SELECT run_id FROM found",
            (stream.stream_id, stream.run_id),
        )
        return [run_id for (run_id,) in rows]

    def _step_carried(self, stream: Stream, carried: CarriedStep) -> None:
        step = carried.log
        if step.spec is not None:
            row = task_row(stream, step.step, step.status, step.spec, step.current_attempt_id)
            self.tasks.put((stream.stream_id, step.step), row)
        for attempt in step.attempts:
            self._new_attempts[attempt.attempt_id] = stream.stream_id
            row_of_attempt = carried_attempt(stream, carried.place, attempt)
            self.attempts.put((attempt.attempt_id, stream.stream_id), row_of_attempt)

    def _run(self, recorded: RecordedEvent, run_id: str) -> RunRow:
        """Return a run's row, for changes in place."""
        row = self.runs.edit(run_id)
        if row is None:
            raise out_of_place(recorded, "a run")
        return row

    def _run_status(self, stream: Stream, recorded: RecordedEvent, event: RunStatusChanged) -> None:
        row = self._run(recorded, stream.run_id)
        row.status, row.status_reason = event.status, event.reason
        row.status_changed_at = to_text(recorded.recorded_at)

    def _run_configured(self, stream: Stream, recorded: RecordedEvent, event: RunConfigured) -> None:
        row = self._run(recorded, stream.run_id)
        row.config = to_json(from_json(row.config) | event.config)

    def _job_logged(self, stream: Stream, recorded: RecordedEvent, event: JobLogged) -> None:
        self._run(recorded, stream.run_id).job = to_json(event.job)

    def _run_finalized(self, stream: Stream, recorded: RecordedEvent, _event: RunFinalized) -> None:
        self._run(recorded, stream.run_id).finalized_hash = recorded.hash.hex()

    def _run_pinned(self, stream: Stream, recorded: RecordedEvent, event: RunPinned | RunUnpinned) -> None:
        self._run(recorded, stream.run_id).pinned = int(isinstance(event, RunPinned))

    def _step_logged(self, stream: Stream, _recorded: RecordedEvent, event: StepLogged) -> None:
        spec = event.spec
        if spec is None:
            return
        key = (stream.stream_id, event.step)
        known = self.tasks.get(*key)
        current = self._last_attempt(key) if known is None else known.current_attempt_id
        self.tasks.put(key, task_row(stream, event.step, event.status, spec, current))

    def _last_attempt(self, step: tuple[int, str]) -> str | None:
        # A step that becomes a task may have attempts already.
        self.attempts.flush()
        row = self._connection.execute(
            "SELECT attempt_id FROM task_attempts WHERE stream_id = ? AND task_id = ? ORDER BY attempt_index DESC",
            step,
        ).fetchone()
        return None if row is None else str(row[0])

    def _step_status(self, stream: Stream, _recorded: RecordedEvent, event: StepStatusChanged) -> None:
        self._set_task_status(stream, event.step, event.status)

    def _set_task_status(self, stream: Stream, step: str, status: str) -> None:
        task = self.tasks.edit(stream.stream_id, step)
        if task is not None:
            task.status = status

    def _step_removed(self, stream: Stream, _recorded: RecordedEvent, event: StepRemoved) -> None:
        key = (stream.stream_id, event.step)
        self.tasks.remove(*key)
        self.external_runs.remove(*key)
        self.attempts.flush()
        attempts = "SELECT attempt_id FROM task_attempts WHERE stream_id = ? AND task_id = ?"
        for (attempt_id,) in self._connection.execute(attempts, key).fetchall():
            self.attempts.remove(attempt_id, stream.stream_id)

    def _attempt_created(self, stream: Stream, recorded: RecordedEvent, event: AttemptCreated) -> None:
        created_at = to_text(event.created_at or recorded.recorded_at)
        ended_at = created_at if event.status in TERMINAL_STATUSES else None
        if event.ended_at is not None:
            ended_at = to_text(event.ended_at)
        row = AttemptRow(  # positional, in column order: keywords take eight times as long
            event.attempt_id,
            event.step,
            stream.run_id,
            event.attempt_index,
            event.status,
            event.operator_key,
            event.operator_type,
            event.external_id,
            None if event.operator_data is None else to_json(event.operator_data),
            event.relative_path,
            created_at,
            created_at if event.status != CREATED else None,
            ended_at,
            None,
            stream.stream_id,
            recorded.position,
            event.message,
            parameters_to_json(event.inputs),
            parameters_to_json(event.outputs),
            parameters_to_json(event.metrics),
            to_json(event.details) if event.details else None,
            None if ended_at is None else recorded.position,
        )
        self._new_attempts[event.attempt_id] = stream.stream_id
        self.attempts.add((event.attempt_id, stream.stream_id), row)
        task = self.tasks.edit(stream.stream_id, event.step)
        if task is not None:
            if event.current:
                task.current_attempt_id = event.attempt_id
            if event.step_status is not None:
                task.status = event.step_status

    def _attempt_updated(self, stream: Stream, recorded: RecordedEvent, event: AttemptUpdated) -> None:
        row = self.attempts.edit(event.attempt_id, stream.stream_id)
        if row is None:
            raise out_of_place(recorded, "an attempt")
        changes, before, submitted_at = event.changes, row.status, row.submitted_at
        change_attempt(row, changes)
        ends = event.ends or event.step_status is not None  # whatever the status
        if row.status != before or ends:
            # Even if the clock was set back, an attempt does not end before it began.
            now = max(to_text(recorded.recorded_at), row.created_at, submitted_at or "")
            if submitted_at is None and changes.submitted_at is UNSET and row.status != CREATED:
                row.submitted_at = now
            if ends or row.status in TERMINAL_STATUSES:
                if row.ended_at is None and changes.ended_at is UNSET:
                    row.ended_at = max(now, row.submitted_at or "")
            elif row.status not in UNENDED_STATUSES and changes.ended_at is UNSET:
                row.ended_at = None  # see `model.has_ended`
        if row.ended_at is None:
            row.ended_position = None
        elif row.ended_position is None:
            row.ended_position = recorded.position
        if event.step_status is not None:
            self._set_task_status(stream, event.step, event.step_status)

    def _external_run(self, stream: Stream, _recorded: RecordedEvent, event: ExternalRunRegistered) -> None:
        row = ExternalRunRow(
            task_id=event.task_id,
            run_id=stream.run_id,
            operator_type=event.operator_type,
            external_id=event.external_id,
            status=event.status,
            operator_data=None if event.operator_data is None else to_json(event.operator_data),
            relative_path=event.relative_path,
            stream_id=stream.stream_id,
        )
        self.external_runs.put((stream.stream_id, event.task_id), row)

    def _external_run_updated(self, stream: Stream, recorded: RecordedEvent, event: ExternalRunUpdated) -> None:
        row = self.external_runs.edit(stream.stream_id, event.task_id)
        if row is None:
            raise out_of_place(recorded, "an external run")
        row.external_id = event.external_id
        row.status = event.status
        row.operator_data = None if event.operator_data is None else to_json(event.operator_data)
        row.relative_path = event.relative_path
