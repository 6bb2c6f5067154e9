"""The lock that the writers of all processes queue for: `flock` on a file beside the database.

The kernel grants the lock in order of arrival and releases it when its holder dies. Waiting here before
`BEGIN IMMEDIATE` replaces SQLite's sleep-and-retry, which starves some writers.
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
"""The file beside a database that a running orchestrator holds locked."""

_POLL_SECONDS = 0.001
_PROCESS_IDS_MAX = 2**31


class FileLock:
    """An exclusive lock on `path`, which is created if missing. Not reentrant; for one thread at a time.

    `waited_since` is the monotonic time since which a thread of this process has been queued for it, or None.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # A file object, not a bare descriptor: if it is leaked, it warns and is closed.
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
        """Wait for the lock up to `seconds`, and yield whether it is held.

        It polls, so waiters that queue may overtake it: for opening and closing, not for writing.
        """
        deadline = time.monotonic() + seconds
        while not (held := self.try_acquire()) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        try:
            yield held
        finally:
            if held:
                self._flock(fcntl.LOCK_UN)

    def try_acquire(self) -> bool:
        """Take the lock if it is free, and hold it until `close`; return whether it is held."""
        try:
            self._take(fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def leave_note(self, note: str) -> None:
        """Make `note` the file's content, for processes that find it locked. Only for the holder."""
        self._file.truncate(0)
        self._file.write(note.encode())

    def close(self) -> None:
        """Close the file, which frees the lock when it is held."""
        self._file.close()

    def _take(self, operation: int) -> None:
        # If the file was removed, as an apparent leftover, its lock does not exclude processes that create a new one.
        while True:
            self._flock(operation)
            if is_named(self.path, os.fstat(self._file.fileno())):
                return
            try:
                current = io.FileIO(self.path, "a", opener=_open_for_owner)
            except OSError:  # then no other process can create a new one either
                return
            removed, self._file = self._file, current
            removed.close()

    def _flock(self, operation: int) -> None:
        if self._file.closed:
            raise ValueError(f"the lock {self.path} is closed")
        fcntl.flock(self._file, operation)


def noted_holder(path: Path) -> int | None:
    """Return the id of the process that took a lock last, according to its note, or None if it names none."""
    try:
        process_id = int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return process_id if 0 < process_id < _PROCESS_IDS_MAX else None


def _open_for_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


_OPEN: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _close_in_forked_child() -> None:
    # A descriptor that the child inherits would keep the lock held after the holder has died.
    for lock in list(_OPEN):
        lock.close()


os.register_at_fork(after_in_child=_close_in_forked_child)
