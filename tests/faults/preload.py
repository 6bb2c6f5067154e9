"""Small C libraries that child processes preload, to observe or interrupt their file operations."""

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec import Struct

from engine.logs.own_files import beside

_SOURCES = Path(__file__).parent
_COUNTS = struct.Struct("=qq")


def compiled(name: str, folder: Path) -> Path:
    """Compile `name`.c into `folder` and return the library; skip the test where that is impossible."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs Linux and a C compiler, to preload a library")
    library = folder / f"{name}.so"
    source = _SOURCES / f"{name}.c"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


def loading(library: Path, **variables: object) -> dict[str, str]:
    """Return the environment of a process that loads the library."""
    return {**os.environ, "LD_PRELOAD": str(library), **{name: str(value) for name, value in variables.items()}}


class Counts(Struct, frozen=True):
    """How often a database's own file was changed, by threads that held the write lock and by others."""

    locked: int
    unlocked: int


class CheckpointWatch:
    """Counts, by `unlocked_writes.c`, the checkpoints of a database in processes that run with its `environment`."""

    def __init__(self, library: Path, database: Path) -> None:
        self._counts = beside(database, "-counts")
        self._counts.write_bytes(_COUNTS.pack(0, 0))
        self.environment = loading(library, WATCHED=database, COUNTS=self._counts)

    def counts(self) -> Counts:
        """Return the counts so far."""
        return Counts(*_COUNTS.unpack(self._counts.read_bytes()))
