"""A writer that runs beside processes that are killed, and measures how long it waits."""

import asyncio
import os
import time
from itertools import count
from pathlib import Path
from types import TracebackType

from engine import Run

_LOCKS = Path("/proc/locks")


class Survivor:
    """Writes continuously while its block runs; `written` counts the writes, `longest_seconds` is the slowest."""

    def __init__(self, run: Run) -> None:
        self.written = 0
        self.longest_seconds = 0.0
        self._run = run
        self._done = False

    async def __aenter__(self) -> "Survivor":
        self._writing = asyncio.create_task(self._write())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done = True
        await self._writing

    async def _write(self) -> None:
        for value in count():
            if self._done:
                return
            await self.write({"survived": value})

    async def write(self, values: dict[str, object]) -> float:
        """Write once; return how long it took, in seconds."""
        begun = time.perf_counter()
        await self._run.set_parameters(values)
        took = time.perf_counter() - begun
        self.written += 1
        self.longest_seconds = max(self.longest_seconds, took)
        return took


async def until_somebody_waits_for(lock: Path) -> None:
    """Wait until a process or a thread is in the kernel's queue for a file's lock."""
    await asyncio.to_thread(_look_until_somebody_waits, f":{lock.stat().st_ino} ")


def _look_until_somebody_waits(inode: str) -> None:
    while not any("->" in line and inode in line for line in _LOCKS.read_text().splitlines()):
        os.sched_yield()  # the kernel does not notify anybody that the queue has grown
