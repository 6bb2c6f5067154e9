"""The cases in which `engine.backup` refuses: names that are taken or impossible, damaged stores, a full disk."""

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import Engine
from engine.errors import BackupExists, BackupFailed, DiskFull, InvalidValue
from engine.logs import sqlite_backup
from engine.logs.forking import connect_new
from tests.integration.backups import left_in, refuse_links


@pytest.mark.parametrize("suffix", ["", "-wal", "-journal"])
@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
async def test_what_is_there_is_not_touched(original: Engine, target: Path, kind: str, suffix: str) -> None:
    """A backup never touches an existing entry of the target's name, nor a `-wal` or `-journal` file beside it.

    `BackupExists` names the entry.
    """
    found = Path(f"{target}{suffix}")
    make: dict[str, Callable[[], object]] = {
        "file": lambda: found.write_text("mine"),
        "folder": found.mkdir,
        "dangling link": lambda: found.symlink_to("nowhere"),
    }
    make[kind]()
    with pytest.raises(BackupExists) as caught:
        await original.backup(target)
    assert (caught.value.path, caught.value.found) == (target, found)
    assert left_in(target) == [found.name]
    assert kind != "file" or found.read_text() == "mine"


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
async def test_a_file_that_comes_meanwhile_is_not_touched(
    original: Engine, target: Path, monkeypatch: pytest.MonkeyPatch, *, links: bool
) -> None:
    """A file created under the target name during the backup is kept, also on a file system without hard links."""
    if not links:
        monkeypatch.setattr(Path, "hardlink_to", refuse_links)
    monkeypatch.setattr(sqlite_backup, "_check_free", lambda _: None)  # the file appears after the last check
    await _assert_kept(original, target, target)


async def test_a_log_that_comes_meanwhile_is_not_touched(original: Engine, target: Path) -> None:
    """A backup is refused, and the file kept, when a `-wal` file appears beside the target during the backup."""
    await _assert_kept(original, target, Path(f"{target}-wal"))


async def _assert_kept(engine: Engine, target: Path, taken: Path) -> None:
    def take(_what: str, _done: int, _total: int) -> None:
        taken.write_text("mine")

    with pytest.raises(BackupExists):
        await engine.backup(target, take)
    assert taken.read_text() == "mine"
    assert left_in(target) == [taken.name]


async def test_a_file_system_may_have_no_links(original: Engine, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system without hard links the copy gets its name by a rename."""
    monkeypatch.setattr(Path, "hardlink_to", refuse_links)
    made = await original.backup(target)
    assert left_in(target) == ["monday.db"]
    assert (target.stat().st_size, target.stat().st_mode & 0o777) == (made.bytes, 0o600)


OWN = "-wal", "-shm", "-journal", "-lock", "-unsynced", "-rebuild", "-rebuild-lock", "-compare-0f0f0f0f0f0f0f0f"


async def test_names_that_the_database_uses_are_refused(original: Engine) -> None:
    """The names that the database uses for its own files are refused as backup targets.

    A backup there would be read as the database's log, or removed as a leftover.
    """
    for suffix in OWN:
        with pytest.raises((InvalidValue, BackupExists)):
            await original.backup(f"{original.path}{suffix}")
    await original.backup(f"{original.path}-monday")


@pytest.mark.parametrize("path", ["a\0b", "\ud800", 7, None, b"x"])
async def test_what_is_no_path_is_refused(original: Engine, path: object) -> None:
    """A target that is not a valid path raises InvalidValue, which names the argument `path`."""
    with pytest.raises(InvalidValue) as caught:
        await original.backup(path)  # type: ignore[arg-type]
    assert caught.value.where == "path"


@pytest.mark.parametrize("name", ["nowhere/a.db", "file/a.db", "x" * 250, ""])
async def test_where_no_file_can_be_there_is_no_backup(original: Engine, tmp_path: Path, name: str) -> None:
    """A backup is refused, and creates nothing, where no file can be created.

    The folder is missing or is a file, the name is too long with SQLite's suffixes, or the target is a folder.
    """
    (tmp_path / "file").touch()
    before = sorted(tmp_path.iterdir())
    with pytest.raises((BackupFailed, BackupExists)):
        await original.backup(tmp_path / name)
    assert sorted(tmp_path.iterdir()) == before


DAMAGE = {
    "UPDATE events SET payload = x'80' WHERE position = 3": "the history is damaged: .*position 3",
    "DELETE FROM streams WHERE branch = 'fit'": "the history is damaged",
    "UPDATE runs SET status = 'FORGED'": "the view runs does not match the events",
    "DROP TABLE runs": "the view runs does not match the events",
    "PRAGMA user_version = 99": "the copy cannot be read: .*version 99",
    "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'CREATE INDEX events_by_run ON events (stream_id)'"
    " WHERE name = 'events_by_run'": "SQLite finds damage in the file: row .* missing from index events_by_run",
}


@pytest.mark.parametrize("statements", DAMAGE)
async def test_a_store_that_is_not_whole_is_not_backed_up(original: Engine, target: Path, statements: str) -> None:
    """A backup of a damaged store raises BackupFailed with the reason and leaves no file."""
    with contextlib.closing(sqlite3.connect(original.path, isolation_level=None)) as connection:
        connection.executescript(statements)
    with pytest.raises(BackupFailed, match=DAMAGE[statements]) as caught:
        await original.backup(target)
    assert caught.value.path == target
    assert left_in(target) == []


async def test_an_error_without_a_code_fails_the_backup(
    original: Engine, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that `sqlite3` raises without an SQLite error code becomes BackupFailed."""

    def undecodable(_: sqlite3.Connection) -> list[str]:
        raise sqlite3.OperationalError("Could not decode to UTF-8 column")

    monkeypatch.setattr(sqlite_backup, "damage_in_log", undecodable)
    with pytest.raises(BackupFailed, match="Could not decode to UTF-8 column") as caught:
        await original.backup(target)
    assert caught.value.path == target
    assert left_in(target) == []


async def test_a_disk_that_is_full(original: Engine, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk a backup raises DiskFull, removes what it copied, and the store stays writable."""

    def connect_to_little_room(path: Path) -> sqlite3.Connection:
        connection = connect_new(path)
        connection.execute("PRAGMA max_page_count = 4")
        return connection

    monkeypatch.setattr(sqlite_backup, "connect_new", connect_to_little_room)
    with pytest.raises(DiskFull) as caught:
        await original.backup(target)
    assert caught.value.path == target
    assert left_in(target) == []
    await original.create_run("after")
