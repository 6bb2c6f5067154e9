"""Finding the events that repeat the content of another event.

These are reductions that took a value from it or conflicted on one, copies of parameters to another branch by a host's
store, carry-overs from a deleted source, and `StepLogged` events with the same description of a step that was logged
again or taken over by a forked run.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence

from engine.codec import decode_event, same
from engine.events import (
    Event,
    ParametersReduced,
    ParametersSet,
    RunConfigured,
    RunCreated,
    SourceCarriedOver,
    StepLogged,
)
from engine.model import Origin, ParameterConflict, Source
from engine.names import ROOT
from engine.ports import check_opened_before

_HOLDERS = (
    "SELECT position, stream_id, run_id, branch, stream_version, event_type, schema_version, payload, payload_digest"
    " FROM events JOIN streams USING (stream_id) WHERE events.root_id = ?"
    # Few `ParametersSet` events are copies; filter the others out without decoding them.
    " AND (event_type = 'ParametersReduced' OR event_type = 'ParametersSet' AND instr(payload, CAST(? AS BLOB)) > 0)"
    " ORDER BY position"
)


def holders_of(connection: sqlite3.Connection, position: int, roots: Sequence[int]) -> list[Origin]:
    """Return the reductions and copies in some runs that hold a value of the event at a position and are not erased.

    The views must be current: they tell which event set a parameter, even if the event was erased.

    Args:
        roots: the root stream ids of the runs, each after the run that it was forked from.
    """
    carriers, found = {position}, list[Origin]()
    for root_id in roots:
        for row in connection.execute(_HOLDERS, (root_id, "copied_from")):
            at, stream_id, run_id, branch, version, event_type, schema_version, payload, erased = row
            event = decode_event(event_type, schema_version, payload, at)
            if any(source in carriers for source in _ValueSources(connection, stream_id, version).positions(event)):
                carriers.add(at)
                if erased is None:
                    found.append(Origin(run_id, branch, version))
    return found


class _ValueSources:
    """Finds the positions of the events whose values an event of some stream and version holds."""

    def __init__(self, connection: sqlite3.Connection, stream_id: int, version: int) -> None:
        self._connection = connection
        self._stream_id = stream_id
        self._version = version

    def positions(self, event: Event) -> Iterator[int | None]:
        """Yield the position of each event that a value, or one side of a conflict, came from."""
        match event:
            case ParametersReduced():
                yield from self._in_reduction(event)
            case ParametersSet(copied_from=Source() as source):
                stream_id, _ = self._branch_stream(source.branch)
                for name in event.values:
                    yield self._position_set(stream_id, name, source.stream_version, forks=True)
            case _:
                pass

    def _in_reduction(self, event: ParametersReduced) -> Iterator[int | None]:
        for name, sources in event.sources.items():
            for source in sources:
                stream_id, _ = self._branch_stream(source.branch)
                yield self._position_set(stream_id, name, source.stream_version, forks=False)
        heads = {head.branch: head.stream_version for head in event.children}
        for conflict in event.conflicts:
            yield from self._in_conflict(conflict, heads[conflict.branch])

    def _in_conflict(self, conflict: ParameterConflict, child_version: int) -> Iterator[int | None]:
        child_id, forked_at = self._branch_stream(conflict.branch)
        yield self._position_set(child_id, conflict.name, child_version, forks=False)
        yield self._position_set(self._stream_id, conflict.name, forked_at, forks=True)
        yield self._position_set(self._stream_id, conflict.name, self._version - 1, forks=True)

    def _branch_stream(self, branch: str) -> tuple[int, int]:
        """Return the stream id of a branch of the same run, and its parent's version at the fork."""
        stream_id, forked_at = self._connection.execute(
            "SELECT stream_id, parent_version FROM streams"
            " WHERE branch = ? AND run_id = (SELECT run_id FROM streams WHERE stream_id = ?)",
            (branch, self._stream_id),
        ).fetchone()
        return stream_id, forked_at

    def _position_set(self, stream_id: int | None, name: str, version: int, *, forks: bool) -> int | None:
        """Return the position of the event that set a parameter as a stream sees it as of a version.

        Args:
            forks: also look for inherited parameters, not only those that the stream set itself.
        """
        while stream_id is not None:
            row = self._connection.execute(
                "SELECT position FROM parameters WHERE stream_id = ? AND name = ? AND stream_version <= ?"
                " ORDER BY stream_version DESC LIMIT 1",
                (stream_id, name, version),
            ).fetchone()
            if row is not None:
                return int(row[0])
            if not forks:
                return None
            parent, version = self._connection.execute(
                "SELECT parent_stream_id, parent_version FROM branches WHERE stream_id = ?", (stream_id,)
            ).fetchone()
            check_opened_before(parent, stream_id)
            stream_id = parent
        return None


