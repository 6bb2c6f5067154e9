"""Opening: what becomes a store, what is refused by name, and what stays unchanged."""

import contextlib
import hashlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, open_engine
from engine.errors import (
    AlreadyEntered,
    CannotOpen,
    FolderNotWritable,
    ForeignDatabase,
    InvalidValue,
    NetworkFileSystem,
    NewerDatabase,
    NotADatabase,
    ReadFailed,
)
from engine.logs import mounts as mounts_module
from engine.logs import sqlite_schema
from engine.logs.sqlite import SqliteEventLog
from engine.logs.sqlite_schema import SCHEMA_VERSION
from tests.faults.leaks import nothing_left
from tests.integration.unprivileged import unprivileged


async def _written(database: Path, *, runs: int = 1) -> None:
    async with open_engine(database) as engine:
        for index in range(runs):
            await engine.create_run(f"r{index}", parameters={"text": "x" * 1000})


async def _positions(database: Path) -> list[int]:
    async with open_engine(database) as engine:
        return [recorded.position async for recorded in engine.events()]


def _pragma(database: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute(statement)
        connection.commit()


async def _error(path: Path | str, **options: float) -> CannotOpen:
    with pytest.raises(CannotOpen) as caught:
        async with open_engine(path, **options):  # type: ignore[arg-type]
            pass
    return caught.value


async def test_a_missing_file_and_its_folders_are_created_for_the_owner_alone(tmp_path: Path) -> None:
    """`open_engine` creates a missing file and its folders; only the owner can read the file."""
    database = tmp_path / "a" / "b" / "runs.db"
    await _written(database)
    assert database.stat().st_mode & 0o777 == 0o600


async def test_an_empty_file_becomes_a_store(database: Path) -> None:
    """An empty file becomes a store."""
    database.touch()
    await _written(database)


async def test_a_url_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The URLs `sqlite:///relative.db` and `sqlite:////absolute.db` name a file."""
    monkeypatch.chdir(tmp_path)
    async with open_engine("sqlite:///relative.db"), open_engine(f"sqlite:///{tmp_path}/absolute.db"):
        pass
    assert {"relative.db", "absolute.db"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("url", ["postgres://host/db", "sqlite://host/runs.db", "sqlite:///"])
async def test_any_other_url_is_refused(url: str) -> None:
    """A URL of any other form raises InvalidValue with that URL."""
    with pytest.raises(InvalidValue) as caught:
        await open_engine(url)
    assert caught.value.value == url


@pytest.mark.parametrize("name", ["", ":memory:", "file:runs.db", "file::memory:?cache=shared"])
async def test_what_means_something_else_to_sqlite_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A text with a special meaning to SQLite, such as `:memory:`, is refused; a `Path` is always a file."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidValue, match="names no file; give a path"):
        await open_engine(name)
    assert list(tmp_path.iterdir()) == []
    if name:
        await _written(Path(name))
        assert (tmp_path / name).exists()


async def test_a_url_of_no_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sqlite:///:memory:` is refused like `:memory:`."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidValue, match="names no file"):
        await open_engine("sqlite:///:memory:")
    assert list(tmp_path.iterdir()) == []


async def test_a_relative_path_means_the_same_file_wherever_the_process_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path keeps naming the same file after the process changes its working folder."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    async with open_engine("runs.db") as engine:
        await engine.create_run("r")
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert (await (await engine.run("r")).info()).run_id == "r"
        await engine.rebuild()
    assert list((tmp_path / "elsewhere").iterdir()) == []


async def test_a_link_leads_to_the_same_lock(tmp_path: Path) -> None:
    """Openers of one file by a symbolic link and by its own name share one lock file."""
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "runs.db")
    async with open_engine(link), open_engine(tmp_path / "runs.db"):
        assert not (tmp_path / "link.db-lock").exists()


async def test_what_is_no_database_is_refused_and_left_alone(database: Path) -> None:
    """A file that SQLite cannot read raises NotADatabase and stays unchanged."""
    garbage = hashlib.sha512(b"garbage").digest() * 100
    database.write_bytes(garbage)
    async with nothing_left(database.parent):
        error = await _error(database)
    assert (type(error), error.path) == (NotADatabase, database)
    assert database.read_bytes() == garbage


@pytest.mark.parametrize("content", [b"x", b"SQLite format 3\0" + bytes(400)], ids=["a byte", "a beginning"])
async def test_what_is_too_short_for_a_database_is_left_alone(database: Path, content: bytes) -> None:
    """A file too short to be a database raises NotADatabase and stays unchanged.

    SQLite would take it for an empty database and write over it.
    """
    database.write_bytes(content)
    assert isinstance(await _error(database), NotADatabase)
    assert database.read_bytes() == content


async def test_a_truncated_database_is_refused(database: Path) -> None:
    """A database cut within its first page raises NotADatabase."""
    await _written(database)
    database.write_bytes(database.read_bytes()[:2000])
    assert isinstance(await _error(database), NotADatabase)


async def test_a_database_that_lost_its_end_fails_by_name(database: Path) -> None:
    """A database that lost its second half raises NotADatabase or ReadFailed, and its engine still closes."""
    await _written(database, runs=50)
    content = database.read_bytes()
    database.write_bytes(content[: len(content) // 8192 * 4096])
    async with nothing_left(database.parent):
        with pytest.raises((NotADatabase, ReadFailed)):
            await _positions(database)


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE theirs (x)", "PRAGMA user_version = 7", "PRAGMA application_id = 7"]
)
async def test_a_foreign_database_is_refused_and_left_alone(database: Path, statement: str) -> None:
    """A SQLite database of another program raises ForeignDatabase and stays unchanged."""
    _pragma(database, statement)
    before = database.read_bytes()
    async with nothing_left(database.parent):
        assert isinstance(await _error(database), ForeignDatabase)
    assert database.read_bytes() == before


async def test_a_database_of_a_newer_version_is_refused_and_left_alone(database: Path) -> None:
    """A database of a newer schema version raises NewerDatabase with both versions, and stays unchanged."""
    await _written(database)
    _pragma(database, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = database.read_bytes()
    error = await _error(database)
    assert isinstance(error, NewerDatabase)
    assert (error.found, error.supported) == (SCHEMA_VERSION + 1, SCHEMA_VERSION)
    assert database.read_bytes() == before


async def test_a_folder_is_no_database(tmp_path: Path) -> None:
    """The path of a folder raises CannotOpen, which says that it is a folder."""
    assert str(await _error(tmp_path)).endswith("it is a folder")


@pytest.mark.parametrize(
    "name", ["a\0b", "x" * 256, "x" * 252, "\ud800"], ids=["nul", "long", "long lock", "surrogate"]
)
async def test_a_path_that_no_file_can_have_is_refused(tmp_path: Path, name: str) -> None:
    """A path that the file system cannot hold, or whose lock it cannot name, raises CannotOpen."""
    async with nothing_left(tmp_path):
        assert (await _error(tmp_path / name)).path == tmp_path / name


async def test_a_path_may_hold_bytes_that_are_no_text(tmp_path: Path) -> None:
    """A file name that is not UTF-8 works for every connection to the file, and for a backup."""
    async with open_engine(tmp_path / os.fsdecode(b"\xff %.db")) as engine:
        await engine.create_run("r")
        assert (await (await engine.run("r")).info()).run_id == "r"
        await engine.rebuild()
        assert await engine.verify_views() == []
        await engine.backup(tmp_path / os.fsdecode(b"\xfe.db"))


async def test_a_path_below_a_file_is_refused(tmp_path: Path) -> None:
    """A path below a file raises FolderNotWritable."""
    (tmp_path / "file").touch()
    assert isinstance(await _error(tmp_path / "file" / "runs.db"), FolderNotWritable)


async def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    """A path through circular symbolic links raises CannotOpen."""
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    await _error(tmp_path / "a" / "runs.db")


async def test_a_lock_file_that_cannot_be_opened_is_refused(database: Path) -> None:
    """A lock file that cannot be opened raises FolderNotWritable and leaves no connection open."""
    Path(f"{database}-lock").mkdir()
    async with nothing_left(database.parent):
        assert isinstance(await _error(database), FolderNotWritable)


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that everybody may read and only its owner may write."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


async def test_a_read_only_folder_is_refused(shared_folder: Path) -> None:
    """Opening a new store in a read-only folder raises FolderNotWritable with the path."""
    shared_folder.chmod(0o555)
    with unprivileged():
        error = await _error(shared_folder / "runs.db")
    assert (type(error), error.path) == (FolderNotWritable, shared_folder / "runs.db")


async def test_a_read_only_file_is_refused(shared_folder: Path) -> None:
    """Opening a read-only file for writing raises FolderNotWritable."""
    await _written(shared_folder / "runs.db")
    (shared_folder / "runs.db").chmod(0o444)
    with unprivileged():
        assert isinstance(await _error(shared_folder / "runs.db"), FolderNotWritable)


async def test_a_network_file_system_is_refused_unless_allowed(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network file system raises NetworkFileSystem with its type, unless `allow_network` is set."""
    mounts = database.with_name("mounts")
    mounts.write_text(f"1 0 0:1 / / rw - ext4 dev rw\n2 1 0:2 / {database.parent} rw - nfs4 host:/x rw\n")
    mounted_as = mounts_module.mounted_as
    monkeypatch.setattr(mounts_module, "mounted_as", lambda folder, _: mounted_as(folder, mounts))
    error = await _error(database)
    assert isinstance(error, NetworkFileSystem)
    assert error.file_system == "nfs4"
    async with open_engine(database, allow_network=True) as engine:
        await engine.create_run("r")


async def test_two_engines_of_one_process_share_the_file(database: Path) -> None:
    """Two engines of one process on one file see each other's writes."""
    async with open_engine(database) as one, open_engine(database) as two:
        await one.create_run("r")
        await (await two.run("r")).set_parameters({"a": 1})
        assert (await (await one.run("r")).parameters())["a"].value == 1


async def test_an_opening_is_entered_once(database: Path) -> None:
    """Entering the result of `open_engine` twice raises AlreadyEntered."""
    opening = open_engine(database)
    async with opening:
        with pytest.raises(AlreadyEntered, match="already entered"):
            await opening.__aenter__()


async def test_entering_and_awaiting_open_the_same(database: Path) -> None:
    """`async with open_engine(…)` and `await open_engine(…)` both give an Engine."""
    async with open_engine(database) as entered:
        assert isinstance(entered, Engine)
    awaited = await open_engine(database)
    assert isinstance(awaited, Engine)
    await awaited.close()


async def test_an_unknown_durability_is_refused(database: Path) -> None:
    """An unknown durability raises InvalidValue."""
    with pytest.raises(InvalidValue):
        await open_engine(database, durability="ful")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "synchronous"), [({}, 2), ({"durability": "full"}, 2), ({"durability": "relaxed"}, 1)]
)
async def test_every_commit_is_synced_unless_durability_is_relaxed(
    database: Path, options: dict[str, Any], synchronous: int
) -> None:
    """The writing connection has `synchronous` FULL (2) by default, and NORMAL (1) with `durability="relaxed"`."""
    async with open_engine(database, **options) as engine:
        await engine.create_run("r")
        assert isinstance(engine._log, SqliteEventLog)
        assert await engine._log.exclusively(lambda each: each.execute("PRAGMA synchronous").fetchone()) == (
            synchronous,
        )


