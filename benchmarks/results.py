"""The measurements of one round and of all rounds together; also the shape of the JSON."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct, field

_HUNDREDTHS: Final = 100


class Measured(Struct, frozen=True, kw_only=True):
    """One round of one participant. A figure's name ends in its unit.

    `missing` counts operations that were asked for and are not in the store afterwards; `errors` counts exceptions and
    wrong results.
    """

    figures: dict[str, float] = field(default_factory=dict)
    durability: str = ""
    missing: int = 0
    errors: dict[str, int] = field(default_factory=dict)


class Spread(Struct, frozen=True):
    """One figure over all rounds."""

    median: float
    least: float
    most: float
    rounds: list[float]


class Row(Struct, frozen=True, kw_only=True):
    """One participant's rounds of one work."""

    participant: str
    durability: str
    figures: dict[str, Spread]
    missing: int
    errors: dict[str, int]

    def median(self, figure: str) -> float | None:
        """Return the median of a figure, or None if no round has it."""
        found = self.figures.get(figure)
        return None if found is None else found.median


class WorkResult(Struct, frozen=True, kw_only=True):
    """All participants' rounds of one work."""

    work: str
    title: str
    rows: list[Row]

    def median(self, participant: str, figure: str) -> float | None:
        """Return the median of a participant's figure, or None if there is none."""
        return next((row.median(figure) for row in self.rows if row.participant == participant), None)


class LeftOut(Struct, frozen=True):
    """A peer that is not installed, and the extra that installs it."""

    participant: str
    extra: str


def spread(values: Sequence[float]) -> Spread:
    """Return the median and the range of at least one value."""
    return Spread(statistics.median(values), min(values), max(values), list(values))


def summed_up(participant: str, rounds: Sequence[Measured]) -> Row:
    """Combine the rounds of one participant; a round that failed has no figures."""
    names = dict.fromkeys(name for each in rounds for name in each.figures)
    errors: Counter[str] = Counter()
    for each in rounds:
        errors.update(each.errors)
    return Row(
        participant=participant,
        durability=next((each.durability for each in rounds if each.durability), ""),
        figures={name: spread([each.figures[name] for each in rounds if name in each.figures]) for name in names},
        missing=sum(each.missing for each in rounds),
        errors=dict(errors),
    )


def percentile(values: Sequence[float], hundredths: int) -> float:
    """Return the value below which that many hundredths of the values lie."""
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=_HUNDREDTHS, method="inclusive")[hundredths - 1]


def latencies_ms(seconds: Sequence[float], prefix: str = "") -> Mapping[str, float]:
    """Return the percentiles and the maximum of some latencies, in milliseconds."""
    return {
        f"{prefix}p50_ms": percentile(seconds, 50) * 1000,
        f"{prefix}p99_ms": percentile(seconds, 99) * 1000,
        f"{prefix}max_ms": max(seconds) * 1000,
    }
