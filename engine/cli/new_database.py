"""Creating a database together with its first content, or not at all."""

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from engine import Engine, open_engine
from engine.cancellation import finish
from engine.errors import AlreadyExists, DiskFull, FolderNotWritable, shown
from engine.logs.file_system import make_folders, resolved, sync_folder, take_name
from engine.logs.mounts import refuse_network
from engine.logs.own_files import WAL, WOULD_JOIN, beside
from engine.logs.partial_folder import PartialFolder


class MadeMeanwhile(AlreadyExists):
    """Another process has created the database; it was not touched."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"another process has created {shown(path)} meanwhile; it was not touched")


def is_free(path: Path) -> bool:
    """Return whether neither the file exists nor any that SQLite would take for a part of a new database."""
    return not any(os.path.lexists(f"{path}{suffix}") for suffix in ("", *WOULD_JOIN))


@contextlib.asynccontextmanager
async def new_database(path: Path, *, event_bytes_max: int) -> AsyncIterator[Engine]:
    """Open a new store that gets its name once it is closed; if anything fails before, nothing is left of it.

    Raises:
        MadeMeanwhile: another process has taken the name.
        CannotOpen, and what `open_engine` raises
    """
    with _disk_full_of(path):
        target, folder = await asyncio.to_thread(_begun, path)
        made = folder.path / "new.db"
        try:
            async with open_engine(made, event_bytes_max=event_bytes_max) as engine:
                yield engine
            await finish(asyncio.to_thread(_take_name, made, target))
        finally:
            await finish(asyncio.to_thread(folder.remove))


def _begun(path: Path) -> tuple[Path, PartialFolder]:
    target = resolved(path)
    with _writing(target):
        make_folders(target.parent)
        refuse_network(target.parent)
        with contextlib.suppress(FileNotFoundError):
            target.lstat()  # an invalid name is refused before anything is done
        return target, PartialFolder(target.parent)


def _take_name(made: Path, target: Path) -> None:
    with _writing(target):
        if beside(made, WAL).exists():  # closing it failed to write all of it into the file
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if not is_free(target):
            raise MadeMeanwhile(target)
        try:
            take_name(made, target)
        except FileExistsError:
            raise MadeMeanwhile(target) from None
        sync_folder(target.parent)


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FolderNotWritable(target, error.strerror or str(error)) from error


@contextlib.contextmanager
def _disk_full_of(path: Path) -> Iterator[None]:
    """Raise DiskFull with the path of the intended database, not of the temporary one."""
    try:
        yield
    except DiskFull:
        raise DiskFull(path) from None
