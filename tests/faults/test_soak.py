"""Long runs of several processes, some of them killed: at the end the store is what they were acknowledged."""

import asyncio
import logging
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import open_engine
from tests.faults.soak.agreement import assert_agreement
from tests.faults.soak.moves import SHARED
from tests.faults.soak.report import described
from tests.faults.soak.resources import Sample, growing
from tests.faults.soak.soak import Soak, assert_flat
from tests.forger import cut_off

LOG = logging.getLogger(__name__)
NIGHTLY_SECONDS = float(os.environ.get("ANABRANCH_SOAK_SECONDS", "1800"))


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(10.0, marks=pytest.mark.slow, id="ten seconds"),
        pytest.param(NIGHTLY_SECONDS, marks=[pytest.mark.nightly, pytest.mark.timeout(0)], id="nightly"),
    ],
)
async def test_what_processes_were_acknowledged_is_what_there_is(tmp_path: Path, seconds: float) -> None:
    """After a soak with kills and every kind of move, model and store agree, and the resources in use are flat."""
    soaked = await Soak(tmp_path, seconds).run()
    LOG.info("%s", described(soaked))
    assert soaked.kills > 0
    assert_flat(soaked)


@pytest.fixture(scope="module")
def soaked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a soak that was found to agree."""
    folder = tmp_path_factory.mktemp("soaked")
    asyncio.run(Soak(folder, 4).run())
    return folder


def an_event_is_lost(folder: Path) -> None:
    connection = sqlite3.connect(folder / "runs.db", isolation_level=None)
    (version,) = connection.execute(
        "SELECT version FROM streams WHERE run_id = ? AND branch = ''", (SHARED,)
    ).fetchone()
    cut_off(connection, SHARED, "", version - 1)
    connection.close()


def an_event_is_unacknowledged(folder: Path) -> None:
    _edit(folder / "parent.journal", lambda lines: lines[:2])


def a_move_is_acknowledged_twice(folder: Path) -> None:
    _edit(folder / "w1.0.journal", lambda lines: [*lines, *lines[:2]])


def another_value_was_asked_for(folder: Path) -> None:
    _edit(folder / "parent.journal", lambda lines: [lines[0].replace(b'"a":0', b'"a":1'), *lines[1:]])


def a_subscriber_sees_an_event_twice(folder: Path) -> None:
    _edit(folder / "w2.all", lambda lines: [lines[0], *lines])


def a_subscriber_misses_an_event(folder: Path) -> None:
    _edit(folder / "w3.shared", lambda lines: lines[1:])


def a_subscriber_stops_early(folder: Path) -> None:
    _edit(folder / "w3.all", lambda lines: lines[:-1])


def _edit(path: Path, edit: Callable[[list[bytes]], list[bytes]]) -> None:
    path.write_bytes(b"".join(edit(path.read_bytes().splitlines(keepends=True))))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tamper", "found"),
    [
        (an_event_is_lost, "acknowledged but missing"),
        (an_event_is_unacknowledged, "no move was acknowledged"),
        (a_move_is_acknowledged_twice, "and another move were both acknowledged"),
        (another_value_was_asked_for, "there is"),
        (a_subscriber_sees_an_event_twice, "came after"),
        (a_subscriber_misses_an_event, "w3.shared does not hold the shared run's events"),
        (a_subscriber_stops_early, "w3.all ends too early"),
    ],
)
async def test_what_does_not_agree_is_found(
    soaked: Path, tmp_path: Path, tamper: Callable[[Path], None], found: str
) -> None:
    """The comparison finds events that are lost, unacknowledged, repeated or wrong, or that a subscriber missed."""
    folder = shutil.copytree(soaked, tmp_path / "copy")
    tamper(folder)
    async with open_engine(folder / "runs.db") as engine:
        with pytest.raises(AssertionError, match=found):
            await assert_agreement(folder, engine)


def _samples(**growth: int) -> list[Sample]:
    flat = dict.fromkeys(Sample.__struct_fields__, 10_000_000)
    return [
        Sample(**{**flat, "scratch_files": 0, **{name: step * n for name, step in growth.items()}}) for n in range(30)
    ]


@pytest.mark.parametrize("name", ["resident_bytes", "descriptors", "threads", "wal_bytes", "scratch_files"])
def test_growth_is_reported(name: str) -> None:
    """`growing` names the one figure that grows, and nothing if all are flat."""
    assert growing(_samples(), 4) == []
    assert [each.split(":")[0] for each in growing(_samples(**{name: 5_000_000}), 4)] == [name]


def test_growth_in_the_first_minute_is_not_reported() -> None:
    """Growth is not reported if the second third of the samples began in the first minute, in which caches fill."""
    assert growing(_samples(seconds=1, resident_bytes=5_000_000), 4) == []
    assert growing(_samples(seconds=7, resident_bytes=5_000_000), 4) != []
