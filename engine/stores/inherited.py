"""What a forked run has from its source, as hosts are to see it that know of no forks, and hand whole logs back."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from engine.codec import same
from engine.commands import Command, Configure, LogStep
from engine.engine import Engine
from engine.errors import RunNotFound
from engine.events import RunForked
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
        steps, config = await self._views.steps(run_id, ROOT), await self._unset_config(run_id)
        return [command for command in commands if not _is_said(command, steps, config)]

    async def config(self, run_id: str, own: dict[str, Any]) -> dict[str, Any]:
        """Return a run's configuration: where it has none of its own, its source's as it was at the fork."""
        source = None if own or not await self._is_fork(run_id) else await self._source(run_id)
        if source is None:
            return own
        source_run_id, position = source
        log = await self._views.compile(source_run_id, at=position, nested=False, inherited=False)
        return await self.config(source_run_id, log.config)

    async def _unset_config(self, run_id: str) -> dict[str, Any]:
        own = (await self._views.compile(run_id, nested=False, inherited=False)).config
        return {} if own else await self.config(run_id, own)

    async def _is_fork(self, run_id: str) -> bool:
        try:
            return (await self._views.stream(check_name(run_id, "run id"), ROOT)).parent_id is not None
        except RunNotFound:
            return False

    async def _source(self, run_id: str) -> tuple[str, Position] | None:
        """Return the run that one was forked from, and when; None where it was deleted."""
        async for recorded in self._engine.events(run_id=run_id, branch=ROOT, types=(RunForked,)):
            if isinstance(event := recorded.event, RunForked):
                place = event.source_branch, event.source_version
                heads = await self._views.heads_of(event.source_run_id, [place])
                return next(((event.source_run_id, Position(position)) for _, position in heads.values()), None)
        return None


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
