"""A clock that is set back and forth while events are recorded."""

import time
from datetime import UTC, datetime
from typing import Final

import pytest

TODAY: Final = datetime(2026, 3, 1, tzinfo=UTC)
MOMENTS: Final = (
    TODAY,
    datetime(2031, 7, 1, tzinfo=UTC),
    datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 58, tzinfo=UTC),
    datetime(2200, 1, 1, tzinfo=UTC),
)
"""Where the clock jumps to: years ahead, years back, the epoch, before the epoch, and two centuries ahead."""

_MICROSECOND: Final = 1000


class JumpingClock:
    """Replaces the system's clock: returns the time it was set to, one microsecond later at each call."""

    def __init__(self) -> None:
        self._nanoseconds = 0
        self.jump(TODAY)

    def jump(self, moment: datetime) -> None:
        """Set the clock, forward or back."""
        self._nanoseconds = int(moment.timestamp()) * 1_000_000_000

    def __call__(self) -> int:
        self._nanoseconds += _MICROSECOND
        return self._nanoseconds

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make the engine use this clock when it records and when it collects."""
        monkeypatch.setattr(time, "time_ns", self)
