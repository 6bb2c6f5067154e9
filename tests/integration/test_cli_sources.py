"""Where a parameter came from, as of a point: what `anabranch params --at` shows."""

from engine import Engine


async def test_sources_are_those_of_the_point_that_is_asked_for(engine: Engine) -> None:
    """A source as of a version is the event that supplied the value then, not the one that did later."""
    run = await engine.create_run("r", parameters={"lr": 0.1})
    await run.set_parameters({"lr": 0.2})

    then, now = await run.sources(at=2), await run.sources()

    assert (then["lr"].stream_version, now["lr"].stream_version) == (2, 3)
