"""Forked children: they never use what their parent opened, and may open the same file themselves."""

import asyncio
import os
from pathlib import Path

import pytest

from engine import Engine, Run, open_engine
from engine.errors import WrongProcess
from tests.faults.children import ForkedChild, finished, next_line, start_worker
from tests.uses import USES

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # forking is what is tested


@pytest.mark.parametrize("use", USES)
async def test_a_forked_child_cannot_use_its_parents_engine(engine: Engine, use: str) -> None:
    """Whatever a child does with the parent's engine raises WrongProcess; the parent's goes on."""
    run = await engine.create_run("r", parameters={"a": 1})
    await run.parameters()

    async def child() -> None:
        await USES[use](engine, run)

    assert await ForkedChild(child).outcome() == "WrongProcess"
    assert (await run.set_parameters({"a": 3})).stream_version == 3
    assert (await run.parameters())["a"].value == 3


async def test_the_error_names_both_processes(engine: Engine) -> None:
    """WrongProcess carries the process that opened the engine and the one that used it."""

    async def child() -> tuple[bool, bool]:
        try:
            await engine.last_position()
        except WrongProcess as error:
            return error.opened_in == os.getppid(), error.used_in == os.getpid()
        return False, False

    assert await ForkedChild(child).outcome() == "(True, True)"


async def test_a_child_without_an_event_loop_is_refused(engine: Engine) -> None:
    """WrongProcess also where the child runs no event loop: it may not go on with its parent's."""

    async def child() -> None:
        await asyncio.to_thread(engine.last_position().send, None)

    assert await ForkedChild(child).outcome() == "WrongProcess"


async def _write_with_an_engine_of_its_own(database: Path, name: str) -> str:
    async with open_engine(database, busy_timeout=10) as engine:
        branch = await (await engine.run("r")).fork(name)
        await branch.set_parameters({"by": name})
        return str(len([recorded async for recorded in engine.events(run_id="r", branch=name)]))


async def test_a_forked_child_may_open_the_file_itself(database: Path, engine: Engine) -> None:
    """Parent and child write beside each other, each through its own engine."""
    run = await engine.create_run("r")
    child = ForkedChild(lambda: _write_with_an_engine_of_its_own(database, "child"))
    await (await run.fork("parent")).set_parameters({"by": "parent"})
    assert await child.outcome() == "2"
    assert set(await run.children()) == {"child", "parent"}
    assert await engine.verify_views() == []


async def test_what_a_child_writes_outlives_its_parents_closing(database: Path) -> None:
    """SQLite deletes the write-ahead log when the last process that holds the file closes: never under a child."""
    go_on, parent_closed = os.pipe()

    async def child() -> int:
        async with open_engine(database, busy_timeout=10) as engine:
            run = await engine.run("r")
            os.close(parent_closed)
            os.read(go_on, 1)
            for value in range(20):
                await run.set_parameters({"late": value})
            return await engine.last_position()

    async with open_engine(database) as engine:
        await engine.create_run("r", parameters={"a": 1})
        forked = ForkedChild(child)
    os.close(parent_closed)
    assert await forked.outcome() == "22"
    os.close(go_on)
    async with open_engine(database) as engine:
        assert await engine.last_position() == 22


async def _write(run: Run, name: str, stop: asyncio.Event) -> None:
    branch = await run.fork(name)
    while not stop.is_set():
        await branch.set_parameters({"x": 1})
        await branch.parameters()


@pytest.mark.parametrize("forks", [8, pytest.param(100, marks=pytest.mark.slow)])
async def test_a_fork_in_the_middle_of_writing_disturbs_nobody(database: Path, engine: Engine, forks: int) -> None:
    """Forked at any moment of their parent's writes and reads, children can open the file, and write."""
    run = await engine.create_run("r")
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for index in range(8):
            tasks.create_task(_write(run, f"parent.{index}", stop))
        for index in range(forks):
            await (await run.fork(f"mark.{index}")).set_parameters({"x": 1})
            name = f"child.{index}"
            child = ForkedChild(lambda name=name: _write_with_an_engine_of_its_own(database, name))  # type: ignore[misc]
            assert await child.outcome() == "2"
        stop.set()
    assert await engine.verify_views() == []


async def test_a_sleeping_child_does_not_keep_its_dead_parents_lock(database: Path, engine: Engine) -> None:
    """The lock is free once its holder is dead, even when a forked child inherited the descriptor."""
    run = await engine.create_run("r")
    for attempt in range(5):
        worker = await start_worker("fork_then_write", database, f"w{attempt}")
        while not (await next_line(worker)).startswith("child"):
            pass
        worker.kill()
        assert (await asyncio.wait_for(run.set_parameters({"n": attempt}), 10)).events
        assert worker.stdin is not None
        worker.stdin.close()
        await worker.communicate()


async def test_a_worker_that_forks_nothing_succeeds(database: Path, engine: Engine) -> None:
    """A spawned process opens the file for itself."""
    run = await engine.create_run("r")
    await finished(await start_worker("write_branches", database, "spawned", 1, 3))
    assert (await (await run.branch("spawned.0")).head()).stream_version == 4
