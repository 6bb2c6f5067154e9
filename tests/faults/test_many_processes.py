"""Many processes that write, checkpoint, open and close one file at once."""

import logging
from collections import Counter
from pathlib import Path

import pytest

from engine import open_engine
from tests.faults.acknowledged import assert_recorded
from tests.faults.audit import assert_whole
from tests.faults.children import finished, start_program
from tests.faults.preload import CheckpointWatch

LOG = logging.getLogger(__name__)


@pytest.mark.parametrize(
    ("rounds", "seconds"),
    [pytest.param(1, 2, id="2 seconds"), pytest.param(30, 10, id="5 minutes", marks=pytest.mark.slow)],
)
async def test_a_storm_leaves_the_file_whole(tmp_path: Path, unlocked_writes: Path, rounds: int, seconds: int) -> None:
    """After a storm the file is whole, no acknowledged write is lost, and every checkpoint was made under the lock."""
    total = Counter[str]()
    for number in range(rounds):
        total += await _storm(tmp_path / f"{number}.db", unlocked_writes, seconds, number)
    LOG.info("%s", dict(total))
    assert total["acknowledged"] > 0
    assert total["checkpointed pages"] > 0


async def _storm(database: Path, library: Path, seconds: int, seed: int) -> Counter[str]:
    async with open_engine(database) as engine:
        await engine.create_run("r")
    watch = CheckpointWatch(library, database)
    storm = await start_program("tests.faults.storm", database, seconds, seed, environment=watch.environment)
    lines = await finished(storm)
    done, acknowledged = Counter[str](), [line for line in lines if not line.startswith("done ")]
    for _, what, count in (line.split(" ") for line in lines if line.startswith("done ")):
        done[what] += int(count)
    assert watch.counts().unlocked == 0
    async with open_engine(database) as engine:
        await assert_recorded(engine, acknowledged)
        assert await engine.verify_views() == []
    done["events"] = assert_whole(database).total()
    done["acknowledged"], done["checkpointed pages"] = len(acknowledged), watch.counts().locked
    return done
