"""On a full disk only recorded writes are acknowledged and reads go on; once there is room, everything works again."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from engine import Branch, Engine, open_engine
from engine.errors import DiskFull, OutcomeUnknown
from tests.exports import exported, imported
from tests.faults.acknowledged import values_of
from tests.faults.audit import assert_whole
from tests.faults.leaks import nothing_left
from tests.faults.small_disk import LimitedFiles, SmallDisk, small_disk

LOG = logging.getLogger(__name__)
_BIG: Final = "x" * 15_000
_WAL_BYTES_MAX: Final = 2**20
_SPARE_BYTES: Final = 0, 3_000, 200_000, 20_000
_WRITES_MAX: Final = 200

# Beyond a file size limit a write fails with another error than on a full disk, and SQLite does not say which write.
_REFUSED: Final = DiskFull, OutcomeUnknown


@pytest.fixture(params=["tmpfs", "ext4", "limit"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(request.param, tmp_path) as disk:
        yield disk


def _refusal(disk: SmallDisk) -> type[Exception] | tuple[type[Exception], ...]:
    return _REFUSED if isinstance(disk, LimitedFiles) else DiskFull


class _Writers:
    """Write values and count those that are acknowledged."""

    def __init__(self, branches: list[Branch], refusal: type[Exception] | tuple[type[Exception], ...]) -> None:
        self.acknowledged = Counter[str]()
        self._branches = branches
        self._refusal = refusal

    async def write(self) -> None:
        """Write once on every branch."""
        await asyncio.gather(*map(self._write, self._branches))

    async def until_refused(self) -> None:
        """Write on every branch until that is refused, first all together, then each alone, which may still fit."""
        await asyncio.gather(*map(self._until_refused, self._branches))
        for branch in self._branches:
            await self._until_refused(branch)

    async def _write(self, branch: Branch) -> None:
        await branch.set_parameters({"value": self.acknowledged[branch.name], "big": _BIG})
        self.acknowledged[branch.name] += 1

    async def _until_refused(self, branch: Branch) -> None:
        for _ in range(_WRITES_MAX):
            try:
                await self._write(branch)
            except self._refusal:
                return
        raise AssertionError("the disk is never full")


async def _read(engine: Engine, done: asyncio.Event) -> int:
    """Read in every way until told to stop; return the number of reads."""
    reads = 0
    run = await engine.run("r")
    while not done.is_set():
        await run.parameters()
        await run.compile()
        await run.children(at=1)
        assert [info.run_id for info in await engine.runs()] == ["r"]
        assert [recorded.position async for recorded in engine.events(types=["RunCreated"])] == [1]
        reads += 5
    return reads


@pytest.mark.parametrize("cycles", [4, pytest.param(20, marks=pytest.mark.slow)])
async def test_a_disk_that_is_full_again_and_again(disk: SmallDisk, cycles: int) -> None:
    """Acknowledged writes are recorded, refused ones are not; reads never fail, and with room again writes succeed."""
    database = disk.folder / "runs.db"
    async with nothing_left(disk.folder), open_engine(database, wal_bytes_max=_WAL_BYTES_MAX) as engine:
        run = await engine.create_run("r")
        writers = _Writers([await run.fork(f"b{index}") for index in range(4)], _refusal(disk))
        done = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(_read(engine, done))
            for cycle in range(cycles):
                await writers.write()
                with disk.full(_SPARE_BYTES[cycle % len(_SPARE_BYTES)]):
                    await writers.until_refused()
                await writers.write()
            done.set()
        LOG.info("%d cycles, %d writes acknowledged, %d reads", cycles, writers.acknowledged.total(), reading.result())
        for branch, acknowledged in writers.acknowledged.items():
            assert await values_of(engine, branch) == list(range(acknowledged))
        assert await engine.verify_views() == []
        assert (await engine.verify()).problems == []
    assert_whole(database)


async def _import(engine: Engine) -> None:
    async with open_engine(engine.path.parent.parent / "elsewhere.db") as elsewhere:
        await elsewhere.create_run("guest", parameters={"big": _BIG}, exist_ok=True)
        export = await exported(elsewhere)
    await imported(engine, export)


UPKEEP: Final[dict[str, Callable[[Engine], Awaitable[Any]]]] = {
    "rebuild": lambda engine: engine.rebuild(),
    "verify_views": lambda engine: engine.verify_views(),
    "compact": lambda engine: engine.compact(),
    "erase": lambda engine: engine.erase("r", None, 2, "why"),
    "delete_run": lambda engine: engine.delete_run("old", "why"),
    "import_runs": _import,
}


def _left(disk: SmallDisk) -> set[str]:
    return {path.name for path in disk.folder.iterdir()} - {"ballast", "runs.db-rebuild-lock"}


@pytest.mark.parametrize("disk", ["tmpfs", "ext4"], indirect=True)
async def test_upkeep_on_a_full_disk_says_so_and_leaves_all_as_it_was(disk: SmallDisk) -> None:
    """Upkeep on a full disk raises DiskFull, changes neither views, history nor files, and succeeds with room again."""
    async with open_engine(disk.folder / "runs.db") as engine:
        await engine.create_run("old", parameters={"a": 1})
        run = await engine.create_run("r", parameters={"secret": _BIG})
        before, files = await run.compile(), _left(disk)
        with disk.full():
            for upkeep in UPKEEP.values():
                with pytest.raises(DiskFull):
                    await upkeep(engine)
                assert _left(disk) == files
                assert await engine.last_position() == 4
            assert (await engine.verify()).problems == []
            assert await run.compile() == before
        assert await engine.verify_views() == []
        for upkeep in UPKEEP.values():
            await upkeep(engine)
        assert [info.run_id for info in await engine.runs()] == ["guest", "r"]
        assert await engine.verify_views() == []
    assert_whole(disk.folder / "runs.db")


@pytest.mark.parametrize("disk", ["tmpfs", "ext4"], indirect=True)
async def test_a_file_is_opened_read_and_closed_on_a_full_disk(disk: SmallDisk) -> None:
    """A store whose log and shared memory exist can be opened, read and closed on a full disk, and stays whole."""
    database = disk.folder / "runs.db"
    async with open_engine(database) as engine:
        await engine.create_run("r", parameters={"a": _BIG})
        with disk.full():
            async with open_engine(database) as other:
                assert (await (await other.run("r")).parameters())["a"].value == _BIG
                with pytest.raises(DiskFull):
                    await other.create_run("other")
            await engine.close()
            async with open_engine(database) as other:
                assert [info.run_id for info in await other.runs()] == ["r"]
    assert_whole(database)
    async with open_engine(database) as engine:
        await engine.create_run("other")
        assert await engine.verify_views() == []


@pytest.mark.parametrize("disk", ["tmpfs", "ext4"], indirect=True)
async def test_opening_without_room_for_what_readers_share_says_so(disk: SmallDisk) -> None:
    """The first opening of a file needs room for shared memory and raises DiskFull without it, leaving nothing open."""
    database = disk.folder / "runs.db"
    async with open_engine(database) as engine:
        await engine.create_run("r")
    async with nothing_left(disk.folder):
        with disk.full(), pytest.raises(DiskFull):
            await open_engine(database)
        with disk.full(), pytest.raises(DiskFull):
            await open_engine(disk.folder / "new.db")
    async with open_engine(database) as engine:
        assert [info.run_id for info in await engine.runs()] == ["r"]
    async with open_engine(disk.folder / "new.db") as engine:
        await engine.create_run("r")
