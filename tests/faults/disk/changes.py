"""What `recorder.c` wrote down: the changes that a process made to a folder, in their order."""

import shutil
import struct
import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import pytest

_HEAD = struct.Struct("<cIIQ")
_SOURCE = Path(__file__).with_name("recorder.c")


class Kind(StrEnum):
    CREATED = "C"
    WRITTEN = "W"
    TRUNCATED = "T"  # to `offset` bytes; it may be made longer
    SYNCED = "S"
    SYNC_FAILED = "F"
    REMOVED = "U"
    RENAMED = "R"  # to the name in `data`
    LINKED = "L"  # the same, and the old name stays
    ACKNOWLEDGED = "A"  # no change: what the caller was told, as text in `data`


class Change(NamedTuple):
    """One change; `name` is the file's in the folder, which is "" itself."""

    kind: Kind
    name: str
    offset: int
    data: bytes


def read_changes(recording: Path) -> list[Change]:
    """Return all changes that were written down."""
    data, start, changes = recording.read_bytes(), 0, list[Change]()
    while start < len(data):
        kind, name_size, size, offset = _HEAD.unpack_from(data, start)
        start += _HEAD.size
        name = data[start : start + name_size].decode()
        start += name_size
        changes.append(Change(Kind(kind.decode()), name, offset, data[start : start + size]))
        start += size
    return changes


def build_recorder(folder: Path) -> Path:
    """Compile the recorder into `folder` and return the library to preload; skip the test where that cannot be done."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler and Linux, to see and to fail single system calls")
    library = folder / "recorder.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, _SOURCE, "-ldl", "-lpthread"], check=True)
    return library
