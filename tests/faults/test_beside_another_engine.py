"""What another engine does between two steps of this one: it deletes what is being folded, compacts, or writes."""

import asyncio
import io
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, open_engine
from engine.logs import sqlite_scratch
from engine.logs.sqlite_fold import FoldedEvents
from engine.transfer import DifferentRunExists


async def on_another_engine(database: Path, act: Callable[[Engine], Awaitable[Any]]) -> None:
    """Call `act` with an engine of its own."""
    async with open_engine(database) as other:
        await act(other)


def meanwhile(
    monkeypatch: pytest.MonkeyPatch, place: object, name: str, database: Path, act: Callable[[Engine], Awaitable[Any]]
) -> None:
    """Have another engine act once, just before a function of this one is called."""
    called, original = list[int](), getattr(place, name)

    def first(*arguments: Any) -> Any:
        if not called:
            called.append(1)
            asyncio.run(on_another_engine(database, act))  # on the thread that folds
        return original(*arguments)

    monkeypatch.setattr(place, name, first)


@pytest.mark.parametrize("what", ["verify_views", "rebuild"])
async def test_a_run_that_is_deleted_between_a_chunk_and_its_streams(
    database: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Rebuilding and comparing the views survive a run's deletion between the reads of a chunk and of its streams."""
    for run_id in "ab":
        await engine.create_run(run_id)
    meanwhile(monkeypatch, FoldedEvents, "of", database, lambda other: other.delete_run("a", "expired"))
    await getattr(engine, what)()
    assert await engine.verify_views() == []


async def test_a_file_that_is_compacted_while_a_rebuild_begins(
    database: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rebuild whose scratch file is removed by a compaction starts over with another one."""
    await engine.create_run("a")
    meanwhile(monkeypatch, sqlite_scratch, "removals", database, lambda other: other.compact())
    await engine.rebuild()
    assert await engine.verify_views() == []


async def test_a_refused_import_holds_no_snapshot(database: Path, tmp_path: Path, engine: Engine) -> None:
    """A refused import holds no snapshot, even while its error is kept: others write, and a compaction is complete."""
    async with open_engine(tmp_path / "elsewhere.db") as elsewhere:
        await elsewhere.create_run("r", parameters={"a": 1})
        lines = b"".join([piece async for piece in elsewhere.export_runs(["r"])])
    run = await engine.create_run("r", parameters={"a": 2})
    with pytest.raises(DifferentRunExists) as kept:
        await engine.import_runs(io.BytesIO(lines))
    async with open_engine(database) as other:
        await (await other.run("r")).set_parameters({"b": 1})
    await run.set_parameters({"a": 3})
    assert (await engine.compact()).complete
    assert kept.value.run_id == "r"


@pytest.mark.parametrize("what", ["verify_views", "rebuild"])
async def test_a_run_that_is_deleted_and_made_anew_between_two_chunks(
    database: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Rebuilding and comparing the views start over when a run is deleted and created again between two chunks."""
    monkeypatch.setattr(sqlite_scratch, "CHUNK_EVENTS", 10)
    monkeypatch.setattr(sqlite_scratch, "LOCKED_EVENTS_MAX", 5)
    await engine.create_run("a")
    other_run = await engine.create_run("b")
    await asyncio.gather(*(other_run.set_parameters({"x": turn}) for turn in range(30)))

    async def make_anew(other: Engine) -> None:
        await other.delete_run("a", "expired")
        run = await other.create_run("a")
        for turn in range(30):
            await run.set_parameters({"x": turn})

    reached = list[int]()

    def progress(position: int, _last: int) -> None:
        reached.append(position)
        if len(reached) == 1:
            with ThreadPoolExecutor(1) as thread:
                thread.submit(lambda: asyncio.run(on_another_engine(database, make_anew))).result()

    await getattr(engine, what)(progress)
    assert reached[:2] == [10, 11], "the first position was deleted"
    assert await engine.verify_views() == []
