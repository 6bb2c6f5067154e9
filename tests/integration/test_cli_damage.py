"""What the commands print for a file that has lost events, whose views were altered, or that is no store."""

import asyncio
import contextlib
import os
import sqlite3
from pathlib import Path

import pytest

from engine import open_engine
from engine.cli import main


async def _record(database: Path) -> None:
    async with open_engine(database) as engine:
        run = await engine.create_run("r1", parameters={"lr": 0.1})
        await run.set_parameters({"lr": 0.2})
        await run.set_parameters({"lr": 0.3})


@pytest.fixture
def database(database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of four events; the environment names the file."""
    asyncio.run(_record(database))
    monkeypatch.setenv("ANABRANCH_DB", str(database))
    return database


def _sql(database: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        assert connection.execute(statement).rowcount > 0


@pytest.mark.parametrize("command", [("show",), ("tree",), ("fork", "--as", "r2")])
def test_a_point_whose_event_is_lost_is_named(
    database: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    """A point whose event is lost raises ReadFailed, which names version, branch and run and points to `verify`.

    Other points of the run stay readable.
    """
    _sql(database, "DELETE FROM events WHERE stream_version = 3")
    assert main([*command, "r1", "--at", "3"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("anabranch: ReadFailed: ")
    assert said.endswith("version 3 of branch '' of run 'r1' is missing; run `anabranch verify` for details\n")
    assert main(["show", "r1", "--at", "2"]) == 0


def test_a_damaged_row_is_reported_with_advice(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error for a damaged row points to `doctor`; the output of `doctor` itself does not."""
    _sql(database, "UPDATE parameters SET value = '{'")
    assert main(["params", "r1"]) == 1
    assert capsys.readouterr().err.endswith("; `anabranch doctor` says what to do\n")
    _sql(database, "UPDATE branches SET created_at = CAST(x'ff' AS TEXT)")
    assert main(["doctor"]) == 1
    assert "says what to do" not in capsys.readouterr().out


def _sqlite_file(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize("command", ["runs", "doctor"])
def test_foreign_files_are_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    """A file that is no store is refused and stays unchanged, and nothing is created beside it."""
    (tmp_path / "text").write_text("no database")
    _sqlite_file(tmp_path / "foreign", "CREATE TABLE t (x)")
    _sqlite_file(tmp_path / "empty", "CREATE TABLE t (x)", "DROP TABLE t")
    _sqlite_file(tmp_path / "foreign in WAL mode", "PRAGMA journal_mode = WAL", "CREATE TABLE t (x)")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    found = {}
    for path in before:
        assert main([command, "--db", str(path)]) == 1
        captured = capsys.readouterr()
        found[path.name] = captured.err.split(": ")[1] if captured.err else captured.out.split()[0]
    assert found == {
        "text": "NotADatabase" if command == "runs" else "found",
        "foreign": "ForeignDatabase",
        "foreign in WAL mode": "ForeignDatabase",
        "empty": "DatabaseNotFound",
    }
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("command", ["runs", "doctor"])
def test_devices_and_pipes_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    """A device or a pipe is refused by name without being opened."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path(os.devnull)):
        assert main([command, "--db", str(path)]) == 1
        said = capsys.readouterr().err
        assert said == f"anabranch: CannotOpen: cannot open '{path}': it is not a regular file\n"


def test_a_store_that_was_just_made_is_read_while_open(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A store whose content is still in the write-ahead log alone is readable."""
    new = database.with_name("new.db")

    async def read_meanwhile() -> None:
        async with open_engine(new) as engine:
            await engine.create_run("fresh")
            assert await asyncio.to_thread(main, ["runs", "--db", str(new)]) == 0

    asyncio.run(read_meanwhile())
    assert "fresh" in capsys.readouterr().out
