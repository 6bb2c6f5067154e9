"""An attempt id that was removed with its step may be used again; the history keeps both attempts."""

from engine import Engine


async def test_erasing_in_the_first_run_leaves_the_second_runs_attempt(engine: Engine) -> None:
    """Erasing in a run whose attempt was removed leaves another run's attempt of the same id in place."""
    one, other = await engine.create_run("one", parameters={"secret": 1}), await engine.create_run("other")
    await one.start_attempt("s", attempt_id="job-7")
    await one.remove_step("s")
    await other.start_attempt("s", attempt_id="job-7")
    await engine.erase("one", "", 2, "asked to", compact=False)
    assert [attempt.attempt_id for attempt in (await other.compile()).steps["s"].attempts] == ["job-7"]
    assert await engine.verify_views() == []


async def test_a_fork_that_gives_it_again_sees_both_in_the_past(engine: Engine) -> None:
    """A fork that reuses an inherited attempt's id shows both attempts, now and in the past."""
    source = await engine.create_run("source")
    await (await source.start_attempt("s", attempt_id="job-7")).finish()
    fork = await engine.fork_run("source", run_id="fork")
    await source.remove_step("s")
    await fork.start_attempt("t", attempt_id="job-7")
    now, then = await fork.compile(), await fork.compile(at=(await fork.head()).stream_version)
    assert then.steps == now.steps
    assert [attempt.attempt_id for step in ("s", "t") for attempt in then.steps[step].attempts] == ["job-7"] * 2
