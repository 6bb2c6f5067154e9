"""Upkeep of the soak's store and removals from it, as moves like those of a host."""

from datetime import timedelta
from typing import Final

from engine import Checkpoint, Engine, RecordedEvent
from engine.errors import RunNotFound
from engine.events import PayloadErased
from engine.findings import Problem
from engine.model import Origin
from tests.faults.soak.moves import Events, Made, recorded

COLLECTED_AFTER_SECONDS: Final = 4.0


class Erase(Made, frozen=True):
    """Erases an event and its carried-over copies; `by` holds the move's key, which identifies them after a kill."""

    run_id: str
    branch: str
    version: int

    async def perform(self, engine: Engine, key: str, after: int) -> Events:
        asked: list[Origin] = []
        coming = [Origin(self.run_id, self.branch, self.version)]
        while coming:
            at = coming.pop()
            if at not in asked:
                asked.append(at)
                coming += await self._erase(engine, at, key)
        events = [each for at in asked for each in await self._erasures(engine, at, key, after)]
        return sorted(events, key=lambda each: each.position)

    async def _erase(self, engine: Engine, at: Origin, key: str) -> list[Origin]:
        try:
            erasure = await engine.erase(at.run_id, at.branch, at.stream_version, "soak", by=key, compact=False)
        except RunNotFound:
            if at.run_id == self.run_id:
                raise
            return []  # another worker's fork, deleted meanwhile
        return erasure.carried

    async def _erasures(self, engine: Engine, at: Origin, key: str, after: int) -> Events:
        try:
            events = await recorded(engine, at.run_id, at.branch, (PayloadErased,), after)
        except RunNotFound:
            return []
        return [each for each in events if _is_of(each, at.stream_version, key)]


def _is_of(erasure: RecordedEvent, version: int, key: str) -> bool:
    event = erasure.event
    return isinstance(event, PayloadErased) and event.stream_version == version and event.by == key


class DeleteRun(Made, frozen=True):
    """Deletes a run; its key is the reason, which the store keeps."""

    run_id: str
    carry_over: bool

    async def perform(self, engine: Engine, key: str, after: int) -> Events:
        await engine.delete_run(self.run_id, key, carry_over=self.carry_over)
        return []


class Collect(Made, frozen=True):
    async def perform(self, engine: Engine, key: str, after: int) -> Events:
        await engine.collect(timedelta(seconds=COLLECTED_AFTER_SECONDS), reason=key)
        return []


class Rebuild(Made, frozen=True):
    async def perform(self, engine: Engine, key: str, after: int) -> Events:
        await engine.rebuild()
        return []


class VerifyViews(Made, frozen=True):
    async def perform(self, engine: Engine, key: str, after: int) -> Events:
        differences = await engine.verify_views()
        assert differences == [], f"the views differ: {differences}"
        return []


class Compact(Made, frozen=True):
    async def perform(self, engine: Engine, key: str, after: int) -> Events:
        await engine.compact()
        return []


class Verify(Made, frozen=True):
    """Verifies the store against an earlier checkpoint, while others write."""

    since: str

    async def perform(self, engine: Engine, key: str, after: int) -> Events:
        verified = await engine.verify(since=Checkpoint.from_json(self.since))
        unexplained = [each for each in verified.problems if not is_deletion(each)]
        assert unexplained == [], f"problems since {self.since}: {unexplained}"
        return []


def is_deletion(problem: Problem) -> bool:
    """Return whether a problem is a run deleted since the checkpoint, unchanged or after it had grown."""
    return problem.kind == "deleted" or (problem.kind == "checkpoint" and problem.run_id is not None)


class Open(Made, frozen=True):
    """Notes that the engine was closed and is open again."""

    async def perform(self, engine: Engine, key: str, after: int) -> Events:
        await engine.last_position()
        return []
