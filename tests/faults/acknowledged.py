"""What processes were acknowledged: how they say it, in lines of `branch value`, and whether it is recorded."""

import os
from collections.abc import Iterable

from engine import Engine
from engine.events import ParametersSet


def say(*words: object) -> None:
    """Print a line at once, and in one piece, whichever threads and processes print to the same pipe."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def assert_recorded(engine: Engine, lines: Iterable[str]) -> None:
    """Assert that each branch of run `r` has the values from 0 on, in order, and none that was acknowledged is missing.

    Every event that sets parameters on the branch has set `value`.
    """
    for name, last in dict(line.rsplit(" ", 1) for line in lines).items():
        written = [
            recorded.event.values["value"].value
            async for recorded in engine.events(run_id="r", branch=name)
            if isinstance(recorded.event, ParametersSet)
        ]
        assert written == list(range(len(written)))
        assert len(written) > int(last)
