"""Where a command's bytes go: the standard output, or a file that is there whole or not at all."""

import contextlib
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol

from engine.cli.escapes import json_visible
from engine.errors import AlreadyExists, shown
from engine.logs.whole_file import whole_file as complete_file


class FileIsThere(AlreadyExists):
    """The file exists; nothing was written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"{shown(path)} exists; --force overwrites it")


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


def whole_file(path: Path, *, overwrite: bool) -> AbstractContextManager[BinaryIO]:
    """Give a file that takes its name when it is complete; see `engine.logs.whole_file`.

    Raises:
        FileIsThere, OSError
    """
    return complete_file(path, overwrite=overwrite, taken=FileIsThere)
