"""Backups: the protocol between the engine and the log, and the result."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeAlias

from msgspec import Struct

BackupProgress: TypeAlias = Callable[[str, int, int], None]
"""Called with the phase, the work done and the total: in pages while copying, then in events."""


class BackedUp(Struct, frozen=True, kw_only=True):
    """The contents of a verified backup.

    `bytes` is the file's size, `position` that of the last event, and `root` the root of the tree over the runs
    (`engine.proof.merkle`), 64 hexadecimal digits, which equals the root in a checkpoint of the copy.
    """

    path: Path
    bytes: int
    runs: int
    events: int
    position: int
    root: str


class Backup(Protocol):
    """Copies the store while it is in use."""

    async def backup(self, path: Path, progress: BackupProgress | None) -> BackedUp: ...
