"""Where a command's bytes go: the standard output, or a file that is there whole or not at all."""

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from engine.cli.escapes import json_visible
from engine.errors import AlreadyExists, shown
from engine.logs.file_system import sync_folder_if_readable, take_name


class FileIsThere(AlreadyExists):
    """The file exists; nothing was written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"{shown(path)} exists; overwriting it has to be asked for")


class ByteSink(Protocol):
    """Where bytes are written to."""

    def write(self, written: bytes, /) -> int: ...


class _Terminal:
    """A terminal that JSON is shown on: what it would obey comes as escapes, and is no longer what a file has."""

    def write(self, written: bytes) -> int:
        return sys.stdout.write(json_visible(written.decode()))


@contextlib.contextmanager
def standard_output() -> Iterator[ByteSink]:
    """Give the standard output for the bytes of lines of JSON: exact into a file or a pipe, safe on a terminal."""
    sys.stdout.flush()
    yield _Terminal() if sys.stdout.isatty() else sys.stdout.buffer
    sys.stdout.flush()
    sys.stdout.buffer.flush()


@contextlib.contextmanager
def whole_file(path: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    """Give a file that takes its name when it is complete and synced; whatever happens before, nothing is left of it.

    Raises:
        FileIsThere, OSError
    """
    if not overwrite and path.exists():
        raise FileIsThere(path)
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
                _take_name(temporary, path)
            sync_folder_if_readable(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _take_name(temporary: Path, path: Path) -> None:
    try:
        take_name(temporary, path)
    except FileExistsError:  # it came meanwhile
        raise FileIsThere(path) from None


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Raise what fails as an error about the file that is meant, not about the one that stands in for it."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
