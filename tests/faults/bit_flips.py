"""Damages a store's files, bit by bit and sector by sector, and prints what detects each damage.

`python -m tests.faults.bit_flips FOLDER` makes a store and is killed while it has it open; with `FIRST LAST` it prints
a line for each seed: the file that was damaged, and the outcome. It is a program of its own because SQLite may crash
on a damaged file.
"""

import asyncio
import os
import random
import shutil
import signal
import sqlite3
import sys
from collections.abc import Awaitable, Mapping
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from engine import Engine, Position, open_engine
from engine.checkpoint import Checkpoint
from engine.codec import encode_canonical
from engine.errors import AnabranchError, CannotDecode, EventOutOfPlace, ReadFailed
from engine.logs.sqlite_damage import damage_in_log
from engine.views import STATE_SCHEMA_VERSION
from tests.faults.rich_runs import record_branches, record_rich_run

HARMLESS: Final = "harmless"
CUT_OFF: Final = "cut off"
CHANGED: Final = "CHANGED"

DATABASE: Final = "runs.db"
CHECKPOINT: Final = "checkpoint.json"
SECTOR_BYTES: Final = 512
PAGE_BYTES: Final = 4096


async def record(folder: Path) -> None:
    """Make a closed store with some of everything, and a checkpoint of it."""
    async with open_engine(folder / DATABASE, durability="relaxed") as engine:
        await _record_first(engine)
        await _keep_checkpoint(engine, folder)


async def record_and_be_killed(folder: Path) -> None:
    """Make a store that was closed once and then written to, with its newest events in the log, and be killed."""
    async with open_engine(folder / DATABASE, durability="relaxed") as engine:
        await _record_first(engine)
    engine = await open_engine(folder / DATABASE)
    run = await engine.run("r1")
    for number in range(12):
        await run.set_parameters({"late": number, "text": "x" * 100 * number})
    await record_branches(await record_rich_run(engine, "late"))
    await _keep_checkpoint(engine, folder)
    os.kill(os.getpid(), signal.SIGKILL)


async def _record_first(engine: Engine) -> None:
    for run_id in ("r1", "r2", "gone"):
        await record_branches(await record_rich_run(engine, run_id))
    fork = await engine.fork_run("r1", run_id="fork", branch="fit.a", at=2)
    await fork.set_parameters({"loss": None})
    await engine.erase("r2", None, 3, "a secret")
    await engine.delete_run("gone", "expired")


async def _keep_checkpoint(engine: Engine, folder: Path) -> None:
    checkpoint = await engine.checkpoint()
    (folder / CHECKPOINT).write_text(checkpoint.to_json())


