"""What `recorder.c` wrote down: the changes that a process made to a folder, in their order."""

import struct
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

_HEAD = struct.Struct("<cIIQ")


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
