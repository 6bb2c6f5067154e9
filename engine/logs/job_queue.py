"""The queue of jobs on the writing connection's thread, each run while holding the cross-process lock.

A job blocks its thread until it has the lock. Until then it may be withdrawn: by a cancelled caller, or after the busy
timeout.
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
"""How long closing waits for a withdrawn job, in seconds, before it checks whether that is blocked on the lock."""

WAIT_SECONDS_MIN: Final = 0.05
"""The least busy timeout, in seconds: a thread needs some time to take even a free lock."""


class Withdrawn(Exception):
    """The job was withdrawn before it got the lock."""


class LockedJob(Generic[Result]):
    """A job that waits for the lock on a thread, and may be withdrawn until it has the lock."""

    def __init__(self, lock: FileLock, job: Callable[[], Result]) -> None:
        self._lock = lock
        self._job = job
        self._mutex = threading.Lock()
        self._withdrawn = False
        self._begun = False

    def run(self) -> Result:
        """Wait for the lock and run the job, on the connection's thread.

        Raises:
            Withdrawn: the job was withdrawn and not run.
        """
        with self._lock.held():
            with self._mutex:
                if self._withdrawn:
                    raise Withdrawn
                self._begun = True
            with inside_sqlite():
                return self._job()

    def withdraw(self) -> bool:
        """Withdraw the job unless it has begun; return whether it is withdrawn."""
        with self._mutex:
            self._withdrawn = not self._begun
            return self._withdrawn


class JobQueue:
    """Runs jobs on one connection's thread, one after another, each while holding one lock.

    Args:
        connection: its thread runs the jobs, in the order of `put`.
        busy_timeout: how long a job may wait for other processes, in seconds.
    """

    def __init__(self, connection: ThreadConnection, lock: FileLock, path: Path, busy_timeout: float) -> None:
        self._connection = connection
        self._lock = lock
        self._path = path
        self._busy_timeout = busy_timeout
        self._has_withdrawn = False

    def put(self, job: Callable[[], Result]) -> tuple[LockedJob[Result], asyncio.Future[Result]]:
        """Queue a job; return its entry and a future of its outcome, which is `StoreBusy` after the busy timeout."""
        queued = LockedJob(self._lock, job)
        ended = self._connection.run_waiting(queued.run)
        self._schedule_timeout(queued, ended, time.monotonic())
        return queued, ended

    def withdraw(self, queued: LockedJob[Result]) -> bool:
        """Withdraw a job unless it has begun; return whether it is withdrawn."""
        withdrawn = queued.withdraw()
        self._has_withdrawn |= withdrawn
        return withdrawn

    async def run(self, job: Callable[[], Result], stop: Callable[[], None] | None = None) -> Result:
        """Queue a job and return its result; see `SqliteEventLog.exclusively`."""
        queued, ended = self.put(job)
        try:
            await asyncio.wait({ended})
        except asyncio.CancelledError as cancelled:
            if self.withdraw(queued):
                ended.cancel()  # its outcome is no longer awaited
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
        """Wait until no withdrawn job is left on the thread.

        Raises:
            StoreBusy: one is still blocked on the lock, which cannot be interrupted.
        """
        if self._has_withdrawn:
            last = self._connection.run(lambda: None)
            while not last.done():
                await asyncio.wait({last}, timeout=CLOSING_SECONDS_MAX)
                if not last.done() and self._lock.waited_since is not None:
                    last.cancel()
                    raise StoreBusy(self._path, CLOSING_SECONDS_MAX)

    def _schedule_timeout(self, queued: LockedJob[Result], ended: asyncio.Future[Result], since: float) -> None:
        """Schedule a check whether a job, waiting for the lock since `since`, has exceeded the busy timeout."""
        seconds = since + max(self._busy_timeout, WAIT_SECONDS_MIN) - time.monotonic()
        timeout = asyncio.get_running_loop().call_later(seconds, self._on_timeout, queued, ended, since)
        ended.add_done_callback(lambda _: timeout.cancel())

    def _on_timeout(self, queued: LockedJob[Result], ended: asyncio.Future[Result], since: float) -> None:
        # Time that our own thread spends on other jobs, not queued for the lock, does not count.
        waited_since = self._lock.waited_since or time.monotonic()
        if ended.done():
            return
        if waited_since > since:
            self._schedule_timeout(queued, ended, waited_since)
        elif self.withdraw(queued):
            ended.set_exception(StoreBusy(self._path, self._busy_timeout))
