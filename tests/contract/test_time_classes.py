"""Subclasses of `datetime` and `int`, such as those of date libraries and enumerations."""

import enum
from datetime import UTC, datetime, timedelta, timezone

from engine import Engine
from engine.stores import StateStore


class Timestamp(datetime):
    """A subclass of `datetime`, as pandas and pendulum have them."""


class Version(enum.IntEnum):
    FIRST = 1
    SECOND = 2


WHEN = Timestamp(2026, 3, 1, 14, 30, 15, 250, tzinfo=timezone(timedelta(hours=2)))
PLAIN = datetime(2026, 3, 1, 12, 30, 15, 250, tzinfo=UTC)


async def test_a_time_of_another_class_is_the_same_time(engine: Engine) -> None:
    """A time of a subclass of `datetime` is recorded as the plain time in UTC, by handles and state store."""
    run = await engine.create_run("r", created_at=WHEN)
    attempt = await run.start_attempt("s")
    await attempt.update(submitted_at=WHEN, ended_at=WHEN)
    await StateStore(engine).create_run({"run_id": "stored"}, {"created_at": WHEN})
    stored = await StateStore(engine).get_run_metadata("stored")
    assert stored is not None
    log = await attempt.log()
    found = [(await run.info()).created_at, log.submitted_at, log.ended_at, stored.created_at]
    assert found == [PLAIN] * 4
    assert {type(each) for each in found} == {datetime}
    assert await engine.verify_views() == []


async def test_a_version_of_another_class_is_the_same_version(engine: Engine) -> None:
    """A version given as an `IntEnum` member is the same version as its plain integer."""
    run = await engine.create_run("r", parameters={"x": 1})
    await run.set_parameters({"x": 2}, expected_version=Version.SECOND)
    forked = await engine.fork_run("r", run_id="forked", at=Version.SECOND)
    assert (await forked.parameters())["x"].value == 1
    await engine.erase("r", None, Version.SECOND, "asked for")
    assert (await run.parameters(at=Version.SECOND))["x"].kind == "erased"
    positions = [each.position async for each in engine.events(run_id="r", after=Version.SECOND)]
    assert positions[0] == 3
