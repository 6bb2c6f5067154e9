"""A store that is attacked through its public face, and the rules that hold whatever it is given."""

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import msgspec
from runnable import datastore
from runnable import exceptions as host

from engine import Engine, Run, open_engine
from engine.commands import CreateAttempt, Fork, LogExternalRun, LogStep, LogTask, MergeParameters, OpenRun
from engine.errors import AnabranchError
from engine.events import ExternalRunRegistered, RecordedEvent
from engine.handles.attempt import Attempt
from engine.handles.branch import Branch
from engine.model import Parameter, StepDocument, TaskSpec
from engine.stores import BlockingRunLogStore, PartitionedRunLogStore, SQLiteStateStore, StateStore
from engine.stores.runnable_plugin import AnabranchRunLogStore
from tests.property.public_face import Case

_RUNS_IN_A_STORE: Final = 300
_SECONDS_MAX: Final = 30  # not a measurement: a call that takes longer hangs

_HOSTS_ERRORS: Final = (
    host.RunLogExistsError,
    host.RunLogNotFoundError,
    host.EntityNotFoundError,
    host.StepLogNotFoundError,
    host.BranchLogNotFoundError,
    host.JobLogNotFoundError,
)


class World:
    """A store, and an object of every public class; an attack calls one of its methods.

    Each attack has a run of its own, with a branch, a step, a task with an attempt and an external run, and parameters.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run_id = ""
        self._runs = 0
        self._faces: dict[type, Any] = {}

    @property
    def engine(self) -> Engine:
        engine: Engine = self._faces[Engine]
        return engine

    async def renew(self) -> None:
        """Create the run to attack, now and then in a new file."""
        if self._runs % _RUNS_IN_A_STORE == 0:
            await self.close()
            await self._open(self.folder / f"{self._runs}.db")
        self._runs += 1
        self.run_id = f"run {self._runs}"
        registered = ExternalRunRegistered(branch="", task_id="task", operator_type="hpc", status="RUNNING")
        await self.engine.write(
            self.run_id,
            OpenRun(parameters={"p": Parameter(1)}),
            Fork(branch="b"),
            MergeParameters(branch="b", values={"p": Parameter(2)}),
            LogStep(document=StepDocument(step="step", name="step")),
            LogTask(task_id="task", spec=TaskSpec()),
            CreateAttempt(task_id="task", attempt_id=f"{self.run_id} attempt"),
            LogExternalRun(event=registered),
        )
        run = await self.engine.run(self.run_id)
        self._faces |= {Run: run, Branch: await run.branch("b")}
        self._faces[Attempt] = await run.find_attempt(f"{self.run_id} attempt")

    async def _open(self, path: Path) -> None:
        engine = await open_engine(path, durability="relaxed")
        self._faces = {
            Engine: engine,
            PartitionedRunLogStore: PartitionedRunLogStore(engine),
            StateStore: StateStore(engine),
            BlockingRunLogStore: BlockingRunLogStore(path, durability="relaxed"),
            SQLiteStateStore: await asyncio.to_thread(SQLiteStateStore, path, durability="relaxed"),
            AnabranchRunLogStore: AnabranchRunLogStore(path=str(path)),
        }

    async def close(self) -> None:
        """Verify the views and the history, and close everything."""
        if not self._faces:
            return
        assert await self.engine.verify_views() == []
        assert (await self.engine.verify()).problems == []
        for face in (BlockingRunLogStore, SQLiteStateStore):
            await asyncio.to_thread(self._faces[face].close)
        await asyncio.to_thread(self._faces[AnabranchRunLogStore].engine.close)
        await self.engine.close()

    async def attack(self, case: Case, given: Any) -> list[RecordedEvent]:
        """Pass an object to a method and return the events that it recorded.

        The call must return, or raise a typed error and record nothing; an engine error has a short, printable message.
        Everything recorded must be readable.
        """
        await self.renew()
        before = await self.engine.last_position()
        refused = await self._refused(case, given)
        recorded = [each async for each in self.engine.events(after=before)]
        assert refused is None or recorded == [], refused
        if isinstance(refused, AnabranchError):
            assert str(refused).isprintable()
            assert len(str(refused)) < 1000
        return recorded

    async def _refused(self, case: Case, given: Any) -> Exception | None:
        method = getattr(self._faces[case.face], case.method)
        arguments = {**self._valid(case.face, case.method), **case.make(given)}
        try:
            async with asyncio.timeout(_SECONDS_MAX):
                await _finished(method, arguments)
        except (AnabranchError, *_HOSTS_ERRORS) as error:
            return error
        return None

    def _valid(self, face: type, name: str) -> dict[str, Any]:
        """Return a valid argument for every required parameter."""
        parameters = inspect.signature(getattr(self._faces[face], name)).parameters.values()
        return {each.name: self._argument(face, name, each.name) for each in parameters if _is_required(each)}

    def _argument(self, face: type, method: str, parameter: str) -> Any:
        known = _VALIDS_OF_HOST if face is AnabranchRunLogStore and parameter in _VALIDS_OF_HOST else _VALID
        make = known.get(f"{method}.{parameter}") or known[parameter]
        return make(self) if callable(make) else make


def _is_required(parameter: inspect.Parameter) -> bool:
    variable = parameter.kind in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return parameter.default is inspect.Parameter.empty and not variable


async def _finished(method: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """Call a method and wait until it has finished, be it a coroutine, a generator, a context manager or blocking."""
    if inspect.isasyncgenfunction(method) or method.__name__ == "subscribe":
        async with contextlib.aclosing(method(**arguments)) as found:
            async for _ in found:  # a subscription has no end
                break
    elif inspect.iscoroutinefunction(method):
        await method(**arguments)
    elif method.__name__ == "attempt":
        async with method(**arguments):
            pass
    else:
        await asyncio.to_thread(method, **arguments)


def _new(world: World) -> str:
    return f"{world.run_id}, new"


_VALID: Final[dict[str, Any]] = {
    "run_id": lambda world: world.run_id,
    "source_run_id": lambda world: world.run_id,
    "create_run.run_id": _new,
    "fork_run.run_id": _new,
    "create_run_log.run_id": _new,
    "attempt_id": lambda world: f"{world.run_id} attempt",
    "attempt_ids": lambda world: [f"{world.run_id} attempt"],
    "create_run.handle": lambda world: SimpleNamespace(run_id=_new(world)),
    "handle": SimpleNamespace(task_id="task", operator_type="hpc", status="RUNNING"),
    "workflow": SimpleNamespace(tasks={"new": SimpleNamespace(task_id="new")}),
    "run_log": lambda world: {"run_id": world.run_id},
    "branch_log": {"internal_name": "new"},
    "step_log": {"internal_name": "new"},
    "job_log": {"status": "X"},
    "branch": "b",
    "branch_name": "b",
    "child_branch": "b",
    "internal_branch_name": "b",
    "source_branch": "",
    "target_branch": "new",
    "internal_name": "step",
    "step": "step",
    "task_id": "task",
    "fork.name": "new",
    "branch.name": "b",
    "lineage.name": "p",
    "other": lambda world: world._faces[Branch],
    "status": "RUNNING",
    "reason": "why",
    "version": 1,
    "older_than": timedelta(days=1),
    "values": {"p": 3},
    "parameters": {"p": 3},
    "config": {"k": 1},
    "run_config": {"k": 1},
    "details": {"k": 1},
    "job": {"k": 1},
}
"""Valid arguments, keyed by parameter or by method and parameter, for the parameters that are not attacked."""


_VALIDS_OF_HOST: Final[dict[str, Any]] = {
    "run_log": lambda world: datastore.RunLog(run_id=world.run_id),
    "branch_log": datastore.BranchLog(internal_name="new"),
    "step_log": datastore.StepLog(name="new", internal_name="new"),
    "job_log": datastore.JobLog(),
}


def texts_of(recorded: RecordedEvent) -> Iterator[str]:
    """Yield every text in an event and its envelope, keys included."""
    yield from (recorded.run_id, recorded.branch)
    yield from _texts(msgspec.to_builtins(recorded.event))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, member in value.items():
            yield str(name)
            yield from _texts(member)
    elif isinstance(value, list):
        for member in value:
            yield from _texts(member)
