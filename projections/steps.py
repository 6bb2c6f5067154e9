"""Steps with their attempts, including those that a forked run inherits."""

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from msgspec import structs

from engine.model import SUCCEEDED_STATUSES, AttemptLog, Origin, StepLog
from engine.names import ROOT
from engine.ports import Stream, check_opened_before
from projections.own_parameters import LATEST
from projections.past import STEP_EVENTS, past_of_stream
from projections.reading import as_attempt, as_step, attempt_rows, removed_steps, step_rows
from projections.streams import stream_of

_CACHED_STEPS_MAX = 4_000
_ASKED_POINTS_MAX = 4_000


def steps_of(connection: sqlite3.Connection, stream: Stream, version: int = LATEST) -> dict[str, StepLog]:
    """Return the steps that a branch sees at a version, by internal name: inherited ones first, then its own."""
    own, removed = _own_steps_at(connection, stream, version)
    return _over_inherited(inherited_steps(connection, stream), own, removed)


def step_of(connection: sqlite3.Connection, stream: Stream, step: str, version: int = LATEST) -> StepLog | None:
    """Return one step of `steps_of`, None if there is none of that name, without reading the others."""
    found, is_removed = _own_step_at(connection, stream, version, step)
    while found is None and not is_removed and stream.branch == ROOT and stream.parent_id is not None:
        source, version = _source(connection, stream)
        found, is_removed = _own_step_at(connection, source, version, step)
        if found is not None and found.status not in SUCCEEDED_STATUSES:
            return None
        found = found and structs.replace(found, inherited_from=Origin(source.run_id, source.branch, version))
        stream = source
    return found


def _own_step_at(
    connection: sqlite3.Connection, stream: Stream, version: int, step: str
) -> tuple[StepLog | None, bool]:
    """Return a step that a stream itself had logged at a version, and whether it had removed one of that name."""
    key = stream.stream_id, step
    with past_of_stream(connection, stream, version, STEP_EVENTS, step) as then:
        for row in step_rows(then, "WHERE stream_id = ? AND step = ?", key):
            attempts = attempt_rows(then, "WHERE stream_id = ? AND task_id = ? ORDER BY attempt_index", key)
            return as_step(row, [as_attempt(each) for each in attempts]), False
        return None, step in removed_steps(then, stream.stream_id)


def with_inherited(connection: sqlite3.Connection, stream: Stream, own: dict[str, StepLog]) -> dict[str, StepLog]:
    """Return the steps that a branch sees now, given those that it has logged itself."""
    if not (inherited := inherited_steps(connection, stream)):
        return own
    return _over_inherited(inherited, own, removed_steps(connection, stream.stream_id))


def inherited_steps(connection: sqlite3.Connection, stream: Stream) -> dict[str, StepLog]:
    """Return the steps of the source that had succeeded at a run's fork, by internal name.

    Only the root branch of a forked run inherits steps; those that it has logged or removed itself are included.
    """
    levels: list[dict[str, StepLog]] = []
    hidden: set[str] = set()
    while stream.branch == ROOT and stream.parent_id is not None:
        source, version = _source(connection, stream)
        origin = Origin(source.run_id, source.branch, version)
        own, removed = _own_steps_at(connection, source, version)
        levels.append(
            {
                name: structs.replace(step, inherited_from=origin)
                for name, step in own.items()
                if step.status in SUCCEEDED_STATUSES and name not in hidden
            }
        )
        hidden |= own.keys() | removed
        stream = source
    return {name: step for level in reversed(levels) for name, step in level.items()}


def _source(connection: sqlite3.Connection, root: Stream) -> tuple[Stream, int]:
    """Return the stream that a forked run's root branch continues, and the version at the fork."""
    assert root.parent_id is not None, "forked"
    check_opened_before(root.parent_id, root.stream_id)
    return stream_of(connection, root.parent_id), root.parent_version


def _over_inherited(
    inherited: Mapping[str, StepLog], own: Mapping[str, StepLog], removed: Collection[str]
) -> dict[str, StepLog]:
    seen = {name: step for name, step in inherited.items() if name not in own and name not in removed}
    return {**seen, **own}


def _own_steps_at(connection: sqlite3.Connection, stream: Stream, version: int) -> tuple[dict[str, StepLog], set[str]]:
    """Return the steps that a stream itself had logged at a version, and the names of those it had removed."""
    with past_of_stream(connection, stream, version, STEP_EVENTS) as then:
        own = own_steps(then, "stream_id = ?", (stream.stream_id,)).get(stream.stream_id, {})
        return own, removed_steps(then, stream.stream_id)


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


class InheritedSteps:
    """A cache of the steps that the root branches of forked runs inherit, shared by all forks of one point.

    Only erasures and deletions change them.

    Args:
        write_batch: writes the events and rows of the batch so far.
    """

    def __init__(self, connection: sqlite3.Connection, write_batch: Callable[[], None]) -> None:
        self._connection = connection
        self._write_batch = write_batch
        self._by_point: dict[tuple[int | None, int], dict[str, StepLog]] = {}
        self._asked: set[tuple[int | None, int]] = set()

    def step(self, root: Stream, name: str) -> StepLog | None:
        """Return one of `inherited_steps`, for a root branch that has neither logged nor removed it itself.

        Only from the second request for a fork point on, all of its steps are read: many processes need just one.
        """
        point = root.parent_id, root.parent_version
        if point in self._asked or self.has_read(root):
            return self.of(root).get(name)
        if len(self._asked) == _ASKED_POINTS_MAX:
            self._asked.clear()
        self._asked.add(point)
        self._write_batch()
        return step_of(self._connection, root, name)

    def has_read(self, root: Stream) -> bool:
        """Return whether all steps of a root branch's fork point are in the cache."""
        return (root.parent_id, root.parent_version) in self._by_point

    def of(self, root: Stream) -> Mapping[str, StepLog]:
        """Return `inherited_steps` of a root branch."""
        point = root.parent_id, root.parent_version
        found = self._by_point.pop(point, None)
        if found is None:
            self._write_batch()
            found = inherited_steps(self._connection, root)
            while self._by_point and sum(map(len, self._by_point.values())) + len(found) > _CACHED_STEPS_MAX:
                del self._by_point[next(iter(self._by_point))]
        self._by_point[point] = found  # at the end, as the most recently used
        return found

    def forget(self) -> None:
        """Empty the cache."""
        self._by_point.clear()
        self._asked.clear()
