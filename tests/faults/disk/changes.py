"""The changes that a process made to a folder, in order, as `recorder.c` recorded them."""

import struct
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

_HEAD = struct.Struct("<cIIQ")


class Kind(StrEnum):
    CREATED = "C"
    WRITTEN = "W"
    TRUNCATED = "T"  # to `offset` bytes, which may be more than before
    SYNCED = "S"
    SYNC_FAILED = "F"
    REMOVED = "U"
    RENAMED = "R"  # to the name in `data`
    LINKED = "L"  # like RENAMED, but the old name stays
    ACKNOWLEDGED = "A"  # not a change: what the caller was acknowledged, as text in `data`


class Change(NamedTuple):
    """One change; `name` is a file's name in the folder, or "" for the folder itself."""

    kind: Kind
    name: str
    offset: int
    data: bytes


def read_changes(recording: Path) -> list[Change]:
    """Return all recorded changes."""
    data, start, changes = recording.read_bytes(), 0, list[Change]()
    while start < len(data):
        kind, name_size, size, offset = _HEAD.unpack_from(data, start)
        start += _HEAD.size
        name = data[start : start + name_size].decode()
        start += name_size
        changes.append(Change(Kind(kind.decode()), name, offset, data[start : start + size]))
        start += size
    return changes
