"""Any single operation of the disk fails, once or for good: the error is typed, and nothing acknowledged is lost.

A store is opened, written to, maintained and opened again while one of its changes to the disk fails with EIO or
ENOSPC, in some cases after half a write. The store is surveyed once the disk works again, and once more as a power cut
at that time would leave it.
"""

import asyncio
import logging
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import msgspec
import pytest

from tests.faults.disk.failing import FAILURES, Report
from tests.faults.preload import loading

LOG = logging.getLogger(__name__)
_ROOT = Path(__file__).parents[2]
_SHOWN = 5


async def _fail_each(recorder: Path, first: int, every: int) -> Report:
    program = "-m", "tests.faults.disk.failing", str(first), str(every)
    process = await asyncio.create_subprocess_exec(
        sys.executable, *program, env=loading(recorder), cwd=_ROOT, stdout=PIPE, stderr=PIPE
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    report = msgspec.json.decode(output, type=Report)
    assert report.complaints[:_SHOWN] == [], errors.decode()
    return report


async def test_a_change_that_fails(recorder: Path) -> None:
    """Some of the changes to the disk fail, each in every way: the store is whole and nothing acknowledged is lost."""
    report = await _fail_each(recorder, 11, 101)
    assert report.failed >= 5 * len(FAILURES)


@pytest.mark.slow
async def test_every_change_that_fails(recorder: Path) -> None:
    """Each change to the disk fails, in every way: the store is whole and nothing acknowledged is lost."""
    halves = await asyncio.gather(_fail_each(recorder, 1, 2), _fail_each(recorder, 2, 2))
    failed = sum(report.failed for report in halves)
    changes = max(report.changes for report in halves)
    LOG.info("%d failures at %d changes", failed, changes)
    assert failed >= (changes - 20) * len(FAILURES)  # the number of changes varies a little with the timing
