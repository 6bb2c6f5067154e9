"""What a host does in the soak, as data, so that a move that a kill interrupted is repeated from the journal.

A move has a key. Repeated under the same key, it is recorded once: by the engine's own idempotency keys where a call
takes one, elsewhere by looking at the state first, as a host would after a crash.
"""

from collections.abc import Collection
from typing import Any, ClassVar, Final, TypeAlias

from msgspec import Struct

from engine import Branch, Engine, RecordedEvent
from engine.events import (
    AttemptCreated,
    AttemptUpdated,
    BranchForked,
    ParametersReduced,
    ParametersSet,
    RunCreated,
    RunFinalized,
    RunForked,
    StepLogged,
)
from engine.model import RUNNING, TERMINAL_STATUSES
from engine.names import ROOT

SHARED: Final = "shared"
"""The run in which all workers write."""

Events: TypeAlias = list[RecordedEvent]


class Made(Struct, frozen=True, tag=True):
    """A move. `recorded_once` lists the types of which it must have recorded exactly one event.

    Its `perform` makes it and returns what its key has recorded, now or before; all of that comes after the position
    `after`.
    """

    recorded_once: ClassVar[tuple[str, ...]] = ()


async def _branch(engine: Engine, run_id: str, branch: str) -> Branch:
    return await (await engine.run(run_id)).branch(branch)


async def recorded(engine: Engine, run_id: str, branch: str, types: Collection[type], after: int) -> Events:
    """Return the events of a branch, of some types, after a position."""
    return [each async for each in engine.events(run_id=run_id, branch=branch, types=types, after=after)]


class CreateRun(Made, frozen=True):
    recorded_once = ("RunCreated", "ParametersSet")
    run_id: str
    tag: str
    values: dict[str, Any]

    async def perform(self, engine: Engine, key: str, after: int) -> Events:
        await engine.create_run(self.run_id, parameters=self.values, tag=self.tag, status=RUNNING, idempotency_key=key)
        return await recorded(engine, self.run_id, ROOT, (RunCreated, ParametersSet), after)


class PinRun(Made, frozen=True):
    recorded_once = ("RunPinned",)
    run_id: str

    async def perform(self, engine: Engine, key: str, after: int) -> Events:
        return list((await engine.pin(self.run_id, key)).events)


class ForkRun(Made, frozen=True):
    recorded_once = ("RunForked",)
    run_id: str
    tag: str
    source: str
    source_branch: str
    source_version: int

    async def perform(self, engine: Engine, key: str, after: int) -> Events:
        await engine.fork_run(
            self.source,
            run_id=self.run_id,
            branch=self.source_branch,
            at=self.source_version,
            tag=self.tag,
            status=RUNNING,
            idempotency_key=key,
        )
        return await recorded(engine, self.run_id, ROOT, (RunForked,), after)


class Fork(Made, frozen=True):
    recorded_once = ("BranchForked",)
    run_id: str
    parent: str
    name: str

    async def perform(self, engine: Engine, key: str, after: int) -> Events:
        parent = await _branch(engine, self.run_id, self.parent)
        child = await parent.fork(self.name, idempotency_key=key)
        return await recorded(engine, self.run_id, child.name, (BranchForked,), after)


class SetParameters(Made, frozen=True):
    recorded_once = ("ParametersSet",)
    run_id: str
    branch: str
    values: dict[str, Any]

    async def perform(self, engine: Engine, key: str, after: int) -> Events:
        branch = await _branch(engine, self.run_id, self.branch)
        answer = await branch.set_parameters(self.values, idempotency_key=key)
        await self._read_back(branch)
        return list(answer.events)

    async def _read_back(self, branch: Branch) -> None:
        """A writer sees its own write at once, on any branch where no other worker writes."""
        if (self.run_id, self.branch) != (SHARED, ROOT):
            seen = await branch.parameters(names=self.values.keys())
            assert {name: each.value for name, each in seen.items()} == self.values


class Reduce(Made, frozen=True):
    recorded_once = ("ParametersReduced",)
    run_id: str
    branch: str
    children: list[str]
    rules: dict[str, str]

    async def perform(self, engine: Engine, key: str, after: int) -> Events:
        branch = await _branch(engine, self.run_id, self.branch)
        reduction = await branch.reduce(self.children, rules=self.rules, idempotency_key=key)
        events = await recorded(engine, self.run_id, self.branch, (ParametersReduced,), after)
        return [each for each in events if each.stream_version == reduction.stream_version]


class StartAttempt(Made, frozen=True):
    recorded_once = ("AttemptCreated",)
    run_id: str
    branch: str
    step: str

    async def perform(self, engine: Engine, key: str, after: int) -> Events:
        branch = await _branch(engine, self.run_id, self.branch)
        await branch.start_attempt(self.step, idempotency_key=key, operator_key=key)
        return await recorded(engine, self.run_id, self.branch, (StepLogged, AttemptCreated), after)


class EndAttempt(Made, frozen=True):
    """Two calls that take no key; the attempt's own state tells which of them was recorded."""

    run_id: str
    branch: str
    attempt_id: str
    status: str

    async def perform(self, engine: Engine, key: str, after: int) -> Events:
        run = await engine.run(self.run_id)
        attempt = await run.find_attempt(self.attempt_id)
        before = await attempt.log()
        if before.external_id != key:
            await attempt.update(external_id=key, outputs={"made by": key})
        if before.status not in TERMINAL_STATUSES:
            await attempt.finish(self.status)
        events = await recorded(engine, self.run_id, self.branch, (AttemptUpdated,), after)
        assert len(events) == 2
        return events


class LogStep(Made, frozen=True):
    recorded_once = ("StepLogged",)
    run_id: str
    branch: str
    step: str
    status: str

    async def perform(self, engine: Engine, key: str, after: int) -> Events:
        branch = await _branch(engine, self.run_id, self.branch)
        answer = await branch.log_step(self.step, status=self.status, message=key, idempotency_key=key)
        return list(answer.events)


class EndRun(Made, frozen=True):
    recorded_once = ("RunStatusChanged", "RunFinalized")
    run_id: str
    status: str

    async def perform(self, engine: Engine, key: str, after: int) -> Events:
        answer = await (await engine.run(self.run_id)).finalize(self.status, idempotency_key=key)
        assert isinstance(answer.events[-1].event, RunFinalized)
        return list(answer.events)
