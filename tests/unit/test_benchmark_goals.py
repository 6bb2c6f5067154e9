"""The benchmark's goals are judged by the medians of one run; what was not measured is not judged."""

import pytest

from benchmarks.goals import Goal, judge
from benchmarks.results import Measured, Row, WorkResult, summed_up

LIMIT = "limit (a): group commit"


def row(participant: str, **figures: float) -> Row:
    """A participant's row with one measurement."""
    return summed_up(participant, [Measured(figures=figures)])


def result(work: str, *rows: Row) -> WorkResult:
    return WorkResult(work=work, title="", rows=list(rows))


def verdicts(*results: WorkResult) -> dict[str, bool | None]:
    return {goal.goal: goal.met for goal in judge(results)}


def test_parallel_writes_are_held_against_the_limit_and_the_peers() -> None:
    """W1 is judged against the limit and the peers; the goal against a peer that was not measured stays open."""
    measured = result(
        "W1",
        row("anabranch", operations_per_s=30_000, p99_ms=6.1),
        row(LIMIT, operations_per_s=60_000, p99_ms=2.0),
        row("plain aiosqlite", operations_per_s=15_100),
    )
    assert verdicts(measured) == {
        "≥ 0.5 x limit (a)": True,
        "≥ 15 x eventsourcing": None,
        "≥ 2 x plain aiosqlite": False,
        "p99 ≤ 3 x the limit's": False,
    }


def test_a_goal_says_what_was_measured() -> None:
    """A goal states the measured ratio with its verdict."""
    measured = result("W8", row("anabranch", p50_ms=0.6), row("bare row, aiosqlite", p50_ms=0.25))
    assert judge([measured]) == [Goal("W8", "p50 ≤ 3 x a bare row through aiosqlite", "2.40 x", met=True)]


@pytest.mark.parametrize(("missing", "errors", "met"), [(0, {}, True), (1, {}, False), (0, {"locked": 2}, False)])
def test_several_processes_lose_nothing(missing: int, errors: dict[str, int], met: bool) -> None:  # noqa: FBT001 - a case
    """W2 is not met if a write is missing or an error occurred."""
    measured = Measured(figures={"max_ms": 20.0}, missing=missing, errors=errors)
    assert verdicts(result("W2", summed_up("anabranch", [measured])))["0 errors, 0 missing"] is met


def test_the_longest_wait_has_a_bound() -> None:
    """The longest wait of W2 is judged by the median of the rounds."""
    rounds = [Measured(figures={"max_ms": value}) for value in (100.0, 240.0, 900.0)]
    assert verdicts(result("W2", summed_up("anabranch", rounds)))["max ≤ 250 ms"] is True


def test_reduction_is_held_against_the_fastest_peer() -> None:
    """W3 is judged against the fastest peer, which "anabranch relaxed" does not count as."""
    measured = result(
        "W3",
        row("anabranch", reduce_64_ms=2.0, reduce_1000_ms=30.0),
        row("anabranch relaxed", reduce_64_ms=1.0, reduce_1000_ms=15.0),
        row("plain aiosqlite", reduce_64_ms=5.0, reduce_1000_ms=20.0),
        row("langgraph saver", reduce_64_ms=30.0, reduce_1000_ms=500.0),
    )
    assert verdicts(measured) == {
        "64 children ≤ 0.5 x the fastest peer (plain aiosqlite)": True,
        "1,000 children ≤ 15.6 x 64": True,
    }


@pytest.mark.parametrize(
    ("rate", "floor", "met"), [(120_000, 500_000, True), (60_000, 110_000, True), (60_000, 200_000, False)]
)
def test_a_rebuild_is_fast_or_near_the_floor(rate: int, floor: int, met: bool) -> None:  # noqa: FBT001 - a case
    """W4 is met if the rebuild is fast enough or close enough to the floor."""
    measured = result("W4", row("anabranch", events_per_s=rate), row("floor: decode, insert", events_per_s=floor))
    assert list(verdicts(measured).values()) == [met]


def test_a_fork_costs_the_same_with_many_parameters() -> None:
    """W6 compares the fork with most parameters with the one with fewest."""
    measured = result("W6", row("anabranch", fork_10_ms=0.4, fork_1000_ms=9.0, fork_100000_ms=0.5))
    assert verdicts(measured) == {"100,000 parameters ≤ 1.2 x 10": False}


def test_growth_compares_the_largest_size_with_the_smallest() -> None:
    """W7 compares each figure of the largest log with that of the smallest."""
    measured = result(
        "W7",
        row("10,000 events", operations_per_s=100, open_ms=3.0, memory_mib=40.0, rebuild_memory_mib=50.0),
        row("100,000 events", operations_per_s=95, open_ms=3.1, memory_mib=41.0, rebuild_memory_mib=61.0),
    )
    assert list(verdicts(measured).values()) == [True, True, True, False]


def test_the_lag_of_a_subscription_has_two_bounds() -> None:
    """W9 is judged within one process and across processes separately."""
    measured = result("W9", row("same process", p99_ms=0.5), row("another process", p99_ms=120.0))
    assert list(verdicts(measured).values()) == [True, False]


def test_what_was_not_asked_for_is_not_judged() -> None:
    """Works without goals are not judged, nor are the goals of works that were not run."""
    assert judge([result("W5"), result("W10")]) == []
