"""Run logs that several callers put at once."""

import asyncio

import pytest

from engine import Engine
from engine.stores import PartitionedRunLogStore, RunLog

BARE = RunLog(run_id="r", dag_hash=None)
TAGGED = RunLog(run_id="r", dag_hash="h", tag="nightly")
LATER = RunLog(run_id="r", tag="weekly")


@pytest.mark.parametrize("logs", [(BARE, TAGGED), (TAGGED, BARE), (BARE, BARE, TAGGED), (BARE, LATER, TAGGED)])
async def test_a_tag_and_a_hash_survive_whoever_opens_the_run(engine: Engine, logs: tuple[RunLog, ...]) -> None:
    """Run logs put at once give the same as if put in turn: what one leaves out stays as another set it."""
    store = PartitionedRunLogStore(engine)
    await asyncio.gather(*(store.put_run_log(log) for log in logs))
    found = await store.get_run_log_by_id("r")
    assert (found.tag, found.dag_hash) == ("nightly", "h")


async def test_putting_a_run_log_again_records_nothing(engine: Engine) -> None:
    """Putting the same run log twice records nothing the second time."""
    store = PartitionedRunLogStore(engine)
    for log in (TAGGED, LATER, RunLog(run_id="none", tag=None)):
        await store.put_run_log(log)
        last = await engine.last_position()
        await store.put_run_log(log)
        assert await engine.last_position() == last
    assert (await store.get_run_log_by_id("none")).tag is None
