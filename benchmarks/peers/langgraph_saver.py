"""`langgraph-checkpoint-sqlite`: parameters are a checkpoint, steps are writes to it, and a branch is a thread."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiosqlite
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from benchmarks.operations import Found, Values
from benchmarks.peers.plain_aiosqlite import BUSY_TIMEOUT_SECONDS, durability_of

_FILE_NAME: Final = "langgraph.db"
_STEP: Final = "step"
_ATTEMPT: Final = "attempt"
_COMPLETED: Final = "COMPLETED"


class LanggraphSaver:
    """Implements `benchmarks.ports.Peer`."""

    async def create(self, folder: Path) -> None:
        """Create the tables."""
        async with self.open(folder, shared=False) as store:
            await store.set_up()

    @asynccontextmanager
    async def open(self, folder: Path, *, shared: bool) -> AsyncIterator["LanggraphStore"]:
        """Open a saver with its own connection, whose busy timeout is longer than the default."""
        del shared
        async with aiosqlite.connect(folder / _FILE_NAME, timeout=BUSY_TIMEOUT_SECONDS) as connection:
            yield LanggraphStore(AsyncSqliteSaver(connection))


class LanggraphStore:
    """Implements `benchmarks.ports.Store`."""

    def __init__(self, saver: AsyncSqliteSaver) -> None:
        self._saver = saver

    async def set_up(self) -> None:
        """Create the tables."""
        await self._saver.setup()

    async def branch(self, name: str) -> "LanggraphBranch":
        """Return a thread of the saver."""
        await self._saver.setup()
        return LanggraphBranch(self._saver, name)

    async def found(self) -> dict[str, Found]:
        """List every checkpoint with the writes to it."""
        sets: Counter[str] = Counter()
        steps: Counter[str] = Counter()
        async for each in self._saver.alist(None):
            name = str(each.config["configurable"]["thread_id"])
            sets[name] += "loss" in each.checkpoint["channel_values"]
            ends = [write for _, channel, write in each.pending_writes or () if channel == _STEP]
            steps[name] += sum(end["status"] == _COMPLETED for end in ends)
        return {name: Found(sets[name], steps[name]) for name in sets}

    async def latest(self, branches: Sequence[str]) -> list[Values]:
        """Get each thread's last checkpoint."""
        return await asyncio.gather(*(self._last(name) for name in branches))

    async def _last(self, name: str) -> Values:
        found = await self._saver.aget_tuple({"configurable": {"thread_id": name, "checkpoint_ns": ""}})
        values: dict[str, float] = found.checkpoint["channel_values"]
        return values

    async def durability(self) -> str:
        """Read the settings of the saver's connection."""
        return await durability_of(self._saver.conn)


class LanggraphBranch:
    """Implements `benchmarks.operations.BranchWriter`."""

    def __init__(self, saver: AsyncSqliteSaver, name: str) -> None:
        self._saver = saver
        self._config: Any = {"configurable": {"thread_id": name, "checkpoint_ns": ""}}
        self._turn = 0

    async def set_parameters(self, values: Values) -> None:
        """Write one checkpoint, which holds the whole state."""
        self._turn += 1
        versions: Any = dict.fromkeys(values, self._turn)
        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = dict(values)
        checkpoint["channel_versions"] = versions
        metadata: Any = {"source": "loop", "step": self._turn, "parents": {}}
        self._config = await self._saver.aput(self._config, checkpoint, metadata, versions)

    async def log_step(self, step: str) -> None:
        """Write to the checkpoint as two tasks, because writes of one task would replace or ignore each other."""
        for status in ("RUNNING", _COMPLETED):
            told = {"step": step, "status": status}
            writes = [(_STEP, told), (_ATTEMPT, {**told, "attempt": 1})]
            await self._saver.aput_writes(self._config, writes, f"{step}:{status}")
