"""One process of the soak: `python -m tests.faults.soak.worker FOLDER NAME`, until it is killed or told to stop.

It opens the store, works on it for some seconds with several hands, a keeper and two subscribers, closes it and opens
it again. To `stop` it answers `stopped` once nothing is in flight; to the positions that its subscribers must reach,
`finished`.
"""

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Final

from engine import open_engine
from tests.faults.soak.follower import Follower
from tests.faults.soak.hand import Hand
from tests.faults.soak.host import Host
from tests.faults.soak.keeper import Keeper
from tests.faults.soak.moves import SHARED

DATABASE: Final = "runs.db"
HANDS: Final = 3
HAND_PAUSE_SECONDS: Final = 0.02
KEEPER_PAUSE_SECONDS: Final = 1.0
OPEN_SECONDS: Final = (2.0, 12.0)


class Worker:
    """The process's hands, keeper and subscribers, over all the engines that it opens."""

    def __init__(self, folder: Path, name: str) -> None:
        self._database = folder / DATABASE
        self._hands = [Hand(folder, f"{name}.{number}", HAND_PAUSE_SECONDS) for number in range(HANDS)]
        self._keeper = Hand(folder, f"{name}.keeper", KEEPER_PAUSE_SECONDS)
        self._followers = [Follower(folder / f"{name}.all", None), Follower(folder / f"{name}.shared", SHARED)]
        self.stop = asyncio.Event()

    async def work(self) -> None:
        """Open the store again and again until told to stop."""
        while not self.stop.is_set():
            async with open_engine(self._database) as engine, asyncio.TaskGroup() as following:
                for follower in self._followers:
                    following.create_task(follower.follow(engine))
                async with asyncio.TaskGroup() as working:
                    over = asyncio.Event()
                    working.create_task(self._end(over))
                    working.create_task(self._keeper.work(engine, Keeper(self._keeper, engine).turn, over))
                    for hand in self._hands:
                        working.create_task(hand.work(engine, Host(hand, engine).turn, over))
                await engine.close()  # which ends the subscriptions

    async def _end(self, over: asyncio.Event) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stop.wait(), self._keeper.chance.uniform(*OPEN_SECONDS))
        over.set()

    async def catch_up(self, until: list[int]) -> None:
        """Let each subscriber reach its position."""
        async with open_engine(self._database) as engine, asyncio.TaskGroup() as following:
            for follower, position in zip(self._followers, until, strict=True):
                following.create_task(follower.follow(engine, position))


async def _main(folder: str, name: str) -> None:
    told = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(told), sys.stdin)
    worker = Worker(Path(folder), name)
    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(worker.work())
        assert await told.readline() == b"stop\n"
        worker.stop.set()
        await working
    _say("stopped")
    await worker.catch_up([int(word) for word in (await told.readline()).split()])
    _say("finished")


def _say(word: str) -> None:
    print(word, flush=True)  # noqa: T201 - the pipe is how it answers


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
