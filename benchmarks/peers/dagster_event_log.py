"""dagster's SQLite event log: one `store_event` for each durable write, on worker threads; a file for each run."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from dagster._core.events import DagsterEvent, DagsterEventType, EngineEventData
from dagster._core.events.log import EventLogEntry
from dagster._core.execution.plan.objects import StepSuccessData
from dagster._core.storage.event_log.sqlite import SqliteEventLogStorage

from benchmarks.durability import in_words
from benchmarks.operations import Found, Values

_RUN_ID: Final = "benchmark"
_JOB: Final = "benchmark"
_PAGE: Final = 1_000
_INFO: Final = 20


class DagsterEventLog:
    """Implements `benchmarks.ports.Peer`."""

    async def create(self, folder: Path) -> None:
        """Create the run's file, and the index."""
        async with self.open(folder, shared=False) as store:
            await store.durability()

    @asynccontextmanager
    async def open(self, folder: Path, *, shared: bool) -> AsyncIterator["DagsterStore"]:
        """Open the storage; it connects for each event."""
        del shared
        storage = await asyncio.to_thread(SqliteEventLogStorage, str(folder))
        try:
            yield DagsterStore(storage)
        finally:
            await asyncio.to_thread(storage.dispose)


class DagsterStore:
    """Implements `benchmarks.ports.Store`."""

    def __init__(self, storage: SqliteEventLogStorage) -> None:
        self._storage = storage

    async def branch(self, name: str) -> "DagsterBranch":
        """Return a branch, which is only a prefix of step keys."""
        return DagsterBranch(self._storage, name)

    async def found(self) -> dict[str, Found]:
        """Count the run's events of each kind by step key."""
        return await asyncio.to_thread(self._count)

    def _count(self) -> dict[str, Found]:
        sets: Counter[str] = Counter()
        steps: Counter[str] = Counter()
        for event in self._events():
            key = str(event.step_key)
            if event.event_type_value == DagsterEventType.ENGINE_EVENT.value:
                sets[key] += 1
            elif event.event_type_value == DagsterEventType.STEP_SUCCESS.value:
                steps[key.rpartition(".")[0]] += 1
        return {name: Found(sets[name], steps[name]) for name in {*sets, *steps}}

    async def latest(self, branches: Sequence[str]) -> list[Values]:
        """Read all of the run's events of that kind, since they cannot be read by branch."""
        return await asyncio.to_thread(self._last, branches)

    def _last(self, branches: Sequence[str]) -> list[Values]:
        events = {event.step_key: event for event in self._events(DagsterEventType.ENGINE_EVENT)}
        metadata = [events[name].event_specific_data.metadata for name in branches]
        return [{name: value.value for name, value in each.items()} for each in metadata]

    def _events(self, kind: DagsterEventType | None = None) -> list[Any]:
        events = []
        cursor = None
        while True:
            page = self._storage.get_records_for_run(_RUN_ID, cursor, kind, limit=_PAGE)
            events += [record.event_log_entry.dagster_event for record in page.records]
            if not page.has_more:
                return events
            cursor = page.cursor

    async def durability(self) -> str:
        """Read the settings of a connection like those that store events."""
        return await asyncio.to_thread(self._ask)

    def _ask(self) -> str:
        with self._storage.run_connection(_RUN_ID) as connection:
            journal_mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
            return in_words(journal_mode, connection.exec_driver_sql("PRAGMA synchronous").scalar())


class DagsterBranch:
    """Implements `benchmarks.operations.BranchWriter`."""

    def __init__(self, storage: SqliteEventLogStorage, name: str) -> None:
        self._storage = storage
        self._name = name

    async def set_parameters(self, values: Values) -> None:
        """Record an event with metadata."""
        await self._event(DagsterEventType.ENGINE_EVENT, self._name, EngineEventData(metadata=dict(values)))

    async def log_step(self, step: str) -> None:
        """Record the start of a step, which also stands for its attempt, and its success."""
        key = f"{self._name}.{step}"
        await self._event(DagsterEventType.STEP_START, key)
        await self._event(DagsterEventType.STEP_SUCCESS, key, StepSuccessData(duration_ms=1.0))

    async def _event(self, kind: DagsterEventType, step_key: str, data: object = None) -> None:
        event = DagsterEvent(kind.value, _JOB, step_key=step_key, event_specific_data=data)
        entry = EventLogEntry(None, _INFO, "", _RUN_ID, time.time(), step_key, _JOB, event)
        await asyncio.to_thread(self._storage.store_event, entry)
