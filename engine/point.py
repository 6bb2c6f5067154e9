"""Points of history, for reads of what was."""

from datetime import datetime
from typing import TypeAlias

from msgspec import Struct
from typing_extensions import override

from engine.errors import InvalidValue


class Position(Struct, frozen=True):
    """The point at which the log held its first `n` events; a recorded event's `position` is one.

    Where a read takes a point, a plain number is a version of the one stream that is read; this is a place in the log.

    Raises:
        InvalidValue: `n` is not an integer from 1.
    """

    n: int

    def __post_init__(self) -> None:
        if type(self.n) is not int or self.n < 1:
            raise InvalidValue("position", self.n, "is not an integer from 1")

    @override
    def __repr__(self) -> str:
        return f"Position({self.n})"


Point: TypeAlias = int | datetime | Position | None
"""A point of a stream: its version, an aware time, a position of the log, or None for now."""


def no_point(at: object) -> InvalidValue:
    """Return the error for what is none."""
    return InvalidValue("at", at, "is neither a version nor a position nor a time")


class PlacedPoint(Struct, frozen=True):
    """A point of a branch's stream."""

    run_id: str
    branch: str
    at: Point = None
