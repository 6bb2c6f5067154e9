"""A system that has no thread left: openings and reads fail by name, leave nothing behind, and can be repeated."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import Engine, open_engine
from engine.errors import CannotOpen, ReadFailed
from tests.faults.leaks import nothing_left


@contextlib.contextmanager
def _no_threads() -> Iterator[None]:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")  # what Python raises then

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        yield


@pytest.mark.parametrize("read_only", [False, True], ids=["to write", "to read"])
async def test_an_opening_without_a_thread_fails_by_name(database: Path, *, read_only: bool) -> None:
    """`open_engine` raises CannotOpen, creates no file, and can be repeated."""
    async with nothing_left(database.parent):
        with _no_threads(), pytest.raises(CannotOpen, match="its thread cannot be started: can't start new thread"):
            await open_engine(database, read_only=read_only)
    assert not database.exists()
    async with open_engine(database) as engine:
        assert [*await engine.runs()] == []


async def test_a_read_without_a_thread_fails_by_name(engine: Engine) -> None:
    """A read that needs another connection raises ReadFailed, and can be repeated."""
    with _no_threads(), pytest.raises(ReadFailed, match="its thread cannot be started: can't start new thread"):
        await engine.runs()
    assert [*await engine.runs()] == []
