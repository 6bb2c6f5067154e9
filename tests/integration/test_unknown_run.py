"""Reading the events of a run or branch that does not exist."""

from typing import Any

import pytest

from engine import Engine
from engine.errors import BranchNotFound, RunNotFound
from tests.integration.refusals import events


@pytest.mark.parametrize("wanted", [{}, {"after": 99}, {"until": 0}])
async def test_events_of_a_run_that_is_not_there_are_refused(engine: Engine, wanted: dict[str, Any]) -> None:
    """`events` raises RunNotFound or BranchNotFound, in an empty log and beyond its end, too.

    A run without further events yields nothing.
    """
    with pytest.raises(RunNotFound):
        await events(engine, run_id="none", **wanted)
    await engine.create_run("r")
    with pytest.raises(BranchNotFound):
        await events(engine, run_id="r", branch="none", **wanted)
    assert await events(engine, run_id="r", after=1) == []
