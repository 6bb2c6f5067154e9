"""`anabranch backup`: its output, its exit codes and its errors."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main
from tests.integration.backups import EVENTS, RUNS, left_in, record_store
from tests.integration.conftest import Shown
from tests.integration.test_cli_text import hidden


@pytest.fixture
def recorded(database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small store; the environment names it."""
    monkeypatch.setenv("ANABRANCH_DB", str(database))
    asyncio.run(record_store(database))
    return database


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A path for a backup, in an existing empty folder."""
    (tmp_path / "backups").mkdir()
    return tmp_path / "backups" / "monday.db"


def test_the_output_says_what_was_copied_and_verified(shown: Shown, target: Path) -> None:
    """`backup` prints the target, the counts, the last position, what was verified, and the root of the copy."""
    first, holds, proven, root = shown("backup", str(target)).splitlines()
    assert first.startswith(f"backed up runs.db to {target} in ")
    size = target.stat().st_size
    assert holds.split(maxsplit=1) == [
        "holds",
        f"{EVENTS} events of {RUNS} runs, up to position {EVENTS}; {size:,} bytes",
    ]
    assert proven.split(maxsplit=1) == ["verified", "every page, hash, link and reduction, and the views row by row"]
    assert root.split() == ["root", json.loads(shown("checkpoint", "--db", str(target)))["root"]]
    assert left_in(target) == ["monday.db", "monday.db-lock"]


def test_json_has_the_same_numbers(document: Callable[..., Any], target: Path) -> None:
    """`backup --json` prints the same facts as fields, with the duration."""
    told = document("backup", str(target))
    assert told.pop("seconds") > 0
    assert len(told.pop("root")) == 64
    size = target.stat().st_size
    assert told == {"path": str(target), "bytes": size, "runs": RUNS, "events": EVENTS, "position": EVENTS}


def test_a_checkpoint_of_the_original_verifies_the_copy(shown: Shown, target: Path, tmp_path: Path) -> None:
    """`verify --since` accepts a checkpoint of the original for the copy."""
    (tmp_path / "monday.json").write_text(shown("checkpoint"))
    shown("backup", str(target))
    verified = shown("verify", "--since", str(tmp_path / "monday.json"), "--db", str(target))
    assert f"unchanged since the checkpoint at position {EVENTS}" in verified


@pytest.mark.parametrize(
    ("to", "name", "code"),
    [
        ("nowhere/monday.db", "BackupFailed", 1),
        ("runs.db", "BackupExists", 1),
        ("runs.db-journal", "InvalidValue", 1),
        (".", "UsageError", 2),
    ],
)
def test_a_failed_backup_is_one_line(
    recorded: Path, capsys: pytest.CaptureFixture[str], to: str, name: str, code: int
) -> None:
    """A target that cannot be a backup is a named error on standard error, and the store stays unchanged."""
    before = recorded.read_bytes()
    assert main(["backup", str(recorded.parent / to)]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"anabranch: {name}: ")
    assert recorded.read_bytes() == before


def test_a_missing_database_is_not_created(target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`backup` of a missing database raises DatabaseNotFound and creates no file."""
    assert main(["backup", str(target), "--db", str(target.parent / "missing.db")]) == 1
    assert "DatabaseNotFound" in capsys.readouterr().err
    assert left_in(target) == []


def test_hostile_names_of_files_are_neutralised(shown: Shown, target: Path) -> None:
    """`backup` prints a file name with its control characters escaped."""
    assert hidden(shown("backup", str(target.with_name("\x1b[2J\u202ea.db")))) <= {"\n"}
