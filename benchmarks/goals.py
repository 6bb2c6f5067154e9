"""The goals, and whether the results of a run meet them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from msgspec import Struct

from benchmarks.peers.registry import ANABRANCH, EVENTSOURCING, LIMIT, PLAIN, RELAXED
from benchmarks.results import WorkResult
from benchmarks.works import fork_cost, reduction
from benchmarks.works.lone_writer import BARE_ROW
from benchmarks.works.rebuild import EVENTS_PER_S, FLOOR
from benchmarks.works.subscription_lag import OTHER_PROCESS, SAME_PROCESS

ByWork: TypeAlias = Mapping[str, WorkResult]

_RATE: Final = "operations_per_s"
_REBUILD_EVENTS_PER_S: Final = 100_000
_MAX_MS: Final = 250
_SAME_PROCESS_MS: Final = 5
_OTHER_PROCESS_MS: Final = 100


class Goal(Struct, frozen=True):
    """A goal, what was measured, and whether that meets it, or None if it was not measured."""

    work: str
    goal: str
    measured: str
    met: bool | None


def judge(results: Sequence[WorkResult]) -> list[Goal]:
    """Compare the results with every goal of their works."""
    by_work = {result.work: result for result in results}
    return [goal for work, goals in _GOALS.items() if work in by_work for goal in goals(by_work[work])]


def _parallel_writes(result: WorkResult) -> Iterator[Goal]:
    yield _at_least(result, "0.5 x limit (a)", 0.5, _RATE, LIMIT)
    yield _at_least(result, "15 x eventsourcing", 15, _RATE, EVENTSOURCING)
    yield _at_least(result, "2 x plain aiosqlite", 2, _RATE, PLAIN)
    yield _at_most(result, "p99 ≤ 3 x the limit's", 3, "p99_ms", LIMIT)


def _parallel_processes(result: WorkResult) -> Iterator[Goal]:
    yield _at_least(result, "0.5 x limit (a) with the fair lock", 0.5, _RATE, LIMIT)
    yield _at_most(result, "p99 ≤ 3 x the limit's", 3, "p99_ms", LIMIT)
    yield _below(result, f"max ≤ {_MAX_MS} ms", _MAX_MS, ANABRANCH, "max_ms")
    faults = [row for row in result.rows if row.participant == ANABRANCH]
    errors, missing = sum(sum(row.errors.values()) for row in faults), sum(row.missing for row in faults)
    measured = f"{errors} errors, {missing} missing" if faults else ""
    yield Goal(result.work, "0 errors, 0 missing", measured, not errors and not missing if faults else None)


def _reduction(result: WorkResult) -> Iterator[Goal]:
    sizes = _sizes(result, "reduce_")
    fewest, most = reduction.figure(sizes[0]), reduction.figure(sizes[-1])
    peers = [row for row in result.rows if row.participant not in (ANABRANCH, RELAXED) and fewest in row.figures]
    fastest = min(peers, key=lambda row: row.figures[fewest].median, default=None)
    name = "the fastest peer" if fastest is None else f"the fastest peer ({fastest.participant})"
    yield _at_most(
        result,
        f"{sizes[0]} children ≤ 0.5 x {name}",
        0.5,
        fewest,
        "" if fastest is None else fastest.participant,
    )
    linear = sizes[-1] / sizes[0]
    yield _grown(result, f"{sizes[-1]:,} children ≤ {linear:.1f} x {sizes[0]}", linear, (ANABRANCH, most), fewest)


def _rebuild(result: WorkResult) -> Iterator[Goal]:
    rate, floor = result.median(ANABRANCH, EVENTS_PER_S), result.median(FLOOR, EVENTS_PER_S)
    goal = f"≥ {_REBUILD_EVENTS_PER_S:,} events/s, or ≥ 0.5 x the floor"
    if rate is None or floor is None:
        yield Goal(result.work, goal, "", None)
        return
    share = rate / floor
    met = rate >= _REBUILD_EVENTS_PER_S or share >= 0.5  # noqa: PLR2004 - the goal's own number
    yield Goal(result.work, goal, f"{rate:,.0f} events/s, {share:.2f} x", met)


def _fork(result: WorkResult) -> Iterator[Goal]:
    sizes = _sizes(result, "fork_")
    fewest, most = fork_cost.figure(sizes[0]), fork_cost.figure(sizes[-1])
    yield _grown(result, f"{sizes[-1]:,} parameters ≤ 1.2 x {sizes[0]}", 1.2, (ANABRANCH, most), fewest)


def _growth(result: WorkResult) -> Iterator[Goal]:
    small, large = result.rows[0].participant, result.rows[-1].participant
    pair = f"at {large}: "
    yield _compared(
        result, f"{pair}append rate ≥ 0.9 x that at {small}", 0.9, (large, _RATE), (small, _RATE), least=True
    )
    yield _compared(result, f"{pair}open ≤ 1.5 x", 1.5, (large, "open_ms"), (small, "open_ms"))
    yield _compared(result, f"{pair}memory ≤ 1.2 x", 1.2, (large, "memory_mib"), (small, "memory_mib"))
    rebuild = "rebuild_memory_mib"
    yield _compared(result, f"{pair}memory of a rebuild ≤ 1.2 x", 1.2, (large, rebuild), (small, rebuild))


def _lone_writer(result: WorkResult) -> Iterator[Goal]:
    yield _at_most(result, "p50 ≤ 3 x a bare row through aiosqlite", 3, "p50_ms", BARE_ROW)


def _lag(result: WorkResult) -> Iterator[Goal]:
    yield _below(result, f"p99 ≤ {_SAME_PROCESS_MS} ms in the same process", _SAME_PROCESS_MS, SAME_PROCESS, "p99_ms")
    yield _below(result, f"p99 ≤ {_OTHER_PROCESS_MS} ms across", _OTHER_PROCESS_MS, OTHER_PROCESS, "p99_ms")


_GOALS: Final[Mapping[str, Callable[[WorkResult], Iterator[Goal]]]] = {
    "W1": _parallel_writes,
    "W2": _parallel_processes,
    "W3": _reduction,
    "W4": _rebuild,
    "W6": _fork,
    "W7": _growth,
    "W8": _lone_writer,
    "W9": _lag,
}

Figure: TypeAlias = tuple[str, str]
"""A participant and the name of one of its figures."""


def _at_least(result: WorkResult, goal: str, bound: float, figure: str, other: str) -> Goal:
    return _compared(result, f"≥ {goal}", bound, (ANABRANCH, figure), (other, figure), least=True)


def _at_most(result: WorkResult, goal: str, bound: float, figure: str, other: str) -> Goal:
    return _compared(result, goal, bound, (ANABRANCH, figure), (other, figure))


def _grown(result: WorkResult, goal: str, bound: float, most: Figure, fewest: str) -> Goal:
    return _compared(result, goal, bound, most, (most[0], fewest))


def _compared(
    result: WorkResult, goal: str, bound: float, figure: Figure, base: Figure, *, least: bool = False
) -> Goal:
    value, other = result.median(*figure), result.median(*base)
    if value is None or not other:
        return Goal(result.work, goal, "", None)
    ratio = value / other
    return Goal(result.work, goal, f"{ratio:.2f} x", ratio >= bound if least else ratio <= bound)


def _below(result: WorkResult, goal: str, bound: float, *figure: str) -> Goal:
    value = result.median(figure[0], figure[1])
    return Goal(
        result.work, goal, "" if value is None else f"{value:.2f} ms", None if value is None else value <= bound
    )


def _sizes(result: WorkResult, prefix: str) -> list[int]:
    """Return the sizes in the names of the figures with this prefix, in order."""
    names = {name for row in result.rows for name in row.figures if name.startswith(prefix)}
    return sorted(int(name.split("_")[1]) for name in names) or [0]
