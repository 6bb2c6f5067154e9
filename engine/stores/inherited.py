"""What a forked run has from its source, as hosts are to see it that know of no forks, and hand whole logs back."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from engine.codec import same
from engine.commands import Command, Configure, LogStep
from engine.engine import Engine
from engine.errors import RunNotFound
from engine.events import RunConfigured, RunForked
from engine.model import StepLog
from engine.names import ROOT, check_name
from engine.point import Position
from engine.step_decisions import adds_nothing


class Inherited:
    """Reads it. What a run has from its source does not change, so it need not be looked at under the lock."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._views = engine.views

    async def left_out(self, run_id: str, commands: Sequence[Command]) -> list[Command]:
        """Return the commands but for those that say what a run has from its source, which stays the source's."""
        if not any(map(_may_be_said, commands)) or not await self._is_fork(run_id):
            return list(commands)
        steps = await self._views.steps(run_id, ROOT) if _has(commands, LogStep) else {}
        config = await self._unset_config(run_id) if _has(commands, Configure) else {}
        return [command for command in commands if not _is_said(command, steps, config)]

    async def config(self, run_id: str, own: dict[str, Any]) -> dict[str, Any]:
        """Return a run's configuration: where it has none of its own, its source's as it was at the fork."""
        source = None if own else await self._source(run_id)
        while source is not None and not own:
            own = await self._configured(*source)
            source = await self._source(source[0])
        return own

    async def _unset_config(self, run_id: str) -> dict[str, Any]:
        own = (await self._views.compile(run_id, nested=False, inherited=False)).config
        return {} if own else await self.config(run_id, own)

    async def _configured(self, run_id: str, until: Position) -> dict[str, Any]:
        config: dict[str, Any] = {}
        async for recorded in self._engine.events(run_id=run_id, branch=ROOT, types=(RunConfigured,), until=until):
            if isinstance(event := recorded.event, RunConfigured):
                config |= event.config
        return config

    async def _is_fork(self, run_id: str) -> bool:
        try:
            return (await self._views.stream(check_name(run_id, "run id"), ROOT)).parent_id is not None
        except RunNotFound:
            return False

    async def _source(self, run_id: str) -> tuple[str, Position] | None:
        """Return the run that one was forked from, and when; None where it was not, or where that was deleted."""
        if not await self._is_fork(run_id):
            return None
        async for recorded in self._engine.events(run_id=run_id, branch=ROOT, types=(RunForked,)):
            if isinstance(event := recorded.event, RunForked):
                place = event.source_branch, event.source_version
                heads = await self._views.heads_of(event.source_run_id, [place])
                return next(((event.source_run_id, Position(position)) for _, position in heads.values()), None)
        return None


def _has(commands: Sequence[Command], kind: type[Command]) -> bool:
    return any(isinstance(command, kind) for command in commands)


def _may_be_said(command: Command) -> TypeGuard[LogStep | Configure]:
    match command:
        case LogStep(branch=branch):
            return branch == ROOT
        case Configure(config=config, job=None):
            return bool(config)
        case _:
            return False


def _is_said(command: Command, steps: Mapping[str, StepLog], config: dict[str, Any]) -> bool:
    if not _may_be_said(command):
        return False
    if isinstance(command, Configure):
        return same(command.config, config)
    step = steps.get(command.document.step)
    return step is not None and step.inherited_from is not None and adds_nothing(command.document, step)
