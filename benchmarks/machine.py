"""The machine that a run measured on, which absolute figures depend on."""

import os
import platform
import sqlite3
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

from msgspec import Struct

_SYNCS: Final = 50
_BLOCK: Final = bytes(4096)
_MEMORY_FILE_SYSTEMS: Final = ("tmpfs", "ramfs")


class Machine(Struct, frozen=True, kw_only=True):
    """The machine and the time. `sync_us` is the median of writing and syncing a block of 4 KiB, in microseconds."""

    measured_at: str
    processor: str
    cores: int
    system: str
    python: str
    sqlite: str
    file_system: str
    sync_us: float

    @property
    def is_memory_only(self) -> bool:
        """Whether the folder is in memory, where a sync costs nothing."""
        return self.file_system in _MEMORY_FILE_SYSTEMS

    def in_words(self) -> str:
        """Return a description in one line."""
        return (
            f"{self.measured_at}, {self.cores} cores ({self.processor}), {self.system}, Python {self.python}, "
            f"SQLite {self.sqlite}, {self.file_system}, a synced block of 4 KiB takes {self.sync_us:.0f} µs"
        )


def look(folder: Path) -> Machine:
    """Describe the machine, and the disk of a folder."""
    return Machine(
        measured_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        sqlite=sqlite3.sqlite_version,
        file_system=_file_system(folder),
        sync_us=_sync_us(folder),
    )


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _file_system(folder: Path) -> str:
    """Return the file system type of the longest mount point above the folder."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    above = {point: kind for _, point, kind, *_ in mounts if folder.resolve().is_relative_to(point)}
    return above[max(above, key=len)] if above else sys.platform


def _sync_us(folder: Path) -> float:
    seconds = []
    with TemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(_SYNCS):
            began = time.perf_counter()
            file.write(_BLOCK)
            os.fdatasync(file.fileno())
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds) * 1e6
