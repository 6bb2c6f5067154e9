"""Points in a history, for reads of past states."""

from datetime import datetime
from typing import TypeAlias

from msgspec import Struct
from typing_extensions import override

from engine.errors import InvalidValue


class Position(Struct, frozen=True):
    """A position of the log, such as a recorded event's `position`, as a point.

    A read takes a plain number as a version of the stream that it reads; this class makes it a position instead.

    Raises:
        InvalidValue: `n` is not an integer of 1 or more.
    """

    n: int

    def __post_init__(self) -> None:
        if type(self.n) is not int or self.n < 1:
            raise InvalidValue("position", self.n, "is not an integer of 1 or more")

    @override
    def __repr__(self) -> str:
        return f"Position({self.n})"


Point: TypeAlias = int | datetime | Position | None
"""A point of a stream: its version, an aware time, a position of the log, or None for now."""


def no_point(at: object) -> InvalidValue:
    """Return the error for a value that is not a point."""
    return InvalidValue("at", at, "is not a version, a Position or a datetime")


class PlacedPoint(Struct, frozen=True):
    """A point of a branch's stream."""

    run_id: str
    branch: str
    at: Point = None
