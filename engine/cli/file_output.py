"""Where a command's bytes go: the standard output, or a file that is there whole or not at all."""

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from engine.errors import AlreadyExists, shown


class FileIsThere(AlreadyExists):
    """The file exists; nothing was written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"{shown(str(path))} exists; overwriting it has to be asked for")


@contextlib.contextmanager
def standard_output() -> Iterator[BinaryIO]:
    """Give the standard output as bytes."""
    sys.stdout.flush()
    yield sys.stdout.buffer
    sys.stdout.buffer.flush()


@contextlib.contextmanager
def whole_file(path: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    """Give a file that takes its name when it is complete and synced; whatever happens before, nothing is left of it.

    Raises:
        FileIsThere, OSError
    """
    if not overwrite and path.exists():
        raise FileIsThere(path)
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
