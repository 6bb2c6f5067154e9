"""Where a command writes bytes: standard output, or a file that is complete or does not exist."""

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
    """Anything that bytes can be written to."""

    def write(self, written: bytes, /) -> int: ...


class _Terminal:
    """A terminal that shows JSON with control characters as escapes, so not byte for byte what a file would hold."""

    def write(self, written: bytes) -> int:
        return sys.stdout.write(json_visible(written.decode()))


@contextlib.contextmanager
def standard_output() -> Iterator[ByteSink]:
    """Yield standard output for lines of JSON: byte-exact into a file or a pipe, escaped on a terminal."""
    sys.stdout.flush()
    yield _Terminal() if sys.stdout.isatty() else sys.stdout.buffer
    sys.stdout.flush()
    sys.stdout.buffer.flush()


def whole_file(path: Path, *, overwrite: bool) -> AbstractContextManager[BinaryIO]:
    """Open a file that gets its name once it is complete; see `engine.logs.whole_file`.

    Raises:
        FileIsThere, OSError
    """
    return complete_file(path, overwrite=overwrite, taken=FileIsThere)
