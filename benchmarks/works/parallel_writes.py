"""W1: one run, all its branches written concurrently by one process."""

import asyncio
from pathlib import Path
from typing import Final

from benchmarks.peers import one_transaction
from benchmarks.peers.registry import PEERS
from benchmarks.results import Measured
from benchmarks.scale import Scale
from benchmarks.works.work import Column, Work
from benchmarks.writing import write

OPERATIONS: Final = Column("operations_per_s", "op/s")
OPERATIONS_OF_A_BRANCH: Final = Column("operations_of_a_branch", "op/branch")
"""Fewer for the slowest peers; see `PeerEntry.shortened`."""

LATENCIES: Final = (Column("p50_ms", "p50 ms", 2), Column("p99_ms", "p99 ms", 2), Column("max_ms", "max ms", 1))


def measure(participant: str, folder: Path, scale: Scale) -> Measured:
    """Do the work once."""
    if participant == one_transaction.NAME:
        return asyncio.run(one_transaction.write_in_one_transaction(folder, scale))
    return write(participant, folder, scale)


WORK: Final = Work(
    name="W1",
    title="parallel branch writes",
    participants=lambda _: (*(peer.name for peer in PEERS), one_transaction.NAME),
    measure=measure,
    columns=lambda _: (OPERATIONS, *LATENCIES, OPERATIONS_OF_A_BRANCH),
)
