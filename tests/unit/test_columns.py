"""The encoding of values in the columns of view tables."""

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from engine.codec import same
from projections.columns import from_json, from_text, to_json, to_text
from tests.strategies import values

offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


class SummerTimeEnds(tzinfo):
    """A time zone in the hour that occurs twice: first two hours ahead of UTC, then one."""

    @override
    def utcoffset(self, dt: datetime | None) -> timedelta:
        return timedelta(hours=2 if dt is None or dt.fold == 0 else 1)

    @override
    def dst(self, dt: datetime | None) -> timedelta:
        return self.utcoffset(dt) - timedelta(hours=1)

    @override
    def tzname(self, dt: datetime | None) -> str:
        return "summer" if self.dst(dt) else "winter"


@given(values)
def test_json_comes_back_as_it_was(value: Any) -> None:
    """Any value is read back from its JSON column unchanged, including NaN, the infinities, -0.0 and 1.0."""
    assert same(from_json(to_json(value)), value)


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=offsets | st.just(UTC)))  # noqa: DTZ001 - naive bounds
def test_a_time_is_the_same_moment_in_utc(moment: datetime) -> None:
    """A time of any zone is read back from its column as the same moment in UTC."""
    assert from_text(to_text(moment)) == moment.astimezone(UTC)


def test_the_hour_that_comes_twice_in_autumn_is_two_hours() -> None:
    """The two moments of an hour that occurs twice have different texts, although Python compares them as equal."""
    zone = SummerTimeEnds()
    twice = [datetime(2026, 10, 25, 2, 30, tzinfo=zone, fold=fold) for fold in (0, 1)]
    assert twice[0] == twice[1]
    assert [to_text(each) for each in twice] == ["2026-10-25 00:30:00.000000", "2026-10-25 01:30:00.000000"]
