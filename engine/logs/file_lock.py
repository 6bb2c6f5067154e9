"""The lock that writers of all processes queue for: `flock` on a file beside the database.

The kernel wakes waiters in the order they came and frees the lock when its holder dies. Waiting here before
`BEGIN IMMEDIATE` replaces SQLite's sleep-and-retry, under which some writers starve.
"""

import fcntl
import io
import os
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from engine.logs.file_system import is_named

RUN_LOCK_NAME: Final = "run.lock"
"""The file beside a database that the orchestrator at work on it holds locked."""

_ASK_AGAIN_SECONDS = 0.001
_PROCESS_IDS_MAX = 2**31


class FileLock:
    """An exclusive lock on `path`, which is created when missing. Not reentrant; one thread at a time.

    `waited_since` says since when a thread of ours has been queued for it, by the monotonic clock.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # A file object, not a bare descriptor: forgotten, it warns and is closed.
        self._file = io.FileIO(path, "a", opener=_open_for_owner)
        self.waited_since: float | None = None
        _OPEN.add(self)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Wait for the lock and hold it."""
        self.waited_since = time.monotonic()
        try:
            self._take(fcntl.LOCK_EX)
        finally:
            self.waited_since = None
        try:
            yield
        finally:
            self._flock(fcntl.LOCK_UN)

    @contextmanager
    def tried_for(self, seconds: float) -> Iterator[bool]:
        """Wait for the lock no longer than that, and say whether it is held.

        It asks again and again, so it may wait longer than its turn: for opening and closing, not for writing.
        """
        deadline = time.monotonic() + seconds
        while not (held := self.try_acquire()) and time.monotonic() < deadline:
            time.sleep(_ASK_AGAIN_SECONDS)
        try:
            yield held
        finally:
            if held:
                self._flock(fcntl.LOCK_UN)

    def try_acquire(self) -> bool:
        """Take the lock if it is free, to hold it until `close`."""
        try:
            self._take(fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def leave_note(self, note: str) -> None:
        """Make `note` what the file says, for those who find it locked. Only for the holder."""
        self._file.truncate(0)
        self._file.write(note.encode())

    def close(self) -> None:
        """Close the file, which frees the lock when it is held."""
        self._file.close()

    def _take(self, operation: int) -> None:
        # A lock on a file that somebody has removed, as one that looked left behind, keeps out nobody who comes later.
        while True:
            self._flock(operation)
            if is_named(self.path, os.fstat(self._file.fileno())):
                return
            try:
                there = io.FileIO(self.path, "a", opener=_open_for_owner)
            except OSError:  # nobody else can have another one either
                return
            removed, self._file = self._file, there
            removed.close()

    def _flock(self, operation: int) -> None:
        if self._file.closed:
            raise ValueError(f"the lock {self.path} is closed")
        fcntl.flock(self._file, operation)


def noted_holder(path: Path) -> int | None:
    """Return the id of the process that took a lock last, as its note says; None where it says none."""
    try:
        process_id = int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return process_id if 0 < process_id < _PROCESS_IDS_MAX else None


def _open_for_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


_OPEN: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _close_in_forked_child() -> None:
    # A descriptor that a child inherits would keep the lock held after its real holder has died.
    for lock in list(_OPEN):
        lock.close()


os.register_at_fork(after_in_child=_close_in_forked_child)
