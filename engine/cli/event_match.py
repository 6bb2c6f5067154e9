"""Conditions on events that the engine's own filters do not cover: step and status."""

from typing import Any

from msgspec import Struct

from engine.events import RecordedEvent


class EventMatch(Struct, frozen=True):
    """What an event must be about; None admits every event.

    `step` is a step or a task and `status` the status that the event sets.
    """

    step: str | None = None
    status: str | None = None

    def admits(self, recorded: RecordedEvent) -> bool:
        """Return whether an event meets every condition."""
        return self.step in (None, _step(recorded.event)) and self.status in (None, _status(recorded.event))


def _step(event: Any) -> str | None:
    return getattr(event, "step", None) or getattr(event, "task_id", None)


def _status(event: Any) -> str | None:
    status = getattr(getattr(event, "changes", event), "status", None)
    return status if isinstance(status, str) else None
