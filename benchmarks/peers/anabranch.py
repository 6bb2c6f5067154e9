"""anabranch as shipped, through its public API: the hash chain and the views are always on."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct

from benchmarks.durability import of_connection
from benchmarks.operations import Found, Values
from engine import Branch, Engine, Run, open_engine
from engine.events import ParametersSet
from engine.logs.sqlite import SqliteEventLog
from engine.logs.sqlite_opening import Durability
from engine.model import COMPLETED

FILE_NAME: Final = "anabranch.db"
RUN_ID: Final = "benchmark"


class Anabranch(Struct, frozen=True):
    """Implements `benchmarks.ports.Peer`."""

    durability: Durability = "full"

    async def create(self, folder: Path) -> None:
        """Create the file and the run."""
        async with open_engine(folder / FILE_NAME) as engine:
            await engine.create_run(RUN_ID)

    @asynccontextmanager
    async def open(self, folder: Path, *, shared: bool) -> AsyncIterator["AnabranchStore"]:
        """Open an engine, which always allows for other processes."""
        del shared
        async with open_engine(folder / FILE_NAME, durability=self.durability) as engine:
            yield AnabranchStore(engine, await engine.run(RUN_ID))


class AnabranchStore:
    """Implements `benchmarks.ports.Store`."""

    def __init__(self, engine: Engine, run: Run) -> None:
        self._engine = engine
        self._run = run

    async def branch(self, name: str) -> "AnabranchBranch":
        """Fork the run's root branch."""
        return AnabranchBranch(await self._run.fork(name))

    async def found(self) -> dict[str, Found]:
        """Count the events that set parameters, and the completed steps with one completed attempt."""
        sets: Counter[str] = Counter()
        async for recorded in self._engine.events(run_id=RUN_ID, types=[ParametersSet]):
            sets[recorded.branch] += 1
        names = await self._run.children()
        return {name: Found(sets[name], await self._completed(name)) for name in names}

    async def _completed(self, name: str) -> int:
        steps = (await (await self._run.branch(name)).steps()).values()
        completed = [COMPLETED]
        return sum(step.status == COMPLETED and [each.status for each in step.attempts] == completed for step in steps)

    async def latest(self, branches: Sequence[str]) -> list[Values]:
        """Read each branch's resolved parameters."""
        return [await self._latest(await self._run.branch(name)) for name in branches]

    async def _latest(self, branch: Branch) -> Values:
        return {name: parameter.value for name, parameter in (await branch.parameters()).items()}

    async def reduce(self, branches: Sequence[str]) -> None:
        """Reduce by built-in rules."""
        await self._run.reduce(branches, rules={"epoch": "max", "loss": "min"})

    async def durability(self) -> str:
        """Read the settings of the connection that writes."""
        log = self._engine._log  # noqa: SLF001 - there is no public way to the setting in effect
        assert isinstance(log, SqliteEventLog), "not the SQLite log"
        return await log.exclusively(of_connection)


class AnabranchBranch:
    """Implements `benchmarks.operations.BranchWriter`."""

    def __init__(self, branch: Branch) -> None:
        self._branch = branch

    async def set_parameters(self, values: Values) -> None:
        """Record one event."""
        await self._branch.set_parameters(values)

    async def log_step(self, step: str) -> None:
        """Run an attempt with an empty block."""
        async with self._branch.attempt(step):
            pass
