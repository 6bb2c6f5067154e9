"""A subscriber that resumes after the last event that it noted, whatever became of its process."""

import contextlib
from pathlib import Path

import msgspec

from engine import Engine
from engine.errors import ReadOvertaken
from tests.faults.soak.journal import Lines, Noted, noted


class Follower:
    """Follows one run, or all, and writes each event to a file."""

    def __init__(self, path: Path, run_id: str | None) -> None:
        self._lines = Lines(path)
        self._run_id = run_id
        last = self._lines.last
        self._after = msgspec.json.decode(last[-1], type=Noted).position if last else 0

    async def follow(self, engine: Engine, until: int | None = None) -> None:
        """Note events until the engine is closed, or until the event at a position has come."""
        while until is None or self._after < until:
            with contextlib.suppress(ReadOvertaken):  # then resume after the last event noted
                await self._follow(engine, until)
                return

    async def _follow(self, engine: Engine, until: int | None) -> None:
        async with contextlib.aclosing(engine.subscribe(run_id=self._run_id, after=self._after)) as events:
            async for recorded in events:
                self._lines.append(msgspec.json.encode(noted(recorded)))
                self._after = recorded.position
                if until is not None and recorded.position >= until:
                    return

    def close(self) -> None:
        self._lines.close()
