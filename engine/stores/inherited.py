"""What a forked run has from its source, as hosts are to see it that know of no forks, and hand whole logs back."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from engine.codec import differing
from engine.commands import Command, Configure, LogStep
from engine.errors import RunNotFound
from engine.model import StepLog
from engine.names import ROOT, check_name
from engine.step_decisions import adds_nothing
from engine.views import Views


async def without_inherited(views: Views, run_id: str, commands: Sequence[Command]) -> Sequence[Command]:
    """Return the commands but for those that say what a run has from its source, which stays the source's.

    What a run has from its source does not change, so it need not be looked at under the lock.
    """
    if not any(map(_may_be_said, commands)) or not await _is_fork(views, run_id):
        return commands
    steps = await views.steps(run_id, ROOT) if _has(commands, LogStep) else {}
    config = await _config(views, run_id) if _has(commands, Configure) else {}
    return [command for command in commands if not _is_said(command, steps, config)]


async def _config(views: Views, run_id: str) -> dict[str, Any]:
    return (await views.compile(run_id, nested=False, inherited=False)).config


async def _is_fork(views: Views, run_id: str) -> bool:
    try:
        return (await views.stream(check_name(run_id, "run id"), ROOT)).parent_id is not None
    except RunNotFound:
        return False


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
        return not differing(command.config or {}, config)
    step = steps.get(command.document.step)
    return step is not None and step.inherited_from is not None and adds_nothing(command.document, step)
