"""What becomes of an engine whose files somebody moves, removes or replaces under it."""

import shutil
from pathlib import Path

import pytest
import structlog.testing

from engine import Engine, open_engine
from engine.errors import CannotOpen, StoreReplaced
from engine.logs.sync_failures import SyncFailureMark


@pytest.mark.parametrize("replaced", [False, True])
async def test_nothing_is_written_to_a_file_that_nobody_finds_any_more(database: Path, replaced: bool) -> None:  # noqa: FBT001 - pytest gives it
    """SQLite would go on in it, and what is acknowledged would be gone with the process."""
    async with open_engine(database) as engine:
        run = await engine.create_run("r")
        await engine.backup(database.with_name("copy.db"))
        database.rename(database.with_name("aside.db"))
        if replaced:
            database.with_name("copy.db").rename(database)
        for _ in range(2):
            with pytest.raises(StoreReplaced):
                await run.set_parameters({"x": 1})
        if replaced:  # a reader that is opened now is none of that file
            with pytest.raises(StoreReplaced):
                await run.parameters()
        database.unlink(missing_ok=True)
        database.with_name("aside.db").rename(database)
        await run.set_parameters({"x": 2})
    async with open_engine(database) as engine:
        assert (await (await engine.run("r")).parameters())["x"].value == 2


async def test_what_is_committed_is_acknowledged_in_a_folder_that_cannot_be_looked_into(tmp_path: Path) -> None:
    """How large the write-ahead log is cannot be told then; the write is recorded all the same."""
    folder, aside = tmp_path / "folder", tmp_path / "aside"
    async with open_engine(folder / "runs.db") as engine:
        run = await engine.create_run("r")
        await run.set_parameters({"x": 0})
        folder.rename(aside)
        folder.touch()  # there is no folder by that name: no path below it can be looked at
        try:
            assert (await run.set_parameters({"x": 1})).stream_version == 3
        finally:
            folder.unlink()
            aside.rename(folder)
        assert (await run.parameters())["x"].value == 1


async def test_a_file_that_has_another_name_is_warned_of(database: Path) -> None:
    """Each name has a lock and a log of its own: writes by one are lost to the other."""
    async with open_engine(database) as engine:
        await engine.create_run("r")
    database.with_name("other.db").hardlink_to(database)
    with structlog.testing.capture_logs() as logged:
        async with open_engine(database):
            pass
    (warning,) = [each for each in logged if each["log_level"] == "warning"]
    assert (warning["path"], warning["names"]) == (str(database), 2)


async def test_a_lock_file_that_was_removed_is_made_anew(database: Path, engine: Engine) -> None:
    """It looks like one that was left behind; who came before and who comes later queue for one lock again."""
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
    """The other would take it for its own and remove it. A name that only looks alike is nobody's."""
    await engine.create_run("r")
    with pytest.raises(CannotOpen, match=r"belongs to the database runs\.db beside it"):
        await open_engine(f"{database}{suffix}")
    async with open_engine(f"{database}-compare-baseline") as alike:
        await alike.create_run("precious")
    await engine.compact()
    async with open_engine(f"{database}-compare-baseline") as alike:
        assert [run.run_id for run in await alike.runs()] == ["precious"]


@pytest.mark.parametrize("name", ["folder-rebuild", "notes-journal", ".-lock", "..-wal", "-lock", "gone-lock"])
async def test_a_name_that_is_like_one_of_other_files_is_nobodys(tmp_path: Path, name: str) -> None:
    """What stands before the suffix is a folder, some text, or nothing: no store that would take it for its own."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes").write_text("some text")
    async with open_engine(tmp_path / name) as engine:
        await engine.create_run("r")


async def test_a_store_may_be_called_like_a_file_of_one_that_is_not_there(tmp_path: Path) -> None:
    """Then that name has files of its own, which nobody else may be called like."""
    async with open_engine(tmp_path / "x-rebuild") as engine:
        await engine.create_run("r")
    with pytest.raises(CannotOpen, match=r"belongs to the database x-rebuild beside it"):
        await open_engine(tmp_path / "x-rebuild-journal")


async def test_a_file_that_is_no_mark_of_a_failed_sync_is_left_alone(database: Path) -> None:
    """A mark is empty: what holds something was made by somebody else, maybe before the store was."""
    mark = SyncFailureMark(database)
    mark.path.write_text("a store of that name")
    async with open_engine(database) as engine:
        await engine.create_run("r")
    assert mark.path.read_text() == "a store of that name"


async def test_a_copy_takes_the_place_of_its_store_when_that_is_closed(database: Path) -> None:
    """Restoring a backup is no replacement under anybody."""
    async with open_engine(database) as engine:
        await engine.create_run("r")
        await engine.backup(database.with_name("copy.db"))
    shutil.move(database.with_name("copy.db"), database)
    async with open_engine(database) as engine:
        assert [run.run_id for run in await engine.runs()] == ["r"]
