"""W2: one run, its branches divided among several processes that write to one store concurrently."""

from pathlib import Path
from typing import Final

from benchmarks.peers.registry import PEERS
from benchmarks.results import Measured
from benchmarks.scale import Scale
from benchmarks.works.parallel_writes import LATENCIES, OPERATIONS, OPERATIONS_OF_A_BRANCH
from benchmarks.works.work import Column, Work
from benchmarks.writing import write

_EVENNESS: Final = Column("slowest_to_fastest_ratio", "slowest/fastest", 2)


def measure(participant: str, folder: Path, scale: Scale) -> Measured:
    """Do the work once."""
    return write(participant, folder, scale, scale.processes)


WORK: Final = Work(
    name="W2",
    title="parallel branch writes from several processes",
    participants=lambda _: tuple(peer.name for peer in PEERS),
    measure=measure,
    columns=lambda _: (OPERATIONS, *LATENCIES, _EVENNESS, OPERATIONS_OF_A_BRANCH),
)
