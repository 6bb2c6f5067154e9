"""Files and folders that are made durably, for their owner alone, and take their names whole."""

import contextlib
import errno
import os
from pathlib import Path
from typing import Final

from engine.errors import CannotOpen, FolderNotWritable, NotADatabase
from engine.logs.mounts import refuse_mounted_alone, refuse_network
from engine.logs.own_files import refuse_names_of_others

_SMALLEST_DATABASE: Final = 512  # bytes: one page
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})

READING_WRITES: Final = "read_only=True only reads what is there"
"""What to tell people whose file, or its folder, may not be written."""


def prepare_file(path: Path, *, allow_network: bool) -> bool:
    """Make sure that `path` is a file that can be written; say whether it was created just now.

    Missing folders are created. A new file has mode 0600, and its folder is synced, which SQLite would not report on.

    A file that exists is not opened here, only by SQLite: closing any descriptor of a file ends every POSIX lock that
    the process holds on it, those of an engine that is open on it included. For the same reason nobody in the process
    may connect to a file between its creation and the end of this call.

    Raises:
        CannotOpen: it is a folder, is mounted by itself, or has the name of a file beside another database.
        FolderNotWritable, NetworkFileSystem
    """
    try:
        refuse_names_of_others(path)
        refuse_mounted_alone(path)
        make_folders(path.parent)
        if not allow_network:
            refuse_network(path.parent)
        try:
            create_for_owner(path)
        except FileExistsError:
            _check_writable(path)
            return False
        sync_folder(path.parent)
    except IsADirectoryError as error:
        raise CannotOpen(path, "it is a folder") from error
    except OSError as error:
        raise FolderNotWritable(path, str(error.strerror or error)) from error
    return True


def resolved(path: Path) -> Path:
    """Return where a path leads, whatever links it goes through and wherever the process goes later.

    Raises:
        CannotOpen: it can be no path, or leads in a circle.
    """
    try:
        found = path.resolve()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            found.stat()  # newer Pythons resolve a circle, too
    except (OSError, RuntimeError, ValueError) as error:
        raise CannotOpen(path, str(error)) from error
    return found


def is_named(path: Path, file: os.stat_result) -> bool:
    """Whether a path still leads to an open file, as far as this process may look."""
    try:
        named = os.stat(path)  # noqa: PTH116 - for each commit: a path's own method takes longer
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return (named.st_ino, named.st_dev) == (file.st_ino, file.st_dev)


def create_for_owner(path: Path) -> None:
    """Create an empty file that nobody but its owner may read or write.

    Raises:
        OSError: FileExistsError, where there is something by that name.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def take_name(made: Path, target: Path) -> None:
    """Give a file that was made under another name the name that it is for, unless that is taken.

    Where there are hard links it is left to be removed under its first name.

    Raises:
        OSError: FileExistsError, where there is something by that name.
    """
    try:
        target.hardlink_to(made)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # The file system has no links. What is renamed replaces what is there, so that has to be something of ours.
        create_for_owner(target)
        made.replace(target)


def make_folders(folder: Path) -> None:
    """Create what is missing of a folder and those above it, each durably."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        sync_folder(each.parent)


def _check_writable(path: Path) -> None:
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not os.access(path, os.R_OK | os.W_OK):
        raise PermissionError(errno.EACCES, f"the file may not be written; {READING_WRITES}")
    if 0 < path.stat().st_size < _SMALLEST_DATABASE:  # SQLite would take it for an empty one
        raise NotADatabase(path, "it is shorter than any database")


def is_disk_full(error: OSError) -> bool:
    """Whether there was no room left, or none that its user may have."""
    return error.errno in _FULL


_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def sync_file(path: Path) -> None:
    """Make what a closed file holds durable. No database that is open: see `prepare_file`."""
    _sync(path, os.O_RDONLY)


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder_if_readable(folder: Path) -> None:
    """`sync_folder`, but of one that may be written and not read: what cannot be opened cannot be synced."""
    with contextlib.suppress(PermissionError):
        sync_folder(folder)
