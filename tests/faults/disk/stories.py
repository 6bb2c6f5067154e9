"""What a process does to a store while its changes are recorded, and what it is acknowledged meanwhile.

Run with `recorder.c` preloaded: `python -m tests.faults.disk.stories STORY RECORDINGS`, with a folder on each line of
its input. The changes to a folder are recorded in the file of the same name in RECORDINGS.
"""

import asyncio
import contextlib
import ctypes
import errno
import io
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec
import pytest

from engine import Branch, Engine, Run, open_engine
from engine.errors import AnabranchError, OutcomeUnknown, RunNotFound, SyncFailed
from engine.logs import sqlite_opening
from engine.logs.sqlite_opening import Durability
from engine.logs.wal_limit import WAL_BYTES_RANGE
from engine.model import COMPLETED
from engine.ports import Recorded
from tests import legacy_state_files
from tests.exports import exported

DATABASE: Final = "runs.db"
FOR_GOOD: Final = 2**31
"""A number of failing changes that no story exceeds."""

_GOLDEN: Final = Path(__file__).parents[2] / "golden" / "runs_v1.db"
_RECORDER = ctypes.CDLL(None)  # where the symbols of a preloaded library are found


class Told(NamedTuple):
    """Something that the store acknowledged: an event, with its hash, or that a run is gone."""

    what: Literal["event", "gone"]
    run_id: str
    branch: str = ""
    stream_version: int = 0
    hash: str = ""


class Witness:
    """Records what was acknowledged; `early` imitates an engine that acknowledges before the commit."""

    def __init__(self, *, early: bool = False) -> None:
        self.early = early

    def tell(self, *told: Told) -> None:
        for each in told:
            _RECORDER.acknowledge(msgspec.json.encode(each))

    def tell_recorded(self, recorded: Recorded) -> None:
        self.tell(
            *(Told("event", each.run_id, each.branch, each.stream_version, each.hash.hex()) for each in recorded.events)
        )

    async def writes(self, branch: Branch, writing: Awaitable[Recorded], version: int) -> None:
        """Await a write that records the branch's event of that version, and acknowledge it."""
        if self.early:
            self.tell(Told("event", branch.run_id, branch.name, version))
        self.tell_recorded(await writing)

    async def tell_heads(self, engine: Engine) -> None:
        """Acknowledge every event of the store."""
        async for each in engine.events():
            self.tell(Told("event", each.run_id, each.branch, each.stream_version, each.hash.hex()))


async def _write(branch: Branch, times: int, size: int, witness: Witness) -> None:
    first = (await branch.head()).stream_version + 1
    for number in range(times):
        values = {"n": number, f"p{number % 3}": branch.name * size}
        await witness.writes(branch, branch.set_parameters(values), first + number)


async def _commits(database: Path, witness: Witness, durability: Durability = "full") -> None:
    """Create a file, and write by branches that share commits, attempts, a reduction and the finalisation."""
    async with open_engine(database, durability=durability) as engine:
        run = await engine.create_run("r", parameters={"lr": 0.1})
        branches = [await run.fork(name) for name in "abcd"]
        async with asyncio.TaskGroup() as tasks:
            for branch in branches:
                tasks.create_task(_write(branch, 6, 100, witness))
        async with branches[0].attempt("train", operator_key="local"):
            pass
        await run.reduce(branches, default="last")
        witness.tell_recorded(await run.finalize(COMPLETED))
        await witness.tell_heads(engine)


async def _relaxed(database: Path, witness: Witness) -> None:
    """Do the same without syncs, which promises only that the file is whole."""
    await _commits(database, witness, "relaxed")


async def _checkpoints(database: Path, witness: Witness) -> None:
    """Checkpoint all the time, inside commits and at the last close, three times over."""
    for name in ("a", "b", "c"):
        async with open_engine(database) as engine:
            run = await engine.run("r")
            branches = [await run.fork(f"{name}{number}") for number in range(3)]
            async with asyncio.TaskGroup() as tasks:
                for branch in branches:
                    tasks.create_task(_write(branch, 5, 2000, witness))
            await witness.tell_heads(engine)


async def _emptied_log(database: Path, witness: Witness) -> None:
    """Write until the write-ahead log is emptied because it reaches half of its limit."""
    async with open_engine(database, wal_bytes_max=WAL_BYTES_RANGE[0]) as engine:
        run = await engine.create_run("r")
        await _write(run, 30, 20_000, witness)
        await witness.tell_heads(engine)


