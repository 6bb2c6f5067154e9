"""An engine can be used only on the event loop that opened it."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from engine import Engine, open_engine
from engine.errors import WrongEventLoop
from tests.uses import USES

Result = TypeVar("Result")


async def _on_another_loop(work: Callable[[], Awaitable[Result]]) -> Result:
    async def done() -> Result:
        return await work()

    return await asyncio.to_thread(lambda: asyncio.run(done()))


@pytest.mark.parametrize("use", USES)
async def test_another_loop_is_refused(engine: Engine, use: str) -> None:
    """Every call on another thread's event loop raises WrongEventLoop and records nothing."""
    run = await engine.create_run("r", parameters={"a": 1})

    async def asked() -> None:
        await USES[use](engine, run)

    with pytest.raises(WrongEventLoop, match="open one on each event loop"):
        await _on_another_loop(asked)
    assert (await run.set_parameters({"a": 3})).stream_version == 3
    assert await engine.last_position() == 3


async def test_no_loop_at_all_is_refused(engine: Engine) -> None:
    """A coroutine that is driven without an event loop raises WrongEventLoop."""
    with pytest.raises(WrongEventLoop):
        await asyncio.to_thread(engine.last_position().send, None)


def test_a_loop_that_takes_turns_with_the_first_is_refused(tmp_path: Path) -> None:
    """A second event loop of the same thread is refused, too; on its own loop the engine goes on."""

    async def opened() -> Engine:
        return await open_engine(tmp_path / "runs.db")

    async def created(engine: Engine, run_id: str) -> None:
        await engine.create_run(run_id)

    with asyncio.Runner() as first:
        engine = first.run(opened())
        with pytest.raises(WrongEventLoop):
            asyncio.run(created(engine, "r"))
        first.run(created(engine, "r"))
        first.run(engine.close())
