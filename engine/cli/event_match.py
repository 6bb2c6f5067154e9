"""Conditions on events that the engine's own filters do not cover: step, status and time."""

from datetime import datetime
from typing import Any

from msgspec import Struct

from engine.events import RecordedEvent


class EventMatch(Struct, frozen=True):
    """What an event must be about; None admits every event.

    `step` is a step or a task, `status` the status that the event sets, and `since` the earliest time of recording,
    which must be aware.
    """

    step: str | None = None
    status: str | None = None
    since: datetime | None = None

    def admits(self, recorded: RecordedEvent) -> bool:
        """Return whether an event meets every condition."""
        return (
            self.step in (None, _step(recorded.event))
            and self.status in (None, _status(recorded.event))
            and (self.since is None or self.since <= recorded.recorded_at)
        )


def _step(event: Any) -> str | None:
    return getattr(event, "step", None) or getattr(event, "task_id", None)


def _status(event: Any) -> str | None:
    status = getattr(getattr(event, "changes", event), "status", None)
    return status if isinstance(status, str) else None
