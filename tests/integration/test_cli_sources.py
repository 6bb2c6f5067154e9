"""Where a parameter came from as of a point: the reads behind `anabranch params --at`."""

from engine import Engine, Position


async def test_sources_are_those_of_the_point_that_is_asked_for(engine: Engine) -> None:
    """The source of a parameter as of a version is the event that supplied its value then."""
    run = await engine.create_run("r", parameters={"lr": 0.1})
    await run.set_parameters({"lr": 0.2})

    then, now = await run.sources(at=2), await run.sources()

    assert (then["lr"].stream_version, now["lr"].stream_version) == (2, 3)


async def test_the_source_of_a_value_that_was_carried_over_is_the_event_that_kept_it(engine: Engine) -> None:
    """The source of a carried-over value is the event that carried it over, at every point and as `lineage` says."""
    await engine.create_run("source", parameters={"lr": 0.1, "x": 1})
    run = await engine.fork_run("source", run_id="r")
    await run.set_parameters({"x": 2})
    child = await run.fork("a")
    await engine.delete_run("source", "old", carry_over=True)

    for branch, at in ((run, None), (run, 1), (child, None), (child, Position(6))):
        found = (await branch.sources(at=at))["lr"]
        assert (found.branch, found.stream_version) == ("", 3)
        assert found.stream_version == (await branch.lineage("lr", at=at)).stream_version
    assert (await run.sources())["x"].stream_version == 2
