"""Times as they are recorded: aware, in UTC, to the microsecond."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from engine.errors import InvalidValue

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def to_microseconds(moment: datetime, where: str = "time") -> int:
    """Return an aware time as microseconds since 1970 in UTC.

    Raises:
        InvalidValue: naming `where`: it is not a datetime, has no time zone, or is outside the years 1 to 9999 in UTC.
    """
    if not isinstance(moment, datetime):
        raise InvalidValue(where, moment, f"is {type(moment).__name__}, not a datetime")
    if moment.tzinfo is None:
        raise InvalidValue(where, moment, "has no time zone")
    try:
        return (moment.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
    except OverflowError as error:
        raise InvalidValue(where, moment, "is outside the years 1 to 9999 in UTC") from error


def plain_time(moment: datetime, where: str = "time") -> datetime:
    """Return a time in UTC, as a plain `datetime` rather than a subclass such as those of date libraries.

    Raises:
        InvalidValue: as `to_microseconds`.
    """
    return from_microseconds(to_microseconds(moment, where))


@lru_cache(maxsize=1024)  # the events of a batch share one time
def from_microseconds(microseconds: int) -> datetime:
    """Return microseconds since 1970 as an aware time in UTC."""
    return _EPOCH + timedelta(microseconds=microseconds)


def iso_text(moment: datetime) -> str:
    """Return a time as ISO 8601 in UTC with microseconds: `2026-01-31T12:00:00.000000Z`."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