async def _opens(database: Path, witness: Witness) -> None:
    """Open a file of an older version: a state store is migrated, older views are rebuilt."""
    async with open_engine(database) as engine:
        await witness.tell_heads(engine)
        run = await engine.create_run("new")
        await _write(run, 2, 10, witness)


async def _rebuild(database: Path, witness: Witness) -> None:
    async with open_engine(database) as engine:
        run = await engine.run("r")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_write(run, 6, 100, witness))
            tasks.create_task(engine.rebuild())
        await _write(run, 2, 10, witness)


async def _erase(database: Path, witness: Witness) -> None:
    async with open_engine(database) as engine:
        run = await engine.run("r")
        await _write(run, 2, 10, witness)
        await engine.erase("r", "a", 2, "a secret")
        await witness.tell_heads(engine)
        await _write(run, 2, 10, witness)


async def _delete(database: Path, witness: Witness) -> None:
    async with open_engine(database) as engine:
        run = await engine.run("r")
        await engine.delete_run("source", "old", carry_over=True)
        witness.tell(Told("gone", "source"))
        await _write(run, 2, 10, witness)
        await engine.collect(timedelta(0))
        witness.tell(Told("gone", "old 1"), Told("gone", "old 2"))
        await engine.compact()
        await _write(run, 2, 10, witness)


async def _import(database: Path, witness: Witness) -> None:
    async with open_engine(database) as engine:
        run = await engine.run("r")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(engine.import_runs(io.BytesIO(database.with_suffix(".jsonl").read_bytes())))
            tasks.create_task(_write(run, 4, 100, witness))
        await witness.tell_heads(engine)


async def _everything(database: Path, witness: Witness) -> None:
    """Do some of everything, going on after every typed error: write, maintain, close, open and write again."""
    for visit in ("first", "second"):
        with _named_errors():
            async with open_engine(database) as engine:
                run = await _run(engine)
                async with asyncio.TaskGroup() as tasks:
                    for letter in "ab":
                        tasks.create_task(_fork_and_write(run, f"{letter} {visit}", witness))
                if visit == "first":
                    await _look_after(engine)
                    await _fork_and_write(run, "c", witness)


async def _look_after(engine: Engine) -> None:
    run = await engine.run("r")
    for upkeep in (run.reduce(), engine.rebuild(), engine.erase("r", "a first", 2, "a secret"), run.parameters()):
        with _named_errors():
            await upkeep


async def _run(engine: Engine) -> Run:
    try:
        return await engine.run("r")
    except RunNotFound:
        return await engine.create_run("r", idempotency_key="r")


async def _fork_and_write(run: Run, name: str, witness: Witness) -> None:
    with _named_errors():
        branch = await run.fork(name)
        for number in range(2):
            with _named_errors():
                witness.tell_recorded(await branch.set_parameters({"x": number}))


def _named_errors() -> contextlib.suppress:
    return contextlib.suppress(AnabranchError)


async def _sync_fails_once(database: Path, witness: Witness) -> None:
    await _sync_fails(database, witness, 1)


async def _sync_fails_for_good(database: Path, witness: Witness) -> None:
    await _sync_fails(database, witness, FOR_GOOD)


async def _sync_fails(database: Path, witness: Witness, times: int) -> None:
    """Let a commit's sync fail: later writes are refused, reads go on, and the process dies."""
    engine = await open_engine(database)
    run = await engine.run("r")
    await _write(run, 2, 100, witness)
    fail(1, Failure("sync", errno.EIO, times, kinds="S"))
    with pytest.raises(OutcomeUnknown):
        await run.set_parameters({"n": "unknown"})
    assert changes_failed()
    for writing in (run.set_parameters({"n": "refused"}), engine.rebuild(), engine.compact()):
        with pytest.raises(SyncFailed, match="opened again"):
            await writing
    assert (await run.parameters())["n"].value == 1
    os._exit(0)


async def recover(database: Path, witness: Witness) -> None:
    """Use a file after the power is back."""
    async with open_engine(database) as engine:
        await witness.tell_heads(engine)
        run = await engine.create_run("after")
        await _write(run, 2, 100, witness)


async def _nothing(database: Path) -> None:
    """Begin without a file."""


async def _some_runs(database: Path) -> None:
    async with open_engine(database) as engine:
        run = await engine.create_run("r", parameters={"lr": 0.1, "text": "t" * 3000})
        for name in "ab":
            branch = await run.fork(name)
            await branch.set_parameters({"x": name * 500})
            async with branch.attempt("train"):
                pass
        await run.reduce()
        source = await engine.create_run("source", parameters={"s": "s" * 500})
        await source.set_status(COMPLETED)
        await engine.fork_run("source", run_id="fork")
        for name in ("old 1", "old 2"):
            old = await engine.create_run(name, parameters={"z": "z" * 3000})
            await old.set_status(COMPLETED)


