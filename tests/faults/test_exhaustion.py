"""When descriptors run out, calls raise typed errors, nothing is half written, and the engine goes on afterwards."""

import contextlib
import itertools
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import open_engine
from engine.errors import CannotOpen, ReadFailed, StoreUnavailable
from tests.faults.leaks import nothing_left


@contextlib.contextmanager
def _limited(kind: int, limit: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


def _limit_that_leaves(spare: int) -> int:
    """Return the limit below which exactly that many descriptors are free."""
    used = set(map(int, os.listdir("/proc/self/fd")))  # noqa: PTH208 - names, not paths
    used.discard(max(used))  # the listing's own, closed by now
    free = (number for number in itertools.count() if number not in used)
    return next(itertools.islice(free, spare, None))


async def test_a_read_without_a_free_descriptor_fails_by_name(database: Path) -> None:
    """A read whose connection cannot be opened raises ReadFailed; writes and later reads succeed."""
    async with nothing_left(database.parent), open_engine(database) as engine:
        run = await engine.create_run("r", parameters={"a": 1})
        with _limited(resource.RLIMIT_NOFILE, 3), pytest.raises(ReadFailed):
            await run.parameters()
        await run.set_parameters({"a": 2})
        assert (await run.parameters())["a"].value == 2


async def test_the_first_write_without_a_free_descriptor_is_not_recorded(database: Path) -> None:
    """A first write that cannot open the folder to sync it raises ReadFailed and is not recorded; the next one is."""
    async with open_engine(database) as engine:
        await engine.create_run("r")
    async with nothing_left(database.parent), open_engine(database) as engine:
        run = await engine.run("r")
        with _limited(resource.RLIMIT_NOFILE, 3), pytest.raises(ReadFailed, match="its folder cannot be opened"):
            await run.set_parameters({"a": 1})
        await run.set_parameters({"b": 2})
        assert list(await run.parameters()) == ["b"]


async def test_a_compaction_that_cannot_look_for_leftovers_fails_by_name(database: Path) -> None:
    """A compaction that cannot list scratch files, which may hold erased payloads, raises ReadFailed."""
    async with nothing_left(database.parent), open_engine(database) as engine:
        await engine.create_run("r", parameters={"a": 1})
        await engine.compact()
        with _limited(resource.RLIMIT_NOFILE, 3), pytest.raises(ReadFailed, match="scratch files"):
            await engine.compact()
        await engine.compact()


async def test_opening_without_a_free_descriptor_fails_by_name(database: Path) -> None:
    """With too few free descriptors, opening a store raises CannotOpen, and nothing stays open."""
    async with open_engine(database) as engine:
        await engine.create_run("r")
    opened = []
    async with nothing_left(database.parent):
        for spare in range(16):
            with _limited(resource.RLIMIT_NOFILE, _limit_that_leaves(spare)), contextlib.suppress(CannotOpen):
                async with open_engine(database):
                    opened.append(spare)
    assert opened
    assert opened == list(range(opened[0], 16))
    assert opened[0] > 0
    async with open_engine(database) as engine:
        assert await engine.last_position() == 1


@pytest.mark.parametrize("what", ["rebuild", "verify_views"])
async def test_making_views_without_a_free_descriptor_fails_by_name(database: Path, what: str) -> None:
    """With too few free descriptors, making views raises a typed error; no file is left, and the views are true."""
    made = []
    async with nothing_left(database.parent), open_engine(database) as engine:
        await engine.create_run("r", parameters={"a": 1})
        for spare in range(16):
            with (
                _limited(resource.RLIMIT_NOFILE, _limit_that_leaves(spare)),
                contextlib.suppress(ReadFailed, StoreUnavailable),
            ):
                await getattr(engine, what)()
                made.append(spare)
        assert await engine.verify_views() == []
    assert made
    assert made == list(range(made[0], 16))
    assert made[0] > 0
    assert {path.name for path in database.parent.iterdir()} <= {"runs.db", "runs.db-lock", "runs.db-rebuild-lock"}


_BLOCKING = """
import resource, sys
from engine.blocking import BlockingEngine
from engine.errors import CannotOpen

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
with BlockingEngine(sys.argv[1]) as engine:
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        engine.call(lambda opened: opened.last_position())
    except CannotOpen as error:
        told = error.reason
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    print(told, engine.call(lambda opened: opened.last_position()))
"""


def test_a_blocking_engine_without_a_free_descriptor_fails_by_name(database: Path) -> None:
    """A blocking engine that cannot make its event loop raises CannotOpen instead of hanging, and works afterwards."""
    command = [sys.executable, "-c", _BLOCKING, str(database)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == "its event loop cannot be created: Too many open files 0\n"
