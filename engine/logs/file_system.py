"""Creating files and folders durably, with owner-only access, and giving finished files their names atomically."""

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import Final

from engine.errors import CannotOpen, FolderNotWritable, NotADatabase
from engine.logs.mounts import refuse_mounted_alone, refuse_network
from engine.logs.own_files import refuse_names_of_others

_SMALLEST_DATABASE: Final = 512  # bytes: one page
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})

READ_ONLY_ADVICE: Final = "open it with read_only=True to read it"
"""The advice if a file or its folder is not writable."""


def prepare_file(path: Path, *, allow_network: bool) -> bool:
    """Make sure that `path` is a writable file; return whether this call created it.

    Missing folders are created. A new file has mode 0600, and its folder is synced here, because SQLite does not report
    a failure of that sync.

    An existing file is not opened here, only by SQLite: closing any descriptor of a file releases all POSIX locks that
    the process holds on it, including those of an engine that has it open. For the same reason nothing in the process
    may connect to a new file before this call ends.

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
    """Return a path as absolute, with its symbolic links resolved.

    Raises:
        CannotOpen: it is not a valid path, or its links form a loop.
    """
    try:
        found = path.resolve()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            found.stat()  # newer Pythons do not raise for a loop in `resolve`
    except (OSError, RuntimeError, ValueError) as error:
        raise CannotOpen(path, str(error)) from error
    return found


def is_named(path: Path, file: os.stat_result) -> bool:
    """Whether a path still names an open file, as far as this process can tell."""
    try:
        named = os.stat(path)  # noqa: PTH116 - called for each commit: `Path.stat` is slower
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return (named.st_ino, named.st_dev) == (file.st_ino, file.st_dev)


def create_for_owner(path: Path) -> None:
    """Create an empty file that only its owner may read or write.

    Raises:
        OSError: FileExistsError if the name is taken.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def take_name(made: Path, target: Path) -> None:
    """Give a finished file its final name, unless that is taken.

    On a file system with hard links the first name remains, for the caller to remove.

    Raises:
        OSError: FileExistsError if the name is taken.
    """
    try:
        target.hardlink_to(made)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Without hard links: a rename replaces an existing file, so create an empty one of ours to be replaced.
        create_for_owner(target)
        made.replace(target)


def make_folders(folder: Path) -> None:
    """Create a folder and its missing parents, each durably."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        sync_folder(each.parent)


def _check_writable(path: Path) -> None:
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not os.access(path, os.R_OK | os.W_OK):
        raise PermissionError(errno.EACCES, f"the file is not writable; {READ_ONLY_ADVICE}")
    if 0 < path.stat().st_size < _SMALLEST_DATABASE:  # SQLite would treat it as empty
        raise NotADatabase(path, "it is shorter than any database")


def is_disk_full(error: OSError) -> bool:
    """Whether the disk is full, or the user's quota is exhausted."""
    return error.errno in _FULL


_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def sync_file(path: Path) -> None:
    """Make a file's content durable. Not for a database that is open in this process: see `prepare_file`."""
    _sync(path, os.O_RDONLY)


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        sync_descriptor(descriptor)
    finally:
        os.close(descriptor)


def sync_descriptor(descriptor: int) -> None:
    """Make an open file's content durable: on macOS beyond the disk's own cache, as SQLite does with `fullfsync`."""
    if _FULL_SYNC is not None:
        with contextlib.suppress(OSError):  # not every file system has it
            fcntl.fcntl(descriptor, _FULL_SYNC)
            return
    os.fsync(descriptor)


_FULL_SYNC: Final[int | None] = getattr(fcntl, "F_FULLFSYNC", None)


def sync_folder_if_readable(folder: Path) -> None:
    """Call `sync_folder`, unless the folder cannot be opened for lack of read permission."""
    with contextlib.suppress(PermissionError):
        sync_folder(folder)
