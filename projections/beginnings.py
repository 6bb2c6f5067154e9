"""Where a step began: the point to go back to when it is to be done anew."""

import sqlite3
from typing import Final

from engine.codec import decode_event
from engine.errors import StepNotFound
from engine.events import AttemptCreated, AttemptUpdated, Event, StepLogged, StepStatusChanged
from engine.model import CREATED, PENDING
from engine.ports import Stream

_DECLARED: Final = frozenset({CREATED, PENDING})


def version_before(connection: sqlite3.Connection, stream: Stream, step: str, version: int) -> int:
    """Return the version of a stream just before a step began: its first attempt, or its first status but created or
    pending. Where it never did by `version`, the one before it was first logged.

    Raises:
        StepNotFound: the stream itself had not logged the step by then.
    """
    rows = connection.execute(
        "SELECT position, stream_version, event_type, schema_version, payload FROM events"
        " WHERE root_id = (SELECT root_id FROM streams WHERE stream_id = ?) AND stream_id = ? AND stream_version <= ?"
        " AND event_type IN ('StepLogged', 'StepStatusChanged', 'AttemptCreated', 'AttemptUpdated') ORDER BY position",
        (stream.stream_id, stream.stream_id, version),
    )
    logged: int | None = None
    for position, stream_version, event_type, schema_version, payload in rows:
        event = decode_event(event_type, schema_version, payload, position)
        if getattr(event, "step", None) == step:
            if _begins(event):
                return int(stream_version) - 1
            logged = logged or stream_version
    if logged is None:
        raise StepNotFound(stream.run_id, stream.branch, step)
    return logged - 1


def _begins(event: Event) -> bool:
    match event:
        case AttemptCreated():
            return True
        case StepLogged(status=status) | StepStatusChanged(status=status) | AttemptUpdated(step_status=str(status)):
            return status not in _DECLARED
        case _:
            return False
