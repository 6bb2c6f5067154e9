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
"""Where it jumps to: years on, years back, to its beginning, before it, and two centuries on."""

_MICROSECOND: Final = 1000


class JumpingClock:
    """Stands in for the system's clock: it says what it was set to, a microsecond more each time it is asked."""

    def __init__(self) -> None:
        self._nanoseconds = 0
        self.jump(TODAY)

    def jump(self, moment: datetime) -> None:
        """Set it, forward or back."""
        self._nanoseconds = int(moment.timestamp()) * 1_000_000_000

    def __call__(self) -> int:
        self._nanoseconds += _MICROSECOND
        return self._nanoseconds

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have the engine ask this clock when it records and when it collects."""
        monkeypatch.setattr(time, "time_ns", self)
