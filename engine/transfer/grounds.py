"""Whether what an event speaks of is there. Who computes every hash anew can still not make the views lie."""

from engine.errors import AnabranchError, shown
from engine.events import (
    AttemptCreated,
    AttemptUpdated,
    Event,
    ExternalRunUpdated,
    StepStatusChanged,
)
from engine.ports import State, Stream
from engine.transfer.refusals import HistoryBroken, ImportedAttemptExists


def unfounded(event: Event, stream: Stream, state: State, line: int) -> AnabranchError | None:
    """Return why an event cannot follow on what is, None when it can.

    Args:
        line: the event's, for the error.
    """
    match event:
        case AttemptCreated(attempt_id=attempt_id) if state.attempt(attempt_id) is not None:
            return ImportedAttemptExists(attempt_id, line)
        case AttemptUpdated(attempt_id=attempt_id):
            attempt = state.attempt(attempt_id, stream)
            if attempt is None or attempt.task_id != event.step:
                return _missing(line, "attempt", attempt_id)
        case AttemptCreated(step=step) | StepStatusChanged(step=step) if state.step(stream, step) is None:
            return _missing(line, "step", step)
        case ExternalRunUpdated(task_id=task_id) if state.external_run(stream, task_id) is None:
            return _missing(line, "external run of task", task_id)
        case _:
            pass
    return None


def _missing(line: int, what: str, name: str) -> HistoryBroken:
    return HistoryBroken(line, "link", f"it speaks of {what} {shown(name)}, which is not there")
