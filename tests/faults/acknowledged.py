"""The acknowledgements of processes: how they print them, as lines `branch value`, and whether they are recorded."""

import os
from collections.abc import Iterable

from engine import Engine
from engine.events import ParametersSet


def say(*words: object) -> None:
    """Print a line at once and in one piece, whichever threads and processes print to the same pipe."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def values_of(engine: Engine, branch: str) -> list[object]:
    """Return what `value` was set to on a branch of run `r`, by each event that set parameters there."""
    return [
        recorded.event.values["value"].value
        async for recorded in engine.events(run_id="r", branch=branch)
        if isinstance(recorded.event, ParametersSet)
    ]


async def assert_recorded(engine: Engine, lines: Iterable[str]) -> None:
    """Assert that each branch has the values from 0 on, in order, and that no acknowledged one is missing."""
    for name, last in dict(line.rsplit(" ", 1) for line in lines).items():
        written = await values_of(engine, name)
        assert written == list(range(len(written)))
        assert len(written) > int(last)
