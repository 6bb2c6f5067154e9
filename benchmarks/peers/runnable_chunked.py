"""runnable's `chunked-fs` run log store: a JSON file for each branch, rewritten by each write, on worker threads."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from extensions.run_log_store.chunked_fs import ChunkedFileSystemRunLogStore
from runnable.datastore import BranchLog, JsonParameter, StepAttempt, StepLog

from benchmarks.durability import NO_SYNC
from benchmarks.operations import ROOT, Found, Values

_RUN_ID: Final = "benchmark"
_FILE_PREFIX: Final = "BranchLog-"
_SUCCESS: Final = "SUCCESS"


class RunnableChunked:
    """Implements `benchmarks.ports.Peer`."""

    async def create(self, folder: Path) -> None:
        """Create the run."""
        await asyncio.to_thread(_store(folder).create_run_log, _RUN_ID)

    @asynccontextmanager
    async def open(self, folder: Path, *, shared: bool) -> AsyncIterator["RunnableStore"]:
        """Return a store for the folder; it keeps nothing open."""
        del shared
        yield RunnableStore(_store(folder), folder)


def _store(folder: Path) -> ChunkedFileSystemRunLogStore:
    return ChunkedFileSystemRunLogStore(log_folder=str(folder))


class RunnableStore:
    """Implements `benchmarks.ports.Store`."""

    def __init__(self, store: ChunkedFileSystemRunLogStore, folder: Path) -> None:
        self._store = store
        self._folder = folder

    async def branch(self, name: str) -> "RunnableBranch":
        """Create the branch's file; the root already has one."""
        if name != ROOT:
            await asyncio.to_thread(self._store.add_branch_log, BranchLog(internal_name=name), _RUN_ID)
        return RunnableBranch(self._store, name)

    async def found(self) -> dict[str, Found]:
        """Read each branch's log. It keeps only the last values, which tell how often they were set."""
        files = (self._folder / _RUN_ID).glob(f"{_FILE_PREFIX}*.json")
        names = [path.stem.removeprefix(_FILE_PREFIX) for path in files]
        return {name: self._count(name) for name in names}

    def _count(self, name: str) -> Found:
        log = self._store.get_branch_log(name, _RUN_ID)
        sets = log.parameters["epoch"].value + 1 if "epoch" in log.parameters else 0
        ends = [(step.status, [attempt.status for attempt in step.attempts]) for step in log.steps.values()]
        return Found(sets, ends.count((_SUCCESS, [_SUCCESS])))

    async def latest(self, branches: Sequence[str]) -> list[Values]:
        """Read each branch's file."""
        return await asyncio.gather(*(asyncio.to_thread(self._last, name) for name in branches))

    def _last(self, name: str) -> Values:
        parameters = self._store.get_parameters(_RUN_ID, name)
        return {name: parameter.value for name, parameter in parameters.items()}

    async def durability(self) -> str:
        """Return that nothing is synced: its source never calls fsync."""
        return f"{NO_SYNC} (a file is written over)"


class RunnableBranch:
    """Implements `benchmarks.operations.BranchWriter`."""

    def __init__(self, store: ChunkedFileSystemRunLogStore, name: str) -> None:
        self._store = store
        self._name = name

    async def set_parameters(self, values: Values) -> None:
        """Read the branch's file, and rewrite it with the values."""
        parameters = {name: JsonParameter(kind="json", value=value) for name, value in values.items()}
        await asyncio.to_thread(self._store.set_parameters, _RUN_ID, parameters, self._name)

    async def log_step(self, step: str) -> None:
        """Read the branch's file and rewrite it with the step, twice."""
        for status in ("PROCESSING", _SUCCESS):
            log = StepLog(
                name=step,
                internal_name=f"{self._name}.{step}",
                status=status,
                attempts=[StepAttempt(attempt_number=1, status=status)],
            )
            await asyncio.to_thread(self._store.add_step_log, log, _RUN_ID)
