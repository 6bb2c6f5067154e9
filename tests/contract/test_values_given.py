"""Values are recorded as they were given, whatever the caller does with them afterwards."""

import asyncio
from typing import Any

import pytest
from anyio.lowlevel import checkpoint

from engine import AttemptDocument, Engine, Parameter


@pytest.mark.parametrize("as_given", [lambda value: value, Parameter], ids=["plain", "parameter"])
async def test_a_value_changed_under_way_is_recorded_as_it_was(engine: Engine, as_given: Any) -> None:
    """A parameter value that the caller changes while the write is under way is recorded as it was given."""
    run = await engine.create_run("r")
    losses = [[0.3]]
    writing = asyncio.ensure_future(run.set_parameters({"losses": as_given(losses)}))
    await checkpoint()
    losses[0].append(0.2)
    await writing
    assert await run.parameters() == {"losses": Parameter([[0.3]])}


async def test_details_changed_under_way_are_recorded_as_they_were(engine: Engine) -> None:
    """Details of a step or attempt that the caller changes during the write are recorded as they were given."""
    run = await engine.create_run("r")
    step, attempt = {"files": ["a"]}, {"files": ["b"]}
    writing = asyncio.ensure_future(run.log_step("s", details=step, attempts=[AttemptDocument(details=attempt)]))
    await checkpoint()
    step["files"].append("x")
    attempt["files"].append("x")
    await writing
    logged = await run.step("s")
    assert logged.details == {"files": ["a"]}
    assert logged.attempts[0].details == {"files": ["b"]}
