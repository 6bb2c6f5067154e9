"""Turns at the file's lock: jobs of the writing connection's thread, one after another, each while the lock is held.

A job waits on its thread until the lock is to be had, and until then it may be taken back: by a caller who was
cancelled, or once it has waited for other processes as long as it may.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

from engine.cancellation import finish
from engine.errors import StoreBusy
from engine.logs.connections import ThreadConnection
from engine.logs.file_lock import FileLock
from engine.logs.forking import inside_sqlite

Result = TypeVar("Result")

CLOSING_SECONDS_MAX: Final = 0.5
"""How long closing waits for a turn that nobody waits for any more before it looks who has the lock."""

TURN_SECONDS_MIN: Final = 0.05
"""So long a job waits at least: its thread needs some time to ask for a lock that is free."""


class GivenUp(Exception):
    """A turn that came after nobody waited for it any more."""


class Turn(Generic[Result]):
    """A job that waits for the lock on a thread, and may be given up on until it has it."""

    def __init__(self, lock: FileLock, job: Callable[[], Result]) -> None:
        self._lock = lock
        self._job = job
        self._mutex = threading.Lock()
        self._given_up = False
        self._begun = False

    def take(self) -> Result:
        """Wait for the lock and do the job, on the thread that may wait.

        Raises:
            GivenUp: the job was not done.
        """
        with self._lock.held():
            with self._mutex:
                if self._given_up:
                    raise GivenUp
                self._begun = True
            with inside_sqlite():
                return self._job()

    def give_up(self) -> bool:
        """Say whether the job had not begun; then it never will."""
        with self._mutex:
            self._given_up = not self._begun
            return self._given_up


class Turns:
    """The turns of one connection's jobs at one lock.

    Args:
        connection: whose thread does the jobs, in the order in which they were begun.
        busy_timeout: how long one may wait for other processes, in seconds.
    """

    def __init__(self, connection: ThreadConnection, lock: FileLock, path: Path, busy_timeout: float) -> None:
        self._connection = connection
        self._lock = lock
        self._path = path
        self._busy_timeout = busy_timeout
        self._gave_up = False

    def begin(self, job: Callable[[], Result]) -> tuple[Turn[Result], asyncio.Future[Result]]:
        """Queue a job; return its turn, and a future of what it returns or raises, `StoreBusy` among that."""
        turn = Turn(self._lock, job)
        ended = self._connection.start_waiting(turn.take)
        self._have_patience(turn, ended, time.monotonic())
        return turn, ended

    def take_back(self, turn: Turn[Result]) -> bool:
        """Say whether a job had not begun; then it never will."""
        taken_back = turn.give_up()
        self._gave_up |= taken_back
        return taken_back

    async def run(self, job: Callable[[], Result], stop: Callable[[], None] | None = None) -> Result:
        """Return what a job returns; see `SqliteEventLog.exclusively`."""
        turn, ended = self.begin(job)
        try:
            await asyncio.wait({ended})
        except asyncio.CancelledError as cancelled:
            if self.take_back(turn):
                ended.cancel()  # nobody is told any more how it ended
                raise
            if stop is not None:
                stop()
            try:
                await finish(asyncio.wait({ended}))
            finally:
                failure = ended.exception()
            raise cancelled from failure
        return ended.result()

    async def end(self) -> None:
        """Return once no turn that was taken back is left on the thread.

        Raises:
            StoreBusy: one still waits for the lock, which nothing can wake it from.
        """
        if self._gave_up:
            behind = self._connection.start(_nothing)
            while not behind.done():
                await asyncio.wait({behind}, timeout=CLOSING_SECONDS_MAX)
                if not behind.done() and self._lock.waited_since is not None:
                    behind.cancel()
                    raise StoreBusy(self._path, CLOSING_SECONDS_MAX)

    def _have_patience(self, turn: Turn[Result], ended: asyncio.Future[Result], since: float) -> None:
        """Give the turn up once it has waited for others, since that time at most, for as long as it may."""
        seconds = since + max(self._busy_timeout, TURN_SECONDS_MIN) - time.monotonic()
        timeout = asyncio.get_running_loop().call_later(seconds, self._lose_patience, turn, ended, since)
        ended.add_done_callback(lambda _: timeout.cancel())

    def _lose_patience(self, turn: Turn[Result], ended: asyncio.Future[Result], since: float) -> None:
        # While our own thread is not queued for the lock it is at something else, for as long as it likes.
        waited_since = self._lock.waited_since or time.monotonic()
        if ended.done():
            return
        if waited_since > since:
            self._have_patience(turn, ended, waited_since)
        elif self.take_back(turn):
            ended.set_exception(StoreBusy(self._path, self._busy_timeout))


def _nothing() -> None:
    """What is done once all before it is."""