class Damage:
    """The damage that one seed does to one of a store's files."""

    def __init__(self, files: dict[str, bytes], seed: int) -> None:
        self._chance = random.Random(seed)
        self.name = self._chance.choice(
            [name for name in sorted(files) for _ in range(1 if name.endswith("-shm") else 6)]
        )
        self._data = bytearray(files[self.name])

    def done(self) -> bytes:
        """Return the file's bytes after the damage."""
        before = bytes(self._data)
        while self._data == before:
            self._chance.choice(
                [self._flip_bit] * 6 + [self._set_byte, self._empty, self._scramble, self._swap, self._empty_page]
            )()
        return bytes(self._data)

    def _flip_bit(self) -> None:
        self._data[self._place()] ^= 1 << self._chance.randrange(8)

    def _set_byte(self) -> None:
        self._data[self._place()] = self._chance.randrange(256)

    def _empty(self) -> None:
        self._data[self._sector()] = bytes(SECTOR_BYTES)

    def _scramble(self) -> None:
        self._data[self._sector()] = self._chance.randbytes(SECTOR_BYTES)

    def _swap(self) -> None:
        one, other = self._sector(), self._sector()
        self._data[one], self._data[other] = self._data[other], self._data[one]

    def _empty_page(self) -> None:
        self._data[self._sector(PAGE_BYTES)] = bytes(PAGE_BYTES)

    def _place(self) -> int:
        """Return the index of a byte, mostly of one that is not zero, because most zero bytes are not used."""
        while True:
            place = self._chance.randrange(len(self._data))
            if self._data[place] or self._chance.random() < 0.1:
                return place

    def _sector(self, size: int = SECTOR_BYTES) -> slice:
        begin = self._chance.randrange(len(self._data) // size) * size
        return slice(begin, begin + size)


class Examination:
    """Opens a store that may be damaged, and reads everything that can be read of it.

    `reads` is the result of each read; `detected` is how the damage was first detected, `""` if it was not; `cut_off`
    is whether only a checkpoint shows that something is missing.
    """

    def __init__(self, path: Path, checkpoint: Checkpoint) -> None:
        self.reads: dict[str, Any] = {}
        self.detected = ""
        self.cut_off = False
        self._path = path
        self._checkpoint = checkpoint

    async def run(self) -> None:
        try:
            engine = await open_engine(self._path, durability="relaxed")
        except AnabranchError as error:
            self._note(f"not opened: {type(error).__name__}")
            return
        async with engine:
            await self._read_all(engine)
            await self._check(engine)

    def outcome(self, due: dict[str, Any]) -> str:
        """Return the outcome, given the reads of the undamaged store."""
        if self.detected:
            return self.detected
        if self.reads == due:
            return HARMLESS
        found = self.reads["events"]
        return CUT_OFF if self.cut_off and found == due["events"][: len(found)] else CHANGED

    def _note(self, detected: str) -> None:
        self.detected = self.detected or detected

    async def _read_all(self, engine: Engine) -> None:
        await self._read("events", _events(engine))
        await self._read("last position", engine.last_position())
        await self._read("export", _export(engine))
        await self._read("runs", _runs(engine))
        for run_id in ("r1", "r2", "fork", "late"):
            await self._read(run_id, _run(engine, run_id))

    async def _read(self, name: str, reading: Awaitable[Any]) -> None:
        try:
            self.reads[name] = await reading
        except (ReadFailed, CannotDecode, EventOutOfPlace) as error:
            self._note(f"not read: {type(error).__name__}")
        except AnabranchError as error:  # e.g. a missing run: an answer, which may be wrong
            self.reads[name] = type(error).__name__

    async def _check(self, engine: Engine) -> None:
        try:
            for kind in await _findings(engine):
                self._note(f"found: {kind}")
            self.cut_off = bool((await engine.verify(since=self._checkpoint)).problems)
        except (AnabranchError, sqlite3.DatabaseError) as error:  # the doctor reports the latter
            self._note(f"not checked: {type(error).__name__}")


async def _findings(engine: Engine) -> list[str]:
    """Return what `verify`, `verify_views` and the doctor find wrong."""
    problems, differences = (await engine.verify()).problems, await engine.verify_views()
    with closing(sqlite3.connect(engine.path)) as connection:
        damages = damage_in_log(connection)
        schema = connection.execute("SELECT * FROM schema_info").fetchall()
    found = [*(each.kind for each in problems), *("views" for _ in differences), *("log" for _ in damages)]
    return found if schema == [("version", STATE_SCHEMA_VERSION)] else [*found, "schema"]


async def _events(engine: Engine) -> list[Any]:
    return [
        (
            each.position,
            each.run_id,
            each.branch,
            each.event_id,
            each.recorded_at,
            each.hash,
            encode_canonical(each.event),
        )
        async for each in engine.events()
    ]


async def _export(engine: Engine) -> bytes:
    return b"".join([lines async for lines in engine.export_runs()])


async def _runs(engine: Engine) -> bytes:
    return encode_canonical([*await engine.runs(), *(await engine.runs(status="COMPLETED")).runs])


async def _run(engine: Engine, run_id: str) -> bytes:
    run = await engine.run(run_id)
    tasks = engine.views.tasks
    said = [
        await run.compile(),
        await run.compile(at=1),
        await run.compile(at=Position(30)),
        await run.info(),
        await run.sources(),
        await run.lineage("loss", history=True),
        await run.all_attempts(),
        await run.children(),
        await run.head(),
        await tasks.tasks(run_id),
        await tasks.unfinished(run_id),
        await tasks.external_runs(run_id),
    ]
    return encode_canonical(said)


class Store:
    """A store's undamaged files, and what reads of them return."""

    def __init__(self, folder: Path) -> None:
        self._work = folder / f"work-{os.getpid()}"
        self._checkpoint = Checkpoint.from_json((folder / CHECKPOINT).read_bytes())
        self._files = {
            path.name: path.read_bytes() for path in folder.iterdir() if path.name.removeprefix(DATABASE) in _DAMAGED
        }
        self._due: dict[str, Any] = {}

    async def read(self) -> None:
        whole = await self._examined()
        assert not whole.detected
        assert not whole.cut_off
        self._due = whole.reads

    async def outcome(self, seed: int) -> tuple[str, str]:
        """Return the file that a seed damages, and the outcome."""
        damage = Damage(self._files, seed)
        return damage.name, (await self._examined({damage.name: damage.done()})).outcome(self._due)

    async def _examined(self, damaged: Mapping[str, bytes] = MappingProxyType({})) -> Examination:
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir()
        for name, content in {**self._files, **damaged}.items():
            (self._work / name).write_bytes(content)
        found = Examination(self._work / DATABASE, self._checkpoint)
        await found.run()
        shutil.rmtree(self._work)
        return found


_DAMAGED: Final = ("", "-wal", "-shm")


async def _main(folder: str, *seeds: str) -> None:
    if not seeds:
        await record_and_be_killed(Path(folder))
    store = Store(Path(folder))
    await store.read()
    for seed in range(*map(int, seeds)):
        print(seed, *await store.outcome(seed), sep="\t", flush=True)  # noqa: T201 - the pipe is how it answers


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
