"""A file that is there whole or not at all."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from engine.errors import AlreadyExists
from engine.logs.file_system import sync_folder_if_readable, take_name


@contextlib.contextmanager
def whole_file(path: Path, *, overwrite: bool, taken: type[AlreadyExists]) -> Iterator[BinaryIO]:
    """Give a file that takes its name when it is complete and synced; whatever happens before, nothing is left of it.

    When the block has ended the name is there, also after a power cut, unless the folder may not be read.

    Args:
        overwrite: replace what has the name.
        taken: what is raised, with the path, where something has it and is not to be replaced.

    Raises:
        AlreadyExists, OSError
    """
    if not overwrite and path.exists():
        raise taken(path)
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}")
    try:
        with _naming(path):
            opened = temporary.open("xb")
        with opened as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
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
    except FileExistsError:  # it came meanwhile
        raise taken(path) from None


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Raise what fails as an error about the file that is meant, not about the one that stands in for it."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
