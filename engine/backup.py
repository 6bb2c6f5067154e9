"""Backups: the protocol between the engine and the log that makes them, and what is said of one."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeAlias

from msgspec import Struct

BackupProgress: TypeAlias = Callable[[str, int, int], None]
"""Told what is being done, how far that is, and how far it goes: pages are copied, then events are read."""


class BackedUp(Struct, frozen=True, kw_only=True):
    """What a backup holds, every hash of it computed anew.

    `bytes` is the file's size; `position` that of the last event; `root` that of the tree over the runs
    (`engine.proof.merkle`), which a checkpoint of the copy has, too: 64 hexadecimal digits.
    """

    path: Path
    bytes: int
    runs: int
    events: int
    position: int
    root: str


class Backup(Protocol):
    """Copies the store, while it is in use."""

    async def backup(self, path: Path, progress: BackupProgress | None) -> BackedUp: ...
