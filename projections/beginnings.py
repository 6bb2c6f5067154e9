"""The beginning of a step: the point to fork from to run the step again."""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Final

from engine.codec import decode_event
from engine.errors import StepNotFound
from engine.events import AttemptCreated, AttemptUpdated, Event, StepLogged, StepRemoved, StepStatusChanged
from engine.model import CREATED, PENDING
from engine.ports import Stream

_DECLARED: Final = frozenset({CREATED, PENDING})

_STEP_EVENTS: Final = (StepLogged, StepStatusChanged, AttemptCreated, AttemptUpdated)


def version_before(connection: sqlite3.Connection, stream: Stream, step: str, version: int) -> int:
    """Return the version of a stream just before a step began.

    A step begins with its first attempt, or its first status other than created or pending. If it had not begun by
    `version`, return the version before it was first logged. Events before the step's last removal do not count.

    Raises:
        StepNotFound: the stream itself had not logged the step by then, or had removed it.
    """
    removals = _events_of(connection, stream, step, (StepRemoved,), 0, version)
    removed_at = max((stream_version for stream_version, _ in removals), default=0)
    logged_at: int | None = None
    for stream_version, event in _events_of(connection, stream, step, _STEP_EVENTS, removed_at, version):
        if _begins(event):
            return stream_version - 1
        logged_at = logged_at or stream_version
    if logged_at is None:
        raise StepNotFound(stream.run_id, stream.branch, step)
    return logged_at - 1


def _events_of(
    connection: sqlite3.Connection, stream: Stream, step: str, types: Sequence[type[Event]], after: int, until: int
) -> Iterator[tuple[int, Event]]:
    """Yield the events of these types that name a step, with their versions."""
    names = ", ".join(f"'{each.__name__}'" for each in types)
    rows = connection.execute(
        "SELECT position, stream_version, event_type, schema_version, payload FROM events"
        " WHERE root_id = (SELECT root_id FROM streams WHERE stream_id = ?) AND stream_id = ?"
        f" AND stream_version > ? AND stream_version <= ? AND event_type IN ({names}) ORDER BY position",
        (stream.stream_id, stream.stream_id, after, until),
    )
    for position, stream_version, event_type, schema_version, payload in rows:
        event = decode_event(event_type, schema_version, payload, position)
        if getattr(event, "step", None) == step:
            yield stream_version, event


def _begins(event: Event) -> bool:
    match event:
        case AttemptCreated():
            return True
        case StepLogged(status=status) | StepStatusChanged(status=status) | AttemptUpdated(step_status=str(status)):
            return status not in _DECLARED
        case _:
            return False
