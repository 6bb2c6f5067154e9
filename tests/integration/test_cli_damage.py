"""What the commands say of a file that has lost something, or whose views hold what was never recorded."""

import asyncio
import contextlib
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
    """A run of four events. The environment names the file."""
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
    """The version and the branch, and what tells more: the run itself is there."""
    _sql(database, "DELETE FROM events WHERE stream_version = 3")
    assert main([*command, "r1", "--at", "3"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("anabranch: ReadFailed: ")
    assert said.endswith("version 3 of branch '' of run 'r1' is not there; `anabranch verify` tells more\n")
    assert main(["show", "r1", "--at", "2"]) == 0


def test_a_damaged_row_is_told_with_a_way_out(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever reads it is sent to the doctor, who does not send to itself."""
    _sql(database, "UPDATE parameters SET value = '{'")
    assert main(["params", "r1"]) == 1
    assert capsys.readouterr().err.endswith("; `anabranch doctor` says what to do\n")
    _sql(database, "UPDATE branches SET created_at = CAST(x'ff' AS TEXT)")
    assert main(["doctor"]) == 1
    assert "says what to do" not in capsys.readouterr().out
