"""What is asked of a run that is not there, whatever the log holds."""

from typing import Any

import pytest

from engine import Engine
from engine.errors import BranchNotFound, RunNotFound
from tests.integration.refusals import events


@pytest.mark.parametrize("wanted", [{}, {"after": 99}, {"until": 0}])
async def test_events_of_a_run_that_is_not_there_are_refused(engine: Engine, wanted: dict[str, Any]) -> None:
    """No events of a run and no run are told apart: in an empty log, and beyond the end of one."""
    with pytest.raises(RunNotFound):
        await events(engine, run_id="none", **wanted)
    await engine.create_run("r")
    with pytest.raises(BranchNotFound):
        await events(engine, run_id="r", branch="none", **wanted)
    assert await events(engine, run_id="r", after=1) == []
