"""The temporary folder, beside the final path, in which a backup or an imported database is made.

It holds all intermediate files and is removed with them. A lock inside is held meanwhile: a folder whose lock is free
was left by a killed process, and later backups remove it.
"""

import contextlib
import re
import secrets
import shutil
import time
from pathlib import Path
from typing import Final

from engine.logger import get_logger
from engine.logs.file_lock import FileLock

_NAME: Final = "anabranch-partial-"
_NAMES: Final = re.compile(f"{_NAME}[0-9a-f]{{16}}")
_LOCK: Final = "lock"
_NEW_SECONDS: Final = 60.0
"""A younger folder counts as in use, because its process may not have locked it yet."""

_log = get_logger(__name__)


class PartialFolder:
    """Creates and locks a folder in `parent` that only its owner may access. To be removed by `remove`.

    Raises:
        OSError
    """

    def __init__(self, parent: Path) -> None:
        self.path = parent / f"{_NAME}{secrets.token_hex(8)}"
        self.path.mkdir(mode=0o700)
        self._lock = FileLock(self.path / _LOCK)
        self._lock.try_acquire()  # always free: no other process has opened it

    def remove(self) -> None:
        """Remove the folder and its content, as far as possible."""
        self._lock.close()
        _remove(self.path)


def abandoned(parent: Path) -> list[Path]:
    """Return the accessible folders that were left by killed processes."""
    with contextlib.suppress(OSError):
        return [path for path in sorted(parent.iterdir()) if _is_abandoned(path)]
    return []


def remove_abandoned(parent: Path) -> list[Path]:
    """Remove the folders that killed processes have left in a folder; return those removed."""
    found = abandoned(parent)
    for path in found:
        _log.info("removing the folder of a killed backup", path=str(path))
        _remove(path)
    return [path for path in found if not path.exists()]


def bytes_in(folder: Path) -> int:
    """Return the total size of a folder's files in bytes, without those that are removed meanwhile."""
    size = 0
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.is_file():
                size += path.stat().st_size
    return size


def _is_abandoned(path: Path) -> bool:
    if not _NAMES.fullmatch(path.name) or path.is_symlink() or not path.is_dir():
        return False
    try:
        if time.time() - path.stat().st_mtime < _NEW_SECONDS:
            return False
        if path / _LOCK not in path.iterdir():  # killed before it was locked; a new lock would make it look new
            return True
        lock = FileLock(path / _LOCK)
    except OSError:  # belongs to another user, or is gone
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
