"""The cost of reading events."""

import sqlite3
from contextlib import closing

from engine import Engine
from engine.commands import Fork
from engine.events import RecordedEvent
from engine.logs.sqlite_read import read_events
from engine.ports import EventFilter
from tests.contract.families import record


async def test_an_event_below_a_branch_costs_the_same_however_many_branches_are_there(engine: Engine) -> None:
    """The next event below a branch takes as many SQLite steps with 2,000 descendants as with 100."""
    run = await engine.create_run("r")
    await run.fork("mapped")
    await engine.write("r", *(Fork(branch=f"mapped.{number}", parent="mapped") for number in range(100)))
    few = await steps_to_follow(engine)
    await engine.write("r", *(Fork(branch=f"mapped.{number}", parent="mapped") for number in range(100, 2_000)))
    many = await steps_to_follow(engine)
    assert few == many > 0


async def test_every_chunk_size_gives_the_same_events(engine: Engine) -> None:
    """Events of a branch and its descendants are all found, in order, whether they fill one chunk or many."""
    run = await engine.create_run("r")
    await (await run.fork("other")).fork("below")
    mapped = await run.fork("mapped")
    for number in range(9):
        child = await mapped.fork(f"{number}")
        await child.set_parameters({"x": number})
        await (await child.fork("inner")).set_parameters({"x": number})
        await engine.write("r", record("other.below", number))
    expected = [each async for each in engine.events(run_id="r") if each.branch.startswith("mapped")]
    assert len(expected) == 37
    with closing(sqlite3.connect(engine.path)) as connection:
        for limit in range(1, 50):
            found: list[RecordedEvent] = []
            after, last = 0, await engine.last_position()
            while after < last:
                events, after = read_events(
                    connection, EventFilter("r", "mapped", descendants=True), after, None, limit
                )
                assert len(events) <= limit
                found += events
            assert found == expected


async def steps_to_follow(engine: Engine) -> int:
    """Record a value in a descendant, and count the SQLite instructions of reading this one event."""
    before = await engine.last_position()
    await engine.write("r", record("mapped.5", before))
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    with closing(sqlite3.connect(engine.path)) as connection:
        connection.set_progress_handler(step, 1)
        events, _ = read_events(connection, EventFilter("r", "mapped", descendants=True), before, None, 8)
    assert [each.branch for each in events] == ["mapped.5"]
    return steps
