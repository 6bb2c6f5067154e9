"""Steps with their attempts, as rows and as a branch sees them."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import structs

from engine.model import SUCCEEDED_STATUSES, AttemptLog, Origin, StepLog
from engine.names import ROOT
from engine.ports import Stream, check_opened_before
from projections.own_parameters import LATEST
from projections.past import OF_STEPS, past_of_stream_alone
from projections.reading import as_attempt, as_step, attempt_rows, step_rows
from projections.streams import stream_of


def steps_of(connection: sqlite3.Connection, stream: Stream, version: int = LATEST) -> dict[str, StepLog]:
    """Return the steps that a branch sees at a version, by internal name: inherited ones first, then as logged."""
    return with_inherited(connection, stream, _own_steps_at(connection, stream, version))


def step_of(connection: sqlite3.Connection, stream: Stream, step: str, version: int = LATEST) -> StepLog | None:
    """Return one step of `steps_of`, None when the branch sees none of that name."""
    if version < stream.version:
        return steps_of(connection, stream, version).get(step)
    key = stream.stream_id, step
    for row in step_rows(connection, "WHERE stream_id = ? AND step = ?", key):
        attempts = attempt_rows(connection, "WHERE stream_id = ? AND task_id = ? ORDER BY attempt_index", key)
        return as_step(row, [as_attempt(each) for each in attempts])
    return with_inherited(connection, stream, {}).get(step)


def with_inherited(connection: sqlite3.Connection, stream: Stream, own: Mapping[str, StepLog]) -> dict[str, StepLog]:
    """Return a branch's own steps and, before them, those that had succeeded where its run was forked from.

    Only the root branch of a forked run inherits steps. One that it has logged itself hides the inherited one.
    """
    inherited = _inherited(connection, stream)
    return {**{name: step for name, step in inherited.items() if name not in own}, **own}


def _inherited(connection: sqlite3.Connection, stream: Stream) -> dict[str, StepLog]:
    """The steps that a run's root branch saw succeeded at its fork, through all runs that those were forked from."""
    levels: list[dict[str, StepLog]] = []
    hidden: set[str] = set()
    while stream.branch == ROOT and stream.parent_id is not None:
        check_opened_before(stream.parent_id, stream.stream_id)
        source, version = stream_of(connection, stream.parent_id), stream.parent_version
        origin = Origin(source.run_id, source.branch, version)
        own = _own_steps_at(connection, source, version)
        levels.append(
            {
                name: structs.replace(step, inherited_from=step.inherited_from or origin)
                for name, step in own.items()
                if step.status in SUCCEEDED_STATUSES and name not in hidden
            }
        )
        hidden |= own.keys()
        stream = source
    return {name: step for level in reversed(levels) for name, step in level.items()}


def _own_steps_at(connection: sqlite3.Connection, stream: Stream, version: int) -> dict[str, StepLog]:
    """The steps that a stream itself had logged at a version."""
    with past_of_stream_alone(connection, stream, version, OF_STEPS) as then:
        return own_steps(then, "stream_id = ?", (stream.stream_id,)).get(stream.stream_id, {})


def own_steps(connection: sqlite3.Connection, where: str, values: Sequence[Any]) -> dict[int, dict[str, StepLog]]:
    """Return the steps that streams logged themselves, by stream and internal name."""
    attempts: dict[tuple[int, str], list[AttemptLog]] = {}
    for attempt in attempt_rows(connection, f"WHERE {where} ORDER BY attempt_index", values):
        attempts.setdefault((attempt.stream_id, attempt.task_id), []).append(as_attempt(attempt))
    steps: dict[int, dict[str, StepLog]] = {}
    for step in step_rows(connection, f"WHERE {where} ORDER BY position", values):
        found = attempts.get((step.stream_id, step.step), [])
        steps.setdefault(step.stream_id, {})[step.step] = as_step(step, found)
    return steps
