"""What a process and the store's folder use over time, and the rule by which that is flat."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final

from msgspec import Struct
from typing_extensions import override

from tests.faults.soak.worker import DATABASE

WAL_BYTES_MAX: Final = 80 * 2**20
WARM_UP_SECONDS: Final = 60.0
"""What a process imports and caches in its first minute does not count as growth."""

GROWTH_MAX: Final = 1.2
SLACK: Final = {"resident_bytes": 4 * 2**20, "descriptors": 4, "threads": 4}
"""How much a median may grow in any case: by a few readers, by a few pages."""


class Sample(Struct, frozen=True):
    """A measurement of a worker that is never killed, and of the folder; `wal_bytes` is of the write-ahead log."""

    seconds: float
    resident_bytes: int
    descriptors: int
    threads: int
    file_bytes: int
    wal_bytes: int
    scratch_files: int
    scratch_bytes: int

    @override
    def __str__(self) -> str:
        resident, wal, file, scratch = (
            size / 2**20 for size in (self.resident_bytes, self.wal_bytes, self.file_bytes, self.scratch_bytes)
        )
        return (
            f"RSS {resident:.1f} MiB, {self.descriptors} descriptors, {self.threads} threads, store {file:.1f} MiB,"
            f" WAL {wal:.1f} MiB, {self.scratch_files} scratch files of {scratch:.1f} MiB"
        )


def look(seconds: float, pid: int, folder: Path) -> Sample | None:
    """Return a measurement, or None if the process has just ended. Needs `/proc`."""
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    if "VmRSS" not in status:
        return None
    scratch = [_size(each) for pattern in ("*-rebuild", "*-compare-*") for each in folder.glob(DATABASE + pattern)]
    return Sample(
        seconds=round(seconds, 2),
        resident_bytes=int(status["VmRSS"].split()[0]) * 1024,
        descriptors=sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
        threads=int(status["Threads"]),
        file_bytes=_size(folder / DATABASE),
        wal_bytes=_size(folder / f"{DATABASE}-wal"),
        scratch_files=len(scratch),
        scratch_bytes=sum(scratch),
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def growing(samples: Sequence[Sample], scratch_files_max: int) -> list[str]:
    """Return a line for each figure that is not flat.

    The median of the last third may be 1.2 times that of the second third, or exceed it by `SLACK`; this is checked
    only if the second third began after the first minute. The write-ahead log may have 64 MiB, a quarter more while
    there are readers, and the size of the file, which a compaction writes into it. There may be as many scratch files
    as processes: those that a kill left are gone with the next compaction.
    """
    third = len(samples) // 3
    second, last = samples[third : 2 * third], samples[2 * third :]
    found = []
    for name, slack in SLACK.items() if samples[third].seconds >= WARM_UP_SECONDS else ():
        before, after = (median(getattr(each, name) for each in part) for part in (second, last))
        if after > max(before * GROWTH_MAX, before + slack):
            found.append(f"{name}: {before:,.0f}, then {after:,.0f}")
    largest = max(each.file_bytes for each in samples)
    if (wal := max(each.wal_bytes for each in samples)) > WAL_BYTES_MAX + largest:
        found.append(f"wal_bytes: {wal:,}, of a file of {largest:,}")
    if (scratch := median(each.scratch_files for each in last)) > scratch_files_max:
        found.append(f"scratch_files: {scratch}")
    return found
