"""An engine whose files are moved, removed or replaced while it is open."""

import shutil
from pathlib import Path

import pytest
import structlog.testing

from engine import Engine, open_engine
from engine.errors import CannotOpen, StoreReplaced
from engine.logs.sync_failures import SyncFailureMark


@pytest.mark.parametrize("replaced", [False, True])
async def test_nothing_is_written_to_a_file_that_nobody_finds_any_more(database: Path, replaced: bool) -> None:  # noqa: FBT001 - pytest gives it
    """Writes raise StoreReplaced while the file is moved away or replaced, and succeed once it is back."""
    async with open_engine(database) as engine:
        run = await engine.create_run("r")
        await engine.backup(database.with_name("copy.db"))
        database.rename(database.with_name("aside.db"))
        if replaced:
            database.with_name("copy.db").rename(database)
        for _ in range(2):
            with pytest.raises(StoreReplaced):
                await run.set_parameters({"x": 1})
        if replaced:  # a reader connection opened now would read the other file
            with pytest.raises(StoreReplaced):
                await run.parameters()
        database.unlink(missing_ok=True)
        database.with_name("aside.db").rename(database)
        await run.set_parameters({"x": 2})
    async with open_engine(database) as engine:
        assert (await (await engine.run("r")).parameters())["x"].value == 2


async def test_what_is_committed_is_acknowledged_in_a_folder_that_cannot_be_looked_into(tmp_path: Path) -> None:
    """A committed write is acknowledged although the size of the write-ahead log cannot be read."""
    folder, aside = tmp_path / "folder", tmp_path / "aside"
    async with open_engine(folder / "runs.db") as engine:
        run = await engine.create_run("r")
        await run.set_parameters({"x": 0})
        folder.rename(aside)
        folder.touch()  # a file takes the folder's name, so that no path below it can be examined
        try:
            assert (await run.set_parameters({"x": 1})).stream_version == 3
        finally:
            folder.unlink()
            aside.rename(folder)
        assert (await run.parameters())["x"].value == 1


async def test_a_file_that_has_another_name_is_warned_of(database: Path) -> None:
    """Opening a file with a second hard link logs a warning: each name has its own lock and log."""
    async with open_engine(database) as engine:
        await engine.create_run("r")
    database.with_name("other.db").hardlink_to(database)
    with structlog.testing.capture_logs() as logged:
        async with open_engine(database):
            pass
    (warning,) = [each for each in logged if each["log_level"] == "warning"]
    assert (warning["path"], warning["names"]) == (str(database), 2)


async def test_a_lock_file_that_was_removed_is_made_anew(database: Path, engine: Engine) -> None:
    """A removed lock file is created again, and old and new openers queue for the same lock."""
    run = await engine.create_run("r")
    lock = database.with_name("runs.db-lock")
    lock.unlink()
    async with open_engine(database) as other:
        await run.set_parameters({"x": 1})
        await (await other.run("r")).set_parameters({"y": 1})
    assert lock.exists()
    assert set(await run.parameters()) == {"x", "y"}


@pytest.mark.parametrize("suffix", ["-wal", "-lock", "-rebuild", "-unsynced", "-compare-0123456789abcdef"])
async def test_a_store_has_no_name_of_anothers_files(database: Path, engine: Engine, suffix: str) -> None:
    """A name that belongs to another store's files raises CannotOpen; a name that only resembles one is accepted."""
    await engine.create_run("r")
    with pytest.raises(CannotOpen, match=r"reserved for a file of the database runs\.db beside it"):
        await open_engine(f"{database}{suffix}")
    async with open_engine(f"{database}-compare-baseline") as alike:
        await alike.create_run("precious")
    await engine.compact()
    async with open_engine(f"{database}-compare-baseline") as alike:
        assert [run.run_id for run in await alike.runs()] == ["precious"]


@pytest.mark.parametrize("name", ["folder-rebuild", "notes-journal", ".-lock", "..-wal", "-lock", "gone-lock"])
async def test_a_name_that_is_like_one_of_other_files_is_nobodys(tmp_path: Path, name: str) -> None:
    """A store may have a name with such a suffix if what precedes it is no database."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes").write_text("some text")
    async with open_engine(tmp_path / name) as engine:
        await engine.create_run("r")


async def test_a_store_may_be_called_like_a_file_of_one_that_is_not_there(tmp_path: Path) -> None:
    """A store may be called `x-rebuild` where no store `x` exists, and then owns the names derived from its own."""
    async with open_engine(tmp_path / "x-rebuild") as engine:
        await engine.create_run("r")
    with pytest.raises(CannotOpen, match=r"reserved for a file of the database x-rebuild beside it"):
        await open_engine(tmp_path / "x-rebuild-journal")


async def test_a_file_that_is_no_mark_of_a_failed_sync_is_left_alone(database: Path) -> None:
    """A non-empty file with the name of a sync-failure mark is no mark, and is kept."""
    mark = SyncFailureMark(database)
    mark.path.write_text("a store of that name")
    async with open_engine(database) as engine:
        await engine.create_run("r")
    assert mark.path.read_text() == "a store of that name"


async def test_a_copy_takes_the_place_of_its_store_when_that_is_closed(database: Path) -> None:
    """A backup may replace the file of a closed store."""
    async with open_engine(database) as engine:
        await engine.create_run("r")
        await engine.backup(database.with_name("copy.db"))
    shutil.move(database.with_name("copy.db"), database)
    async with open_engine(database) as engine:
        assert [run.run_id for run in await engine.runs()] == ["r"]
