"""Reductions by a caller's function while another engine writes to the children."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from engine import Engine
from engine.blocking import BlockingEngine
from engine.errors import Conflict, HeadsMoved
from engine.handles.reducing import TRIES_MAX


@pytest.mark.parametrize("moves", [TRIES_MAX - 1, TRIES_MAX])
async def test_a_function_is_asked_ten_times_at_most(engine: Engine, database: Path, moves: int) -> None:
    """While children keep changing, a reduction calls the function again, at most `TRIES_MAX` times.

    Then it raises HeadsMoved and sets nothing.
    """
    run = await engine.create_run("r", parameters={"x": 0})
    await (await run.fork("a")).set_parameters({"x": 0})
    other = BlockingEngine(database)
    asked: list[list[Any]] = []

    async def write(writing: Engine) -> None:
        branch = await (await writing.run("r")).branch("a")
        await branch.set_parameters({"x": len(asked)})

    def largest(values: list[int]) -> int:
        asked.append(values)
        if len(asked) <= moves:
            other.call(write)
        return max(values)

    try:
        if moves < TRIES_MAX:
            assert (await run.reduce(rules={"x": largest})).values["x"].value == moves
        else:
            with pytest.raises(HeadsMoved) as caught:
                await run.reduce(rules={"x": largest})
            assert isinstance(caught.value, Conflict)
            assert (caught.value.run_id, caught.value.branch) == ("r", "")
            assert (await run.parameters())["x"].value == 0
    finally:
        await asyncio.to_thread(other.close)
    assert len(asked) == TRIES_MAX
