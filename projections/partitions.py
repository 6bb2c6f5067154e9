"""The partitions: each branch's parameters by version, step logs and branch log.

A partition's rows are keyed by its `stream_id`, which `branches` maps to run and name. A fork copies nothing: a lookup
of a parameter tries the branch's own rows first, then its parent's up to the fork version, and so on up. The SQL view
`resolved_parameters` does the same for SQL readers.
"""

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from engine.bulk_insert import insert_rows
from engine.events import (
    AttemptCreated,
    AttemptUpdated,
    BranchForked,
    BranchLogged,
    BranchStatusChanged,
    ParametersReduced,
    ParametersSet,
    RecordedEvent,
    RunCreated,
    RunForked,
    RunStatusChanged,
    SourceCarriedOver,
    StepLogged,
    StepRemoved,
    StepStatusChanged,
)
from engine.model import CarriedStep
from engine.ports import Stream
from engine.projectors import Fold, out_of_place
from projections.columns import carried_position, to_json, to_text
from projections.own_parameters import LatestRows, ParameterRow
from projections.partition_tables import (
    PARAMETER_COLUMNS,
    PARTITION_TABLES,
    SQL_VIEWS,
    BranchRow,
    RemovedStepRow,
    StepRow,
)
from projections.table import Table


class Partitions:
    """Folds events into `branches`, `parameters`, `step_logs` and `removed_steps`."""

    name = "partitions"
    version = 7

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.branches = Table(connection, "branches", BranchRow, ("stream_id",))
        self.steps = Table(connection, "step_logs", StepRow, ("stream_id", "step"))
        self.removed = Table(connection, "removed_steps", RemovedStepRow, ("stream_id", "step"))
        self._tables: Sequence[Table[Any]] = (self.branches, self.steps, self.removed)
        self._parameters: list[ParameterRow] = []
        self.latest = LatestRows(connection)
        self.folds: Mapping[type, Fold] = {
            RunCreated: self._opened,
            RunForked: self._opened,
            BranchForked: self._opened,
            RunStatusChanged: self._branch_status,
            BranchStatusChanged: self._branch_status,
            BranchLogged: self._branch_logged,
            ParametersSet: self._parameters_set,
            ParametersReduced: self._parameters_set,
            SourceCarriedOver: self._carried_over,
            StepLogged: self._step_logged,
            StepStatusChanged: self._step_status,
            StepRemoved: self._step_removed,
            AttemptCreated: self._attempt_created,
            AttemptUpdated: self._attempt_updated,
        }

    def create_tables(self) -> None:
        for statement in PARTITION_TABLES.split(";\n"):
            self._connection.execute(statement)

    def drop_tables(self) -> None:
        for view in SQL_VIEWS:
            self._connection.execute(f"DROP VIEW IF EXISTS main.{view}")
        for table in self.tables():
            self._connection.execute(f"DROP TABLE IF EXISTS main.{table}")

    def tables(self) -> Sequence[str]:
        return "branches", "parameters", "step_logs", "removed_steps"

    def flush(self) -> None:
        for table in self._tables:
            table.flush()
        self.flush_parameters()
        self.latest.trim()

    def flush_parameters(self) -> None:
        """Write the parameters set so far, so that SQL can read them within the batch."""
        if self._parameters:
            insert_rows(self._connection, "parameters", PARAMETER_COLUMNS, self._parameters)
            self.latest.put(self._parameters)
            self._parameters.clear()

    def forget(self, stream_ids: Collection[int] | None = None) -> None:
        for table in self._tables:
            table.forget(stream_ids)
        self.latest.forget(stream_ids)
        self._parameters.clear()

    def clear(self, stream_ids: Collection[int]) -> None:
        self._parameters.clear()
        self.latest.forget(stream_ids)
        for table in self._tables:
            table.clear(stream_ids)
        self._connection.executemany(
            "DELETE FROM parameters WHERE stream_id = ?", [(stream_id,) for stream_id in stream_ids]
        )

    def _opened(self, stream: Stream, recorded: RecordedEvent, event: RunCreated | RunForked | BranchForked) -> None:
        created_at = getattr(event, "created_at", None) or recorded.recorded_at
        row = BranchRow(
            stream.stream_id,
            stream.run_id,
            stream.branch,
            stream.parent_id,
            stream.parent_version,
            event.status,
            None,
            "{}",
            to_text(created_at),
        )
        for table in self._tables:
            table.opened(stream.stream_id)
        self.latest.opened(stream.stream_id)
        self.branches.add((stream.stream_id,), row)

    def _branch(self, stream: Stream, recorded: RecordedEvent) -> BranchRow:
        """Return the branch's row, for changes in place."""
        row = self.branches.edit(stream.stream_id)
        if row is None:
            raise out_of_place(recorded, "a branch")
        return row

    def _branch_status(
        self, stream: Stream, recorded: RecordedEvent, event: RunStatusChanged | BranchStatusChanged
    ) -> None:
        row = self._branch(stream, recorded)
        row.status, row.status_reason = event.status, event.reason

    def _branch_logged(self, stream: Stream, recorded: RecordedEvent, event: BranchLogged) -> None:
        self._branch(stream, recorded).details = to_json(event.details)

    def _parameters_set(
        self, stream: Stream, recorded: RecordedEvent, event: ParametersSet | ParametersReduced
    ) -> None:
        stream_id, version, position = stream.stream_id, recorded.stream_version, recorded.position
        copied = int(isinstance(event, ParametersSet) and event.copied_from is not None)
        self._parameters += [
            (stream_id, name, version, position, parameter.kind, to_json(parameter.value), copied)
            for name, parameter in event.values.items()
        ]

    def _carried_over(self, stream: Stream, recorded: RecordedEvent, event: SourceCarriedOver) -> None:
        # At version 1, as of the fork: reads at every point see them as before, and the run's own values come later.
        self.latest.forget([stream.stream_id])
        self._parameters += [
            (stream.stream_id, name, 1, recorded.position, parameter.kind, to_json(parameter.value), 0)
            for name, parameter in event.values.items()
        ]
        for carried in event.steps:
            self._step_carried(stream, carried)
        if event.part == event.parts:
            row = self._branch(stream, recorded)
            row.parent_stream_id, row.parent_version = None, 0

    def _step_carried(self, stream: Stream, carried: CarriedStep) -> None:
        step = carried.log
        row = StepRow(
            stream_id=stream.stream_id,
            step=step.step,
            position=carried_position(carried.place),
            name=step.name,
            status=step.status,
            status_reason=step.status_reason,
            step_type=step.step_type,
            message=step.message,
            mock=int(step.mock),
            spec=None if step.spec is None else to_json(step.spec),
            details=to_json(step.details),
            attempts=max((attempt.attempt_index for attempt in step.attempts), default=0),
            current_attempt_id=step.current_attempt_id,
        )
        self.steps.put((stream.stream_id, step.step), row)

    def _step_logged(self, stream: Stream, recorded: RecordedEvent, event: StepLogged) -> None:
        key = (stream.stream_id, event.step)
        spec = None if event.spec is None else to_json(event.spec)
        details = to_json(event.details) if event.details else "{}"
        known = self.steps.edit(*key)
        if known is None:
            row = StepRow(  # positional, in column order: keywords take several times as long
                stream.stream_id,
                event.step,
                recorded.position,
                event.name,
                event.status,
                None,
                event.step_type,
                event.message,
                int(event.mock),
                spec,
                details,
                0,
                None,
            )
            self.steps.add(key, row)
            return
        if known.status != event.status:
            known.status_reason = None
        known.name = event.name
        known.status = event.status
        known.step_type = event.step_type
        known.message = event.message
        known.mock = int(event.mock)
        known.spec = spec
        known.details = details

    def _step(self, stream: Stream, recorded: RecordedEvent, step: str) -> StepRow:
        """Return a step's row, for changes in place."""
        row = self.steps.edit(stream.stream_id, step)
        if row is None:
            raise out_of_place(recorded, "a step")
        return row

    def _step_status(self, stream: Stream, recorded: RecordedEvent, event: StepStatusChanged) -> None:
        row = self._step(stream, recorded, event.step)
        row.status, row.status_reason = event.status, event.reason

    def _step_removed(self, stream: Stream, _recorded: RecordedEvent, event: StepRemoved) -> None:
        key = stream.stream_id, event.step
        self.steps.remove(*key)
        self.removed.put(key, RemovedStepRow(*key))

    def _attempt_created(self, stream: Stream, recorded: RecordedEvent, event: AttemptCreated) -> None:
        row = self._step(stream, recorded, event.step)
        row.attempts = event.attempt_index
        if event.current:
            row.current_attempt_id = event.attempt_id
        if event.step_status is not None:
            row.status, row.status_reason = event.step_status, None

    def _attempt_updated(self, stream: Stream, recorded: RecordedEvent, event: AttemptUpdated) -> None:
        if event.step_status is not None:
            row = self._step(stream, recorded, event.step)
            row.status, row.status_reason = event.step_status, None