async def _some_runs_and_an_export(database: Path) -> None:
    await _some_runs(database)
    other = database.with_name("other.db")
    async with open_engine(other) as engine:
        for name in ("x", "y"):
            run = await engine.create_run(name, parameters={"v": name * 3000})
            await (await run.fork("b")).set_parameters({"w": 1})
        database.with_suffix(".jsonl").write_bytes(await exported(engine))
    for path in database.parent.glob("other.db*"):
        path.unlink()


async def _state_store(database: Path) -> None:
    created = "2025-01-01 00:00:00.000000"
    run = {"run_id": "s", "workspace_slug": "lab", "root_path": "/data", "created_at": created, "status": "RUNNING"}
    task = {"run_id": "s", "image": "i", "command": "c", "status": "COMPLETED", "task_type": "external"}
    attempt = {"run_id": "s", "attempt_index": 1, "status": "COMPLETED", "created_at": created}
    names = [f"t{number}" for number in range(6)]
    rows: legacy_state_files.Rows = {
        "runs": [run],
        "tasks": [{**task, "task_id": name} for name in names],
        "task_attempts": [{**attempt, "task_id": name, "attempt_id": f"{name}.1"} for name in names],
    }
    legacy_state_files.make(database, "3", rows)


async def _older_views(database: Path) -> None:
    shutil.copy(_GOLDEN, database)


Tell: TypeAlias = Callable[[Path, Witness], Coroutine[None, None, None]]
Prepare: TypeAlias = Callable[[Path], Coroutine[None, None, None]]


class Failure(NamedTuple):
    """An errno, how many changes of which kinds fail with it, and whether a failing write writes its first half."""

    name: str
    error: int
    times: int = 1
    half: bool = False
    kinds: str = "CWSTUR"


class Story(NamedTuple):
    """`prepare` makes the first files; `tell` is recorded. A checkpoint is made every `wal_pages_max` pages."""

    prepare: Prepare
    tell: Tell
    wal_pages_max: int = sqlite_opening.WAL_PAGES_MAX


STORIES: Final[dict[str, Story]] = {
    "commits": Story(_nothing, _commits),
    "checkpoints": Story(_some_runs, _checkpoints, wal_pages_max=8),
    "emptied log": Story(_nothing, _emptied_log, wal_pages_max=10_000),
    "migration": Story(_state_store, _opens),
    "older views": Story(_older_views, _opens),
    "rebuild": Story(_some_runs, _rebuild, wal_pages_max=8),
    "erase": Story(_some_runs, _erase),
    "delete": Story(_some_runs, _delete),
    "import": Story(_some_runs_and_an_export, _import, wal_pages_max=8),
    "relaxed": Story(_nothing, _relaxed),
    "everything": Story(_nothing, _everything, wal_pages_max=40),
    "sync fails once": Story(_some_runs, _sync_fails_once),
    "sync fails for good": Story(_some_runs, _sync_fails_for_good),
    "recover": Story(_nothing, recover),
}


def watch(folder: Path, recording: Path | None = None) -> None:
    """Have the recorder record the changes to a folder from now on, and count from 0."""
    _RECORDER.watch(os.fsencode(folder), b"" if recording is None else os.fsencode(recording))


def fail(at: int, failure: "Failure") -> None:
    """Make change number `at` to the watched folder fail, and as many more as the failure says."""
    times = ctypes.c_long(failure.times)
    _RECORDER.fail(ctypes.c_long(at), times, failure.error, failure.half, failure.kinds.encode())


def changes_failed() -> int:
    """Return how many changes have failed since the recorder began to watch."""
    failed: int = ctypes.c_long.in_dll(_RECORDER, "failed").value
    return failed


def tell(story: str, database: Path, witness: Witness) -> None:
    """Run a story to its end."""
    setattr(sqlite_opening, "WAL_PAGES_MAX", STORIES[story].wal_pages_max)  # noqa: B010 - final, except for the stories
    asyncio.run(STORIES[story].tell(database, witness))


if __name__ == "__main__":
    _, name, recordings, *early = sys.argv
    for line in sys.stdin:
        watched = Path(line.rstrip("\n"))
        watch(watched, Path(recordings, watched.name))
        tell(name, watched / DATABASE, Witness(early=bool(early)))
