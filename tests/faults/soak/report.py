"""A soak as text."""

from statistics import median

from tests.faults.soak.resources import Sample
from tests.faults.soak.soak import Soaked

_ROWS = 12


def described(soaked: Soaked) -> str:
    """Return the number and the longest duration of each kind of move, and the resources over time."""
    agreed, acknowledged = soaked.agreed, soaked.agreed.acknowledged
    lines = [
        f"{acknowledged.moves.total():,} moves, {agreed.events:,} events, of which {agreed.events_left:,} are left in"
        f" {agreed.runs_left} runs; {agreed.runs_deleted:,} runs deleted",
        f"{soaked.kills} kills, {soaked.starts} starts, {acknowledged.again} moves made again after a kill",
        *(
            f"{count:10,} {name}, the longest {acknowledged.longest_seconds[name] * 1000:,.0f} ms"
            for name, count in acknowledged.moves.most_common()
        ),
        *(f"{count:10,} refused, {why}" for why, count in acknowledged.refused.most_common()),
        "   seconds     RSS  files threads   store     WAL  scratch (medians; MiB)",
        *_table(soaked.samples),
        f"largest: RSS {_largest(soaked, 'resident_bytes'):.1f} MiB, WAL {_largest(soaked, 'wal_bytes'):.1f} MiB",
    ]
    return "\n".join(lines)


def _largest(soaked: Soaked, name: str) -> float:
    return float(max(getattr(each, name) for each in soaked.samples)) / 2**20


def _table(samples: list[Sample]) -> list[str]:
    size = max(1, len(samples) // _ROWS)
    return [_row(samples[start : start + size]) for start in range(0, len(samples), size)]


def _row(samples: list[Sample]) -> str:
    def mebibytes(name: str) -> float:
        return float(median(getattr(each, name) for each in samples)) / 2**20

    descriptors, threads = (median(getattr(each, name) for each in samples) for name in ("descriptors", "threads"))
    return (
        f"{samples[-1].seconds:10.0f} {mebibytes('resident_bytes'):7.1f} {descriptors:6.0f} {threads:7.0f}"
        f" {mebibytes('file_bytes'):7.1f} {mebibytes('wal_bytes'):7.1f} {mebibytes('scratch_bytes'):8.1f}"
    )
