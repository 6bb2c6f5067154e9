"""Rows of the state views, made from events about runs, tasks and attempts."""

from datetime import datetime
from typing import Final

from msgspec import UNSET

from engine.events import RunCreated, RunForked, SourceCarriedOver
from engine.model import AttemptChanges, AttemptLog, TaskSpec
from engine.ports import Stream
from projections.columns import carried_position, parameters_to_json, to_json, to_text
from projections.state_tables import AttemptRow, RunRow, TaskRow

_DESCRIPTION: Final = ("workspace_slug", "root_path", "tags", "description", "dag_hash", "use_cached")


def run_row(stream: Stream, event: RunCreated | RunForked, created_at: datetime) -> RunRow:
    """Return the row of a new run, without its description."""
    return RunRow(
        run_id=stream.run_id,
        workspace_slug=None,
        root_path=None,
        created_at=to_text(created_at),
        status=event.status,
        status_reason=None,
        tags="{}",
        description=None,
        stream_id=stream.stream_id,
        tag=event.tag,
        dag_hash=None,
        original_run_id=None,
        use_cached=0,
        config="{}",
        job=None,
        finalized_hash=None,
        pinned=0,
        source_stream_id=None,
        status_changed_at=None,
    )


def describe_run(row: RunRow, event: RunCreated | SourceCarriedOver) -> None:
    """Set the description from a run's opening event, or from that of its source."""
    row.workspace_slug = event.workspace_slug
    row.root_path = event.root_path
    row.tags = to_json(event.tags)
    row.description = event.description
    row.dag_hash = event.dag_hash
    row.use_cached = int(event.use_cached)


def repeat_description(row: RunRow, source: RunRow) -> None:
    """Copy the source's description to a forked run."""
    for name in _DESCRIPTION:
        setattr(row, name, getattr(source, name))


def task_row(stream: Stream, step: str, status: str, spec: TaskSpec, current_attempt_id: str | None) -> TaskRow:
    return TaskRow(
        task_id=step,
        run_id=stream.run_id,
        image=spec.image,
        command=spec.command,
        files=to_json(spec.files),
        env=to_json(spec.env),
        dependencies=to_json(spec.dependencies),
        cores=spec.cores,
        memory_gb=spec.memory_gb,
        gpus=spec.gpus,
        time_limit_minutes=spec.time_limit_minutes,
        allow_dependency_failure=int(spec.allow_dependency_failure),
        allow_failure=int(spec.allow_failure),
        download_patterns=None if spec.download_patterns is None else to_json(spec.download_patterns),
        status=status,
        task_type=spec.task_type,
        operator_key=spec.operator_key,
        current_attempt_id=current_attempt_id,
        stream_id=stream.stream_id,
    )


def carried_attempt(stream: Stream, place: int, attempt: AttemptLog) -> AttemptRow:
    return AttemptRow(
        attempt_id=attempt.attempt_id,
        task_id=attempt.step,
        run_id=stream.run_id,
        attempt_index=attempt.attempt_index,
        status=attempt.status,
        operator_key=attempt.operator_key,
        operator_type=attempt.operator_type,
        external_id=attempt.external_id,
        operator_data=None if attempt.operator_data is None else to_json(attempt.operator_data),
        relative_path=attempt.relative_path,
        created_at=to_text(attempt.created_at),
        submitted_at=None if attempt.submitted_at is None else to_text(attempt.submitted_at),
        ended_at=None if attempt.ended_at is None else to_text(attempt.ended_at),
        status_reason=attempt.status_reason,
        stream_id=stream.stream_id,
        position=carried_position(place + attempt.attempt_index),
        message=attempt.message,
        inputs=parameters_to_json(attempt.inputs),
        outputs=parameters_to_json(attempt.outputs),
        metrics=parameters_to_json(attempt.metrics),
        details=to_json(attempt.details) if attempt.details else None,
        ended_position=0,  # even if it never ended, since it was another run's attempt
    )


def change_attempt(row: AttemptRow, changes: AttemptChanges) -> None:  # noqa: C901, PLR0912 - one `if` for each field
    """Apply an update to a row. Written out, because a loop over the fields takes three times as long."""
    if changes.status is not UNSET:
        row.status = changes.status
    if changes.status_reason is not UNSET:
        row.status_reason = changes.status_reason
    if changes.operator_key is not UNSET:
        row.operator_key = changes.operator_key
    if changes.operator_type is not UNSET:
        row.operator_type = changes.operator_type
    if changes.external_id is not UNSET:
        row.external_id = changes.external_id
    if changes.operator_data is not UNSET:
        row.operator_data = None if changes.operator_data is None else to_json(changes.operator_data)
    if changes.relative_path is not UNSET:
        row.relative_path = changes.relative_path
    if changes.message is not UNSET:
        row.message = changes.message
    if changes.inputs is not UNSET:
        row.inputs = parameters_to_json(changes.inputs)
    if changes.outputs is not UNSET:
        row.outputs = parameters_to_json(changes.outputs)
    if changes.metrics is not UNSET:
        row.metrics = parameters_to_json(changes.metrics)
    if changes.details is not UNSET:
        row.details = to_json(changes.details) if changes.details else None
    if changes.submitted_at is not UNSET:
        row.submitted_at = None if changes.submitted_at is None else to_text(changes.submitted_at)
    if changes.ended_at is not UNSET:
        row.ended_at = None if changes.ended_at is None else to_text(changes.ended_at)
