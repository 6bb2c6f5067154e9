"""A soak: four processes work on one store for a given time, and one of them is killed every few seconds."""

import asyncio
import logging
import random
import sys
import time
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Final

from msgspec import Struct

from engine import open_engine
from tests.faults.soak.agreement import Agreed, assert_agreement
from tests.faults.soak.hand import Hand
from tests.faults.soak.moves import SHARED, CreateRun, PinRun
from tests.faults.soak.resources import Sample, growing, look
from tests.faults.soak.worker import DATABASE

PROCESSES: Final = 4
KILL_EVERY_SECONDS: Final = 3.0
SAMPLES: Final = 360
REPORT_EVERY_SECONDS: Final = 5.0

_ROOT: Final = Path(__file__).parents[3]
_log = logging.getLogger(__name__)


class Soaked(Struct, frozen=True):
    """The result of a soak; `samples` are of the worker that is never killed."""

    agreed: Agreed
    samples: list[Sample]
    starts: int
    kills: int


class _Worker:
    """One of the processes, restarted whenever it was killed."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self.name = name
        self.starts = 0
        self.kills = 0
        self.process: Process | None = None
        self.started = asyncio.Event()
        self._was_killed = False

    async def live(self) -> None:
        """Start the process again and again, until it ends by itself, as told.

        Raises:
            AssertionError: it failed.
        """
        try:
            while True:
                await self._start()
                code = await self.running.wait()
                if not self._was_killed:
                    assert code == 0, f"worker {self.name} failed:\n{self._errors.read_text()}"
                    return
        finally:  # also when another one has failed
            if self.running.returncode is None:
                self.running.kill()
                await self.running.wait()

    async def _start(self) -> None:
        self._was_killed = False
        command = [sys.executable, "-m", "tests.faults.soak.worker", str(self._folder), self.name]
        with self._errors.open("ab") as errors:
            self.process = await asyncio.create_subprocess_exec(
                *command, cwd=_ROOT, stdin=PIPE, stdout=PIPE, stderr=errors
            )
        self.starts += 1
        self.started.set()

    @property
    def _errors(self) -> Path:
        return self._folder / f"{self.name}.errors"

    @property
    def running(self) -> Process:
        assert self.process is not None
        return self.process

    def kill(self) -> None:
        """Kill the process by `kill -9`, whatever it is doing."""
        if self.process is not None and self.process.returncode is None:
            self._was_killed = True
            self.started.clear()
            self.process.kill()
            self.kills += 1

    async def tell(self, line: str, expected: str) -> None:
        """Send a line to the process and wait for the expected answer."""
        assert self.running.stdin is not None
        assert self.running.stdout is not None
        self.running.stdin.write(f"{line}\n".encode())
        await self.running.stdin.drain()
        answer = await self.running.stdout.readline()
        assert answer.decode() == f"{expected}\n", f"worker {self.name}:\n{self._errors.read_text()}"


class Soak:
    """A soak in a folder of its own."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self._folder = folder
        self._database = folder / DATABASE
        self._seconds = seconds
        self._workers = [_Worker(folder, f"w{number}") for number in range(PROCESSES)]
        self._samples: list[Sample] = []
        self._chance = random.Random(6)
        self._begun = 0.0

    async def run(self) -> Soaked:
        """Let the workers work for the given time; assert that store and model agree, and return the result."""
        await self._prepare()
        self._begun = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for worker in self._workers:
                tasks.create_task(worker.live())
            await self._disturb()
            await self._end()
        async with open_engine(self._database) as engine:
            agreed = await assert_agreement(self._folder, engine)
        kills, starts = (sum(getattr(each, name) for each in self._workers) for name in ("kills", "starts"))
        return Soaked(agreed, self._samples, starts, kills)

    async def _prepare(self) -> None:
        hand = Hand(self._folder, "parent", 0)
        async with open_engine(self._database) as engine:
            await hand.make(engine, CreateRun(SHARED, "", {"a": 0}))
            await hand.make(engine, PinRun(SHARED))
        hand.journal.close()

    async def _disturb(self) -> None:
        """Kill one worker or another, measure the one that is spared, and log the progress."""
        kill_at, report_at = KILL_EVERY_SECONDS, 0.0
        while (now := self._elapsed) < self._seconds:
            if now >= kill_at:
                self._chance.choice(self._workers[1:]).kill()
                kill_at = now + self._chance.uniform(0, 2 * KILL_EVERY_SECONDS)
            self._look()
            if now >= report_at:
                await self._report()
                report_at = now + max(REPORT_EVERY_SECONDS, self._seconds / 60)
            await asyncio.sleep(self._seconds / SAMPLES)

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._begun

    def _look(self) -> None:
        spared = self._workers[0].process
        if spared is not None and spared.returncode is None:
            sample = look(self._elapsed, spared.pid, self._folder)
            self._samples += [] if sample is None else [sample]

    async def _report(self) -> None:
        async with open_engine(self._database) as engine:
            position = await engine.last_position()
        kills = sum(each.kills for each in self._workers)
        _log.info(
            "%4.0f s: %d events, %d kills; %s", self._elapsed, position, kills, "".join(map(str, self._samples[-1:]))
        )

    async def _end(self) -> None:
        for worker in self._workers:
            await worker.started.wait()
        await asyncio.gather(*(worker.tell("stop", "stopped") for worker in self._workers))
        async with open_engine(self._database) as engine:
            positions = [(each.position, each.run_id) async for each in engine.events()]
        last, last_shared = positions[-1][0], max(position for position, run_id in positions if run_id == SHARED)
        await asyncio.gather(*(worker.tell(f"{last} {last_shared}", "finished") for worker in self._workers))


def assert_flat(soaked: Soaked) -> None:
    """Assert that memory, threads, descriptors and files do not grow."""
    growth = growing(soaked.samples, PROCESSES)
    assert growth == [], growth
