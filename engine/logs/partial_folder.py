"""The folder in which a backup is made, or a database that is imported, beside the name that it will have.

All that is made on the way is in it, and goes with it. A lock in it is held for as long as that takes: a folder whose
lock is free was left by a process that was killed, and later backups remove it.
"""

import contextlib
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from engine.logger import get_logger
from engine.logs.file_lock import FileLock

_NAME: Final = "anabranch-partial-"
_NAMES: Final = re.compile(f"{_NAME}[0-9a-f]{{16}}")
_LOCK: Final = "lock"
_NEW_SECONDS: Final = 60.0
"""For so long a folder may be one whose backup has not come to lock it yet."""

_log = get_logger(__name__)


class PartialFolder:
    """Makes a folder of the owner's alone in `parent`, and locks it. To be removed by `remove`.

    Raises:
        OSError
    """

    def __init__(self, parent: Path) -> None:
        self.path = parent / f"{_NAME}{secrets.token_hex(8)}"
        self.path.mkdir(mode=0o700)
        self._lock = FileLock(self.path / _LOCK)
        self._lock.try_acquire()  # nobody else has opened it

    def remove(self) -> None:
        """Remove the folder and all that is in it, as far as that can be done."""
        self._lock.close()
        _remove(self.path)


def abandoned(parent: Path) -> list[Path]:
    """Return the folders of backups that were killed, of those that may be looked into."""
    with contextlib.suppress(OSError):
        return [path for path in sorted(parent.iterdir()) if _is_abandoned(path)]
    return []


def remove_abandoned(parent: Path) -> list[Path]:
    """Remove what backups that were killed have left in a folder, and return what is gone."""
    found = abandoned(parent)
    for path in found:
        _log.info("what a killed backup left is removed", path=str(path))
        _remove(path)
    return [path for path in found if not path.exists()]


def bytes_in(folder: Path) -> int:
    """Return how many bytes the files of a folder hold."""
    return sum(path.stat().st_size for path in _files(folder))


def _files(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from (path for path in folder.iterdir() if path.is_file())


def _is_abandoned(path: Path) -> bool:
    if not _NAMES.fullmatch(path.name) or path.is_symlink() or not path.is_dir():
        return False
    try:
        if time.time() - path.stat().st_mtime < _NEW_SECONDS:
            return False
        lock = FileLock(path / _LOCK)
    except OSError:  # another user's, or gone
        return False
    try:
        return lock.try_acquire()
    finally:
        lock.close()


def _remove(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except OSError as error:
        _log.warning("a folder is left behind", path=str(path), error=str(error))