async def test_whoever_makes_the_file_meanwhile_is_not_taken_for_a_stranger(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that another opener makes a store between two reads of its header is not refused as foreign."""

    def interrupted(connection: sqlite3.Connection) -> int:
        with (
            contextlib.closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as other,
            contextlib.suppress(sqlite3.Error),
        ):
            other.execute("BEGIN IMMEDIATE")
            other.execute("CREATE TABLE store (key TEXT)")
            other.execute(f"PRAGMA application_id = {sqlite_schema.APPLICATION_ID}")
            other.execute("COMMIT")
        monkeypatch.setattr(sqlite_schema, "schema_version", schema_version)
        return schema_version(connection)

    schema_version = sqlite_schema.schema_version
    monkeypatch.setattr(sqlite_schema, "schema_version", interrupted)
    async with open_engine(database) as engine:
        await engine.create_run("r1")


@pytest.mark.parametrize("left", [None, b""])
async def test_a_log_without_its_file_is_left_alone(tmp_path: Path, left: bytes | None) -> None:
    """A write-ahead log whose database is missing or empty raises CannotOpen and stays unchanged.

    SQLite would remove it, though it may hold every write.
    """
    path, copy = tmp_path / "runs.db", tmp_path / "copy.db"
    async with open_engine(path) as engine:
        await engine.create_run("r")
        log = path.with_name("runs.db-wal").read_bytes()
    copy.with_name("copy.db-wal").write_bytes(log)
    if left is not None:
        copy.write_bytes(left)
    with pytest.raises(CannotOpen, match=r"its write-ahead log of .* bytes exists"):
        async with open_engine(copy):
            pass
    assert copy.with_name("copy.db-wal").read_bytes() == log
