"""Steps with their attempts, as rows and as a branch sees them."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from engine.model import AttemptLog, StepLog
from engine.ports import Stream
from projections.partitions import StepRow
from projections.reading import SELECT_ATTEMPTS, SELECT_STEPS, as_attempt, as_step
from projections.state_tables import AttemptRow


def steps_of(connection: sqlite3.Connection, stream: Stream) -> dict[str, StepLog]:
    """Return what a branch sees of steps, by internal name, in the order in which they were first logged."""
    return own_steps(connection, "stream_id = ?", (stream.stream_id,)).get(stream.stream_id, {})


def step_of(connection: sqlite3.Connection, stream: Stream, step: str) -> StepLog | None:
    """Return one step of `steps_of`, None when the branch sees none of that name."""
    key = stream.stream_id, step
    row = connection.execute(f"{SELECT_STEPS} WHERE stream_id = ? AND step = ?", key).fetchone()
    if row is None:
        return None
    attempts = connection.execute(f"{SELECT_ATTEMPTS} WHERE stream_id = ? AND task_id = ? ORDER BY attempt_index", key)
    return as_step(StepRow(*row), [as_attempt(AttemptRow(*each)) for each in attempts])


def own_steps(connection: sqlite3.Connection, where: str, values: Sequence[Any]) -> dict[int, dict[str, StepLog]]:
    """Return the steps that streams logged themselves, by stream and internal name."""
    attempts: dict[tuple[int, str], list[AttemptLog]] = {}
    for row in connection.execute(f"{SELECT_ATTEMPTS} WHERE {where} ORDER BY attempt_index", values):
        attempt = AttemptRow(*row)
        attempts.setdefault((attempt.stream_id, attempt.task_id), []).append(as_attempt(attempt))
    steps: dict[int, dict[str, StepLog]] = {}
    for row in connection.execute(f"{SELECT_STEPS} WHERE {where} ORDER BY position", values):
        step = StepRow(*row)
        found = attempts.get((step.stream_id, step.step), [])
        steps.setdefault(step.stream_id, {})[step.step] = as_step(step, found)
    return steps
