"""Steps with their attempts, as rows and as a branch sees them."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import structs

from engine.model import COMPLETED, AttemptLog, Origin, StepLog
from engine.names import ROOT
from engine.ports import Stream
from projections.partitions import StepRow
from projections.past import past_of_stream
from projections.reading import SELECT_ATTEMPTS, SELECT_STEPS, as_attempt, as_step
from projections.state_tables import AttemptRow
from projections.streams import missing_version, stream_of

_SUCCEEDED: Final = frozenset({COMPLETED, "SUCCESS"})


def steps_of(connection: sqlite3.Connection, stream: Stream) -> dict[str, StepLog]:
    """Return the steps that a branch sees, by internal name: inherited ones first, then as they were first logged."""
    own = own_steps(connection, "stream_id = ?", (stream.stream_id,)).get(stream.stream_id, {})
    return with_inherited(connection, stream, own)


def step_of(connection: sqlite3.Connection, stream: Stream, step: str) -> StepLog | None:
    """Return one step of `steps_of`, None when the branch sees none of that name."""
    key = stream.stream_id, step
    row = connection.execute(f"{SELECT_STEPS} WHERE stream_id = ? AND step = ?", key).fetchone()
    if row is None:
        return with_inherited(connection, stream, {}).get(step)
    attempts = connection.execute(f"{SELECT_ATTEMPTS} WHERE stream_id = ? AND task_id = ? ORDER BY attempt_index", key)
    return as_step(StepRow(*row), [as_attempt(AttemptRow(*each)) for each in attempts])


def with_inherited(connection: sqlite3.Connection, stream: Stream, own: Mapping[str, StepLog]) -> dict[str, StepLog]:
    """Return a branch's own steps and, before them, those that had succeeded where its run was forked from.

    Only the root branch of a forked run inherits steps. One that it has logged itself hides the inherited one.
    """
    if stream.branch != ROOT or stream.parent_id is None:
        return dict(own)
    inherited = _succeeded(connection, stream.parent_id, stream.parent_version)
    return {**{name: step for name, step in inherited.items() if name not in own}, **own}


def _succeeded(connection: sqlite3.Connection, stream_id: int, version: int) -> dict[str, StepLog]:
    """The steps that a stream saw succeeded at a version."""
    source = stream_of(connection, stream_id)
    if source.version == version:
        return _succeeded_now(connection, source, version)
    with past_of_stream(connection, stream_id, version) as past:  # the rows say what is now
        then = stream_of(past, stream_id)
        if then.version != version:
            raise missing_version(connection, source, version)
        return _succeeded_now(past, then, version)


def _succeeded_now(connection: sqlite3.Connection, source: Stream, version: int) -> dict[str, StepLog]:
    origin = Origin(source.run_id, source.branch, version)
    return {
        name: structs.replace(step, inherited_from=step.inherited_from or origin)
        for name, step in steps_of(connection, source).items()
        if step.status in _SUCCEEDED
    }


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