_CARRIED_OVER = (
    "SELECT position, streams.run_id, stream_version, event_type, schema_version, payload FROM events"
    " JOIN streams USING (stream_id) WHERE event_type = 'SourceCarriedOver' AND payload_digest IS NULL"
    " AND events.root_id IN (SELECT runs.stream_id FROM runs JOIN branches ON branches.stream_id = runs.stream_id"
    " WHERE runs.original_run_id IS NOT NULL AND branches.parent_stream_id IS NULL) ORDER BY position"
)


def carried_over_by(connection: sqlite3.Connection, event: Event) -> list[Origin]:
    """Return the events that carried content of an event over to other runs and are not erased.

    They do not name their original events, so every one with equal content is returned.
    """
    found = []
    for position, run_id, version, event_type, schema_version, payload in connection.execute(_CARRIED_OVER):
        carried = decode_event(event_type, schema_version, payload, position)
        if isinstance(carried, SourceCarriedOver) and _repeats(carried, event):
            found.append(Origin(run_id, ROOT, version))
    return found


_DESCRIBING = ("message", "spec", "details")
_DESCRIPTIONS = (
    "SELECT position, streams.run_id, branch, stream_version, event_type, schema_version, payload FROM events"
    " JOIN streams USING (stream_id) WHERE events.root_id = ? AND (branch = '' OR stream_id = ?)"
    " AND event_type = 'StepLogged' AND payload_digest IS NULL ORDER BY position"
)


def described_alike(
    connection: sqlite3.Connection, event: StepLogged, stream_id: int, roots: Sequence[int]
) -> list[Origin]:
    """Return the events of a branch, and of the root branches of some runs, that describe a step as an event does."""
    found = []
    for root_id in roots:
        rows = connection.execute(_DESCRIPTIONS, (root_id, stream_id))
        for position, run_id, branch, version, event_type, schema_version, payload in rows:
            other = decode_event(event_type, schema_version, payload, position)
            if isinstance(other, StepLogged) and other.step == event.step and _share_a_field(other, event, _DESCRIBING):
                found.append(Origin(run_id, branch, version))
    return found


def _repeats(carried: SourceCarriedOver, event: Event) -> bool:
    match event:
        case ParametersSet(values=values) | ParametersReduced(values=values):
            return _share_a_value(carried.values, values)
        case RunConfigured(config=config):
            return _share_a_value(carried.config, config)
        case RunCreated():
            return _describes_alike(carried, event)
        case SourceCarriedOver(values=values, config=config):
            return (
                _share_a_value(carried.values, values)
                or _share_a_value(carried.config, config)
                or _describes_alike(carried, event)
                or not _steps_of(carried).isdisjoint(_steps_of(event))
            )
        case _:
            return getattr(event, "step", None) in _steps_of(carried)


def _steps_of(carried: SourceCarriedOver) -> set[str]:
    return {each.log.step for each in (*carried.steps, *carried.hidden)}


def _describes_alike(carried: SourceCarriedOver, event: RunCreated | SourceCarriedOver) -> bool:
    return _share_a_field(carried, event, ("workspace_slug", "root_path", "description", "tags"))


def _share_a_field(one: Event, other: Event, fields: Sequence[str]) -> bool:
    return any(getattr(one, name) and same(getattr(one, name), getattr(other, name)) for name in fields)


def _share_a_value(kept: Mapping[str, object], said: Mapping[str, object]) -> bool:
    return any(name in kept and same(kept[name], value) for name, value in said.items())
