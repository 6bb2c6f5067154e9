"""`eventsourcing`'s SQLite recorder: one call of `insert_events` for each durable write, on worker threads."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from eventsourcing.persistence import StoredEvent
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore

from benchmarks.durability import in_words
from benchmarks.operations import Found, Values

_FILE_NAME: Final = "eventsourcing.db"
_LOCK_TIMEOUT_SECONDS: Final = 30  # its default of 5 s is too short for several processes
_PAGE: Final = 10_000

_PARAMETERS_SET: Final = "ParametersSet"
_ATTEMPT_COMPLETED: Final = "AttemptCompleted"


class EventsourcingRecorder:
    """Implements `benchmarks.ports.Peer`."""

    async def create(self, folder: Path) -> None:
        """Create the table."""
        async with _recorder(folder) as recorder:
            await asyncio.to_thread(recorder.create_table)

    @asynccontextmanager
    async def open(self, folder: Path, *, shared: bool) -> AsyncIterator["EventsourcingStore"]:
        """Open the recorder with its pool of connections, one for each thread."""
        del shared
        async with _recorder(folder) as recorder:
            yield EventsourcingStore(recorder)


@asynccontextmanager
async def _recorder(folder: Path) -> AsyncIterator[SQLiteApplicationRecorder]:
    datastore = SQLiteDatastore(str(folder / _FILE_NAME), lock_timeout=_LOCK_TIMEOUT_SECONDS, originator_id_type="text")
    try:
        yield SQLiteApplicationRecorder(datastore)
    finally:
        await asyncio.to_thread(datastore.close)


class EventsourcingStore:
    """Implements `benchmarks.ports.Store`."""

    def __init__(self, recorder: SQLiteApplicationRecorder) -> None:
        self._recorder = recorder

    async def branch(self, name: str) -> "EventsourcingBranch":
        """Return an aggregate's sequence of events."""
        return EventsourcingBranch(self._recorder, name)

    async def found(self) -> dict[str, Found]:
        """Count the notifications of each kind."""
        return await asyncio.to_thread(self._count)

    def _count(self) -> dict[str, Found]:
        counts: Counter[tuple[str, str]] = Counter()
        start = 1
        while page := self._recorder.select_notifications(start=start, limit=_PAGE):
            counts.update((str(each.originator_id), str(each.topic)) for each in page)
            start = page[-1].id + 1
        names = {name for name, _ in counts}
        return {name: Found(counts[name, _PARAMETERS_SET], counts[name, _ATTEMPT_COMPLETED]) for name in names}

    async def latest(self, branches: Sequence[str]) -> list[Values]:
        """Read each branch's last event, which must be one that set parameters."""
        return await asyncio.gather(*(asyncio.to_thread(self._last, name) for name in branches))

    def _last(self, name: str) -> Values:
        (event,) = self._recorder.select_events(name, desc=True, limit=1)
        values: dict[str, float] = json.loads(event.state)
        return values

    async def durability(self) -> str:
        """Read the settings of one of the pool's connections."""
        return await asyncio.to_thread(self._ask)

    def _ask(self) -> str:
        with self._recorder.datastore.transaction(commit=False) as cursor:
            cursor.execute("PRAGMA journal_mode")
            journal_mode = cursor.fetchone()[0]
            cursor.execute("PRAGMA synchronous")
            return in_words(journal_mode, cursor.fetchone()[0])


class EventsourcingBranch:
    """Implements `benchmarks.operations.BranchWriter`."""

    def __init__(self, recorder: SQLiteApplicationRecorder, name: str) -> None:
        self._recorder = recorder
        self._name = name
        self._version = 0

    async def set_parameters(self, values: Values) -> None:
        """Record one event."""
        await self._insert([(_PARAMETERS_SET, dict(values))])

    async def log_step(self, step: str) -> None:
        """Record two events for the step and its attempt, and one for the end of both."""
        attempt = {"step": step, "attempt": 1}
        await self._insert([("StepLogged", {"step": step}), ("AttemptStarted", attempt)])
        await self._insert([(_ATTEMPT_COMPLETED, {**attempt, "step_status": "COMPLETED"})])

    async def _insert(self, events: Sequence[tuple[str, object]]) -> None:
        stored = []
        for topic, state in events:
            self._version += 1
            stored.append(StoredEvent(self._name, self._version, topic, json.dumps(state).encode()))
        await asyncio.to_thread(self._recorder.insert_events, stored)
