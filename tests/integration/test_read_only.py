"""`open_engine(read_only=True)`: an archive, or a store on read-only media, is read in place."""

import asyncio
import contextlib
import hashlib
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, open_engine
from engine.cli import main
from engine.errors import CannotOpen, InvalidValue, NotADatabase, StoreReadOnly
from tests.integration.unprivileged import unprivileged


async def _record(database: Path) -> None:
    """Record a run with a reduced branch, in a closed file that is alone in its folder."""
    async with open_engine(database) as engine:
        run = await engine.create_run("r", parameters={"x": 1})
        branch = await run.fork("b")
        async with branch.attempt("fit"):
            await branch.set_parameters({"x": 2})
        await run.reduce()
    Path(f"{database}-lock").unlink()


def _state(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in folder.iterdir()
    }


async def test_everything_is_read_and_nothing_is_made(database: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A read-only engine serves every kind of read and a backup, changes no file and creates none.

    The backup is writable.
    """
    await _record(database)
    before = _state(database.parent)
    copy = tmp_path_factory.mktemp("copy") / "copy.db"
    async with open_engine(database, read_only=True) as engine:
        run = await engine.run("r")
        assert (await run.parameters())["x"].value == 2
        assert (await run.parameters(at=2))["x"].value == 1
        assert list((await run.compile()).branches["b"].steps) == ["fit"]
        assert (await engine.verify(since=await engine.checkpoint())).problems == []
        assert await engine.verify_views() == []
        assert len([recorded async for recorded in engine.events()]) == await engine.last_position()
        assert (await run.lineage("x")).sources[0].branch == "b"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(engine.subscribe(after=await engine.last_position())), 0.05)
        await engine.backup(copy)
    assert _state(database.parent) == before
    async with open_engine(copy) as engine:
        await (await engine.run("r")).set_parameters({"y": 1})


Write = Callable[[Engine], Awaitable[Any]]
WRITES: dict[str, Write] = {
    "an append": lambda engine: engine.create_run("s"),
    "a deletion": lambda engine: engine.delete_run("r", "old"),
    "an erasure": lambda engine: engine.erase("r", None, 2, "a key"),
    "a compaction": lambda engine: engine.compact(),
    "a rebuild": lambda engine: engine.rebuild(),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_whatever_would_write_is_refused(database: Path, write: Write) -> None:
    """Every write on a read-only engine raises StoreReadOnly, and reads go on."""
    await _record(database)
    before = _state(database.parent)
    async with open_engine(database, read_only=True) as engine:
        with pytest.raises(StoreReadOnly, match="was opened read-only"):
            await write(engine)
        assert (await engine.run("r")).run_id == "r"
    assert _state(database.parent) == before


async def _refused(database: Path) -> str:
    with pytest.raises(CannotOpen) as caught:
        await open_engine(database, read_only=True)
    return caught.value.reason


async def test_what_cannot_be_read_as_it_is_is_refused(database: Path) -> None:
    """A read-only opening is refused with the reason, unless the file is readable as it stands.

    Reasons: it is missing, has a write-ahead log, needs a migration, had a failed sync, or is no database.
    """
    assert "there is no such file" in await _refused(database)
    await _record(database)
    async with open_engine(database) as engine:
        await engine.create_run("s")
        assert "write-ahead log" in await _refused(database)
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE view_checkpoints SET version = 1 WHERE view = 'state'")
    assert "of an earlier version" in await _refused(database)
    Path(f"{database}-unsynced").touch()
    assert "a sync of it failed" in await _refused(database)
    Path(f"{database}-unsynced").unlink()
    database.write_bytes(b"no database" * 100)
    with pytest.raises(NotADatabase):
        await open_engine(database, read_only=True)
    with pytest.raises(InvalidValue, match="read_only"):
        await open_engine(database, read_only="yes")  # type: ignore[arg-type]


async def test_a_schema_whose_names_are_no_text_is_refused(database: Path) -> None:
    """A read-only opening of a file whose schema has a name that is not UTF-8 raises NotADatabase."""
    await _record(database)
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET sql = 'CREATE', name = CAST(x'ff' AS TEXT) WHERE name = 'runs'")
    with pytest.raises(NotADatabase):
        await open_engine(database, read_only=True)


@pytest.fixture
def archive() -> Iterator[Path]:
    """A recorded file that everybody may read and nobody may write."""
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "runs.db"
        asyncio.run(_record(database))
        database.chmod(0o444)
        Path(folder).chmod(0o555)
        yield database
        Path(folder).chmod(0o755)


def test_the_command_reads_what_may_not_be_written(
    archive: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Commands read an unwritable file with a warning; a command that writes raises StoreReadOnly."""
    with unprivileged():
        assert main(["verify", "--db", str(archive)]) == 0
        assert "opened read-only: no permission to write the file or its folder" in caplog.text
        assert main(["params", "r", "--json", "--db", str(archive)]) == 0
        assert main(["pin", "r", "--db", str(archive)]) == 1
        assert "StoreReadOnly" in capsys.readouterr().err
    assert [path.name for path in archive.parent.iterdir()] == [archive.name]


async def test_a_file_in_a_folder_that_may_not_be_entered_is_refused(archive: Path) -> None:
    """By the engine's own error, not by the system's."""
    archive.parent.chmod(0)
    with unprivileged(), pytest.raises(CannotOpen, match="Permission denied"):
        await open_engine(archive, read_only=True)


def test_the_command_says_why_it_cannot_read_it(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A command that can open a file in neither way reports both reasons."""
    mode = archive.parent.stat().st_mode
    archive.parent.chmod(0o700)
    Path(f"{archive}-wal").write_bytes(b"x" * 100)
    archive.parent.chmod(mode)
    with unprivileged():
        assert main(["runs", "--db", str(archive)]) == 1
    error = capsys.readouterr().err
    assert "FolderNotWritable" in error
    assert "opening it read-only failed, too: its write-ahead log of 100 bytes" in error
