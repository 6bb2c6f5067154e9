"""Logs of large events: readers hold only a few events in memory at a time."""

import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from engine import Engine, open_engine

EVENTS, EVENT_BYTES = 96, 1_000_000
PEAK_BYTES_MAX = 40_000_000


@pytest.fixture
async def large(database: Path) -> Path:
    """A store with many events of nearly the largest size."""
    async with open_engine(database, durability="relaxed") as engine:
        run = await engine.create_run("r")
        for number in range(EVENTS):
            await run.describe({"text": "x" * EVENT_BYTES, "number": number})
    return database


async def _every_event(engine: Engine) -> None:
    versions = [recorded.stream_version async for recorded in engine.events(run_id="r")]
    assert versions == list(range(1, EVENTS + 2))


async def _rebuild(engine: Engine) -> None:
    assert await engine.rebuild() == EVENTS + 1


async def _compare(engine: Engine) -> None:
    assert await engine.verify_views() == []


async def _verify(engine: Engine) -> None:
    assert (await engine.verify()).problems == []


async def _as_it_was(engine: Engine) -> None:
    run = await engine.run("r")
    assert (await run.compile(at=EVENTS)).details["number"] == EVENTS - 2


async def _erase(engine: Engine) -> None:
    await engine.erase("r", None, 2, "a test", compact=False)


@pytest.mark.parametrize("work", [_every_event, _rebuild, _compare, _verify, _as_it_was, _erase])
async def test_few_are_in_memory_at_once(large: Path, work: Callable[[Engine], Awaitable[None]]) -> None:
    """Operations over the whole log keep memory below a limit in bytes, and skip no event."""
    async with open_engine(large) as engine:
        tracemalloc.start()
        try:
            await work(engine)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert await engine.verify_views() == []
    assert peak < PEAK_BYTES_MAX
