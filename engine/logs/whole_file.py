"""Writing a file atomically: it exists complete or not at all."""

import contextlib
import errno
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from engine.errors import AlreadyExists
from engine.logs.file_system import sync_descriptor, sync_folder_if_readable, take_name


@contextlib.contextmanager
def whole_file(path: Path, *, overwrite: bool, taken: type[AlreadyExists]) -> Iterator[BinaryIO]:
    """Yield a temporary file that gets its final name once the block has completed; on any failure it is removed.

    After the block, content and name are durable; the name is not if the folder lacks read permission.

    Args:
        overwrite: replace an existing file, but no folder, pipe or device. A symbolic link is replaced itself.
        taken: the error to raise, with the path, if the name is taken and `overwrite` is false.

    Raises:
        AlreadyExists, OSError
    """
    if path.exists():
        if not path.is_file():
            raise FileExistsError(errno.EEXIST, "not a regular file", str(path))
        if not overwrite:
            raise taken(path)
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}")
    try:
        with _naming(path):
            opened = temporary.open("xb")
        with opened as file:
            yield file
            file.flush()
            sync_descriptor(file.fileno())
        with _naming(path):
            if overwrite:
                temporary.replace(path)
            else:
                _take_name(temporary, path, taken)
            sync_folder_if_readable(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _take_name(temporary: Path, path: Path, taken: type[AlreadyExists]) -> None:
    try:
        take_name(temporary, path)
    except FileExistsError:  # created meanwhile
        raise taken(path) from None


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Raise errors of the block about the final path, not about the temporary one."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
