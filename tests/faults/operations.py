"""Every call of the engine and its handles, for tests that cancel them, and how many events each may have recorded."""

import asyncio
import io
import random
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import anyio

from engine import Branch, Engine, Run
from engine.handles.attempt import Attempt
from engine.model import AttemptDocument
from tests.exports import exported

GUEST: Final = "guest"
EVENTS_BEFORE: Final = 8
"""The number of events of a prepared run."""


class Target(NamedTuple):
    """The objects to call: a run with two branches, each with values of its own, and an attempt in progress."""

    engine: Engine
    run: Run
    branch: Branch
    attempt: Attempt
    export: bytes

    @property
    def new(self) -> str:
        """The id of a run that the call may create."""
        return f"{self.run.run_id}.new"


class Operation(NamedTuple):
    """A call, and the numbers of events that it may have recorded in its run when it was cancelled."""

    call: Callable[[Target], Awaitable[Any]]
    counts: Sequence[int] = (0,)


async def export_of_guest(engine: Engine) -> bytes:
    """Return an export of a run, for calls to import; the run itself is deleted."""
    run = await engine.create_run(GUEST, parameters={"a": 1})
    await (await run.fork("b")).set_parameters({"a": 2})
    export = await exported(engine, GUEST)
    await engine.delete_run(GUEST, "it is in the export")
    return export


async def prepared(engine: Engine, run_id: str, export: bytes) -> Target:
    """Create a run to make calls on."""
    run = await engine.create_run(run_id, parameters={"a": 0})
    one, two = await asyncio.gather(run.fork("one"), run.fork("two"))
    await asyncio.gather(*(child.set_parameters({"a": 2}) for child in (one, two)))
    return Target(engine, run, one, await one.start_attempt("begun"), export)


async def _exhausted(items: AsyncIterable[object]) -> None:
    async for _ in items:
        pass


async def _attempt(branch: Branch) -> None:
    async with branch.attempt("step"):
        await anyio.sleep_forever()


async def _create_and_delete(target: Target) -> None:
    await target.engine.create_run(target.new, parameters={"a": 1})
    await target.engine.delete_run(target.new, "why")


async def _import_and_delete(target: Target) -> None:
    await target.engine.import_runs(io.BytesIO(target.export))
    await target.engine.delete_run(GUEST, "why")


async def _backup(target: Target) -> None:
    folder = target.engine.path.parent
    await target.engine.backup(folder.with_name(f"{folder.name} {target.run.run_id}.backup"))


async def _pin_and_unpin(target: Target) -> None:
    await target.engine.pin(target.run.run_id)
    await target.engine.unpin(target.run.run_id)


_ATTEMPTS = [AttemptDocument(status="FAILED"), AttemptDocument(status="RUNNING")]
_LONG_AGO = datetime(1990, 1, 1, tzinfo=UTC)

OPERATIONS: dict[str, Operation] = {
    "set_parameters": Operation(lambda t: t.branch.set_parameters({"x": 1}), (0, 1)),
    "fork": Operation(lambda t: t.branch.fork("inner"), (0, 1)),
    "reduce": Operation(lambda t: t.run.reduce(), (0, 1)),
    "reduce by a function": Operation(lambda t: t.run.reduce(rules={"a": max}), (0, 1)),
    "set_status": Operation(lambda t: t.branch.set_status("RUNNING"), (0, 1)),
    "describe": Operation(lambda t: t.branch.describe({"a": 1}), (0, 1)),
    "log_step": Operation(lambda t: t.branch.log_step("step", attempts=_ATTEMPTS), (0, 3)),
    "set_step_status": Operation(lambda t: t.branch.set_step_status("begun", "X"), (0, 1)),
    "remove_step": Operation(lambda t: t.branch.remove_step("begun"), (0, 1)),
    "start_attempt": Operation(lambda t: t.branch.start_attempt("step"), (0, 2)),
    # 2: cancelled after the start was recorded, before the caller got the attempt
    "attempt": Operation(lambda t: _attempt(t.branch), (0, 2, 3)),
    "update": Operation(lambda t: t.attempt.update(external_id="x"), (0, 1)),
    "finish": Operation(lambda t: t.attempt.finish(), (0, 1)),
    "finish_unless_finished": Operation(lambda t: t.attempt.finish_unless_finished("FAILED", None), (0, 1)),
    "finalize": Operation(lambda t: t.run.finalize("COMPLETED"), (0, 2)),
    "configure": Operation(lambda t: t.run.configure({"a": 1}), (0, 1)),
    "log_job": Operation(lambda t: t.run.log_job({"a": 1}), (0, 1)),
    "pin and unpin": Operation(_pin_and_unpin, (0, 1, 2)),
    "erase": Operation(lambda t: t.engine.erase(t.run.run_id, None, 2, "why", compact=False), (0, 1)),
    "create_run": Operation(lambda t: t.engine.create_run(t.new, parameters={"a": 1})),
    "fork_run": Operation(lambda t: t.engine.fork_run(t.run.run_id, run_id=t.new)),
    "create and delete_run": Operation(_create_and_delete),
    "import_runs and delete_run": Operation(_import_and_delete),
    "deletions": Operation(lambda t: t.engine.deletions()),
    "collect": Operation(lambda t: t.engine.collect(_LONG_AGO)),
    "compact": Operation(lambda t: t.engine.compact()),
    "rebuild": Operation(lambda t: t.engine.rebuild()),
    "verify_views": Operation(lambda t: t.engine.verify_views()),
    "verify": Operation(lambda t: t.engine.verify()),
    "checkpoint": Operation(lambda t: t.engine.checkpoint()),
    "backup": Operation(_backup),
    "export_runs": Operation(lambda t: _exhausted(t.engine.export_runs([t.run.run_id]))),
    "runs": Operation(lambda t: t.engine.runs()),
    "run": Operation(lambda t: t.engine.run(t.run.run_id)),
    "events": Operation(lambda t: _exhausted(t.engine.events(run_id=t.run.run_id))),
    "subscribe": Operation(lambda t: _exhausted(t.engine.subscribe(run_id=t.run.run_id))),
    "last_position": Operation(lambda t: t.engine.last_position()),
    "branch": Operation(lambda t: t.run.branch("one")),
    "find_attempt": Operation(lambda t: t.run.find_attempt(t.attempt.attempt_id)),
    "info": Operation(lambda t: t.run.info()),
    "compile": Operation(lambda t: t.run.compile()),
    "compile what was": Operation(lambda t: t.run.compile(at=1)),
    "all_attempts": Operation(lambda t: t.run.all_attempts()),
    "head": Operation(lambda t: t.branch.head()),
    "children": Operation(lambda t: t.run.children()),
    "parameters": Operation(lambda t: t.branch.parameters()),
    "sources": Operation(lambda t: t.branch.sources()),
    "steps": Operation(lambda t: t.branch.steps()),
    "step": Operation(lambda t: t.branch.step("begun")),
    "attempts": Operation(lambda t: t.branch.attempts()),
    "lineage": Operation(lambda t: t.branch.lineage("a")),
    "parting": Operation(lambda t: t.branch.parting(t.run)),
    "log of an attempt": Operation(lambda t: t.attempt.log()),
}


def shuffled(chance: random.Random) -> Iterator[Operation]:
    """Yield operations without end; those that write come four times as often as those that read."""
    deck = [each for each in OPERATIONS.values() for _ in range(4 if len(each.counts) > 1 else 1)]
    while True:
        yield from chance.sample(deck, len(deck))
