"""W10: bytes on disk after the parallel writes of W1, with the store closed and its write-ahead log written back."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from msgspec import structs

from benchmarks.peers.registry import PEERS
from benchmarks.results import Measured
from benchmarks.scale import Scale
from benchmarks.works.work import Column, Work
from benchmarks.writing import STORE_FOLDER, write

BYTES_PER_OPERATION: Final = Column("bytes_per_operation", "bytes/operation")


def measure(participant: str, folder: Path, scale: Scale) -> Measured:
    """Do the work of W1, and measure the files."""
    written = write(participant, folder, scale)
    size = written.figures["bytes_on_disk"]
    events = _events(folder / STORE_FOLDER)
    figures = {
        BYTES_PER_OPERATION.figure: written.figures[BYTES_PER_OPERATION.figure],
        "bytes_on_disk": size,
        **({"bytes_per_event": size / events} if events else {}),
    }
    return structs.replace(written, figures=figures)


def _events(folder: Path) -> int:
    """Return the number of rows in the events table of anabranch's or the limit's file, or 0 if there is none."""
    for path in folder.glob("*.db"):
        with closing(sqlite3.connect(path)) as connection:
            if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'events'").fetchone():
                events: int = connection.execute("SELECT count(*) FROM events").fetchone()[0]
                return events
    return 0


WORK: Final = Work(
    name="W10",
    title="size on disk after W1",
    participants=lambda _: tuple(peer.name for peer in PEERS),
    columns=lambda _: (BYTES_PER_OPERATION, Column("bytes_per_event", "bytes/event")),
    measure=measure,
    rounds_max=1,
)
