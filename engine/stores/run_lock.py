"""The lock of a run's folder: exclusive and non-blocking.

It is a `flock` on `run.lock` beside the database, as hosts of the old state store take it, so both exclude each other.
The kernel releases it when its holder dies, and a child that the holder forks does not inherit it.
"""

import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from engine.errors import FolderNotWritable, RunLocked
from engine.logger import get_logger
from engine.logs.file_lock import RUN_LOCK_NAME, FileLock, noted_holder

_log = get_logger(__name__)


class RunLock:
    """Held inside `with` or `async with`. Not reentrant: its own holder is refused, too.

    Args:
        folder: the folder of the database.

    Raises (when it is entered):
        RunLocked: it is held already.
        FolderNotWritable
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / RUN_LOCK_NAME
        self._lock: FileLock | None = None

    def __enter__(self) -> Self:
        try:
            lock = FileLock(self.path)
        except OSError as error:
            raise FolderNotWritable(self.path, error.strerror or str(error)) from error
        if self._lock is not None or not lock.try_acquire():
            lock.close()
            raise RunLocked(self.path, noted_holder(self.path))
        with suppress(OSError):  # the note only informs others: the lock is held even if the disk is full
            lock.leave_note(str(os.getpid()))
        self._lock = lock
        _log.debug("run locked", path=str(self.path))
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._lock is not None, "entered"
        self._lock.close()
        self._lock = None

    async def __aenter__(self) -> Self:
        return self.__enter__()  # it never waits

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(exc_type, exc, trace)
