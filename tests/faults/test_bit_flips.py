"""Bit rot: a bit, a byte or a sector of a store's files changes, although no process wrote it.

A change in the database file is detected (the file is not opened, a read raises an error, or `verify`, `verify_views`
or the doctor finds it), or every read returns the same as before. A change in the write-ahead log ends the log there:
each of its frames has a checksum, and SQLite treats everything from the first wrong one on as never committed. A crash
in the middle of a write looks the same, so nothing in the files tells the two apart, and acknowledged events from the
end of the log may be missing. What is left is whole and ends at a commit; a checkpoint that was kept elsewhere
(`verify --since`) shows what is missing. A log is in use until it is copied into the database, which happens at every
thousand pages and when the last process closes.
"""

import logging
import signal
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.faults.bit_flips import CHANGED, CUT_OFF, HARMLESS, record
from tests.faults.children import start_program

LOG = logging.getLogger(__name__)

PROGRAM = "tests.faults.bit_flips"
_BY_ONE_CHILD = 250


async def _outcomes(folder: Path, seeds: range) -> Counter[tuple[str, str]]:
    """Damage the store in a folder by each seed; count the outcomes for each damaged file."""
    counted: Counter[tuple[str, str]] = Counter()
    for first in range(seeds.start, seeds.stop, _BY_ONE_CHILD):
        some = range(first, min(first + _BY_ONE_CHILD, seeds.stop))
        child = await start_program(PROGRAM, folder, some.start, some.stop)
        output, errors = await child.communicate()
        lines = [line.split("\t") for line in output.decode().splitlines()]
        assert child.returncode == 0, f"at seed {some.start + len(lines)}: {errors.decode()[-2000:]}"
        assert [int(seed) for seed, *_ in lines] == list(some)
        silent = [seed for seed, _, outcome in lines if outcome == CHANGED]
        assert silent == [], "these seeds changed reads and were not detected"
        counted.update((name, outcome) for _, name, outcome in lines)
    for (name, outcome), count in counted.most_common():
        LOG.info("%5d  %s  %s", count, name, outcome)
    return counted


def _total(counted: Counter[tuple[str, str]], outcomes: Iterable[str]) -> int:
    return sum(count for (_, outcome), count in counted.items() if outcome in outcomes)


@pytest.mark.parametrize(
    "seeds", [pytest.param(range(16), id="16"), pytest.param(range(100, 1500), id="1,400", marks=pytest.mark.slow)]
)
async def test_a_damaged_database(tmp_path: Path, seeds: range) -> None:
    """Damage anywhere in the file of a closed store is detected, or changes no read."""
    await record(tmp_path)
    counted = await _outcomes(tmp_path, seeds)
    assert _total(counted, [CUT_OFF]) == 0
    assert _total(counted, [HARMLESS]) < len(seeds) * 3 // 4


@pytest.mark.parametrize(
    "seeds", [pytest.param(range(16), id="16"), pytest.param(range(100, 700), id="600", marks=pytest.mark.slow)]
)
async def test_a_damaged_log_of_a_killed_process(tmp_path: Path, seeds: range) -> None:
    """Damage to a killed process's files is detected, changes no read, or cuts off the write-ahead log at a commit."""
    killed = await start_program(PROGRAM, tmp_path)
    await killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    counted = await _outcomes(tmp_path, seeds)
    assert {name for name, outcome in counted if outcome == CUT_OFF} == {"runs.db-wal"}
    assert {outcome for name, outcome in counted if name == "runs.db-shm"} <= {HARMLESS}  # it is rebuilt
