"""Rows of the state views, from what events say of tasks and attempts."""

from collections.abc import Callable
from typing import Any

from engine.model import AttemptChanges, AttemptLog, TaskSpec, given
from engine.ports import Stream
from projections.columns import parameters_to_json, to_json, to_text
from projections.state_tables import AttemptRow, TaskRow


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
        position=place + attempt.attempt_index,  # before all that the run tried itself
        message=attempt.message,
        inputs=parameters_to_json(attempt.inputs),
        outputs=parameters_to_json(attempt.outputs),
        metrics=parameters_to_json(attempt.metrics),
        details=to_json(attempt.details) if attempt.details else None,
    )


_JSON_COLUMNS: dict[str, Callable[[Any], str | None]] = {
    "operator_data": to_json,
    "inputs": parameters_to_json,
    "outputs": parameters_to_json,
    "metrics": parameters_to_json,
    "details": lambda details: to_json(details) if details else None,
    "submitted_at": to_text,
    "ended_at": to_text,
}


def attempt_columns(changes: AttemptChanges) -> dict[str, Any]:
    """Return the columns that an update sets."""
    columns = given(changes)
    for name, value in columns.items():
        if value is not None and name in _JSON_COLUMNS:
            columns[name] = _JSON_COLUMNS[name](value)
    return columns
