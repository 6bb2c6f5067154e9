"""Power is cut at any write: acknowledged events survive, chain and views are whole, and the file opens by itself.

A story runs once, while `recorder.c` records every change to its folder. Then the power is cut at points of the
recording, each time with another part of the unsynced changes on the disk (`disk/simulated.py`), and the store is
opened.
"""

import logging
import multiprocessing
import os
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.faults.disk.power import Left, Point, Recorded, complaints, left_behind, points, record, record_story

LOG = logging.getLogger(__name__)
DURABLE = ("commits", "checkpoints", "emptied log", "migration", "older views", "rebuild", "erase", "delete", "import")
CUTS_A_STORY = 2_400  # 21,600 in all
SECOND_CUTS_A_STORY = 600  # 5,400 in all
_SHOWN = 5


def _cut_twice(recorder: Path, lefts: Sequence[Left], cuts: int, seed: int) -> list[str]:
    """Cut the power again, `cuts` times, while each of these is opened and written to; return what is wrong then."""
    recoveries = record(recorder, [left.files for left in lefts], "recover")
    found = list[str]()
    for left, recovery in zip(lefts, recoveries, strict=True):
        again = points(len(recovery.changes), cuts, seed)
        found += [f"{left.point}, then {what}" for what in complaints(recovery._replace(told=left.told), again)]
    return found


def _some(recorded: Recorded, cuts: Sequence[Point]) -> list[Left]:
    return list(left_behind(recorded, cuts))


@pytest.mark.parametrize("story", DURABLE)
def test_nothing_is_lost(recorder: Path, story: str) -> None:
    """A power cut at any change loses nothing acknowledged, whichever unsynced changes have reached the disk."""
    recorded = record_story(recorder, story)
    assert complaints(recorded, points(len(recorded.changes), 25, seed=1))[:_SHOWN] == []


def test_nothing_is_lost_by_a_second_cut(recorder: Path) -> None:
    """A second power cut, while the file left by the first is opened and written to, loses nothing acknowledged."""
    recorded = record_story(recorder, "checkpoints")
    lefts = _some(recorded, points(len(recorded.changes), 4, seed=2))
    assert _cut_twice(recorder, lefts, 5, seed=3)[:_SHOWN] == []


def test_a_build_that_acknowledges_before_the_commit_is_caught(recorder: Path) -> None:
    """The cuts catch an engine that acknowledges before its commit."""
    recorded = record_story(recorder, "commits", early=True)
    found = complaints(recorded, points(len(recorded.changes), 50, seed=4))
    assert any("Told" in each for each in found)


def test_without_syncs_the_last_writes_may_be_lost_and_the_file_is_whole(recorder: Path) -> None:
    """With `durability="relaxed"` a power cut may lose acknowledged writes, and does no other damage."""
    recorded = record_story(recorder, "relaxed")
    found = complaints(recorded, points(len(recorded.changes), 100, seed=5))
    assert found
    assert [each for each in found if "Told" not in each] == []


@pytest.mark.slow
@pytest.mark.parametrize("story", DURABLE)
def test_nothing_is_lost_at_thousands_of_points(recorder: Path, story: str) -> None:
    """In 21,600 power cuts, nothing acknowledged is lost."""
    recorded = record_story(recorder, story)
    cuts = points(len(recorded.changes), CUTS_A_STORY, seed=random.randrange(2**32))
    found = _in_all_processes([partial(complaints, recorded, some) for some in _shares(sorted(cuts))])
    LOG.info("%s: cut %d times among %d changes", story, len(cuts), len(recorded.changes))
    assert found[:_SHOWN] == []


@pytest.mark.slow
@pytest.mark.parametrize("story", DURABLE)
def test_nothing_is_lost_by_thousands_of_second_cuts(recorder: Path, story: str) -> None:
    """In 5,400 second power cuts, five after each first one, nothing acknowledged is lost."""
    recorded = record_story(recorder, story)
    lefts = _some(recorded, points(len(recorded.changes), SECOND_CUTS_A_STORY // 5, seed=random.randrange(2**32)))
    halves = lefts[::2], lefts[1::2]
    seed = random.randrange(2**32)
    found = _in_all_processes([partial(_cut_twice, recorder, some, 5, seed) for some in halves])
    LOG.info("%s: cut %d times, each then five times more", story, len(lefts))
    assert found[:_SHOWN] == []


def _shares(cuts: Sequence[Point]) -> list[Sequence[Point]]:
    # Adjacent cuts go together: they often leave the same files, which are then surveyed only once.
    size = -(-len(cuts) // (os.cpu_count() or 1))
    return [cuts[start : start + size] for start in range(0, len(cuts), size)]


def _in_all_processes(jobs: Sequence[partial[list[str]]]) -> list[str]:
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        return [each for found in pool.map(_call, jobs) for each in found]


def _call(job: partial[list[str]]) -> list[str]:
    return job()
