"""`anabranch doctor` on the files: permissions, file systems, damage, leftovers and readers."""

import asyncio
import contextlib
import errno
import json
import os
import shutil
import sqlite3
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from engine.cli import main
from engine.cli.doctor import checks as doctors_checks
from engine.cli.doctor import file_checks
from engine.cli.doctor.file_checks import check_log_size, check_sqlite, reading
from engine.logs.partial_folder import PartialFolder
from engine.logs.sync_failures import SyncFailureMark
from engine.logs.wal_limit import WAL_BYTES_MAX
from tests.faults.children import next_line
from tests.integration.backups import opened_copy

Examined = Callable[..., tuple[int, dict[str, Any]]]

# Opens a read transaction on a database and keeps it open until its input ends.
_READING = """
import sqlite3, sys
connection = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True, isolation_level=None)
connection.execute("BEGIN")
connection.execute("SELECT count(*) FROM events").fetchone()
print("reading", flush=True)
sys.stdin.read()
"""


class Usage(NamedTuple):
    """The part of the result of `shutil.disk_usage` that is read."""

    free: int


@pytest.fixture
def examined(store: Path, database: Path, capsys: pytest.CaptureFixture[str]) -> Examined:
    """Run `doctor --json` on a copy of the store; return the exit code and the checks that are not `ok`."""
    shutil.copyfile(store, database)
    database.chmod(0o600)

    def run(*arguments: str) -> tuple[int, dict[str, Any]]:
        code = main(["doctor", "--json", "--db", str(database), *arguments])
        document = json.loads(capsys.readouterr().out)
        assert document["database"] == str(database)
        return code, {check["name"]: check for check in document["checks"] if check["state"] != "ok"}

    return run


def test_files_that_others_may_read_are_restricted(database: Path, examined: Examined) -> None:
    """Files that others may read are a finding; `--fix` leaves only the owner's permissions."""
    lock = Path(f"{database}-lock")
    lock.touch()
    database.chmod(0o664)
    lock.chmod(0o604)

    code, found = examined()
    assert (code, list(found)) == (1, ["permissions"])
    assert all(named in found["permissions"]["text"] for named in ("runs.db (664)", "runs.db-lock (604)"))
    assert "chmod 600 runs.db " in found["permissions"]["advice"]
    code, found = examined("--fix")
    assert (code, {name: check["state"] for name, check in found.items()}) == (0, {"permissions": "fixed"})
    assert [path.stat().st_mode & 0o777 for path in (database, lock)] == [0o600, 0o600]
    assert examined() == (0, {})


def test_a_network_file_system_is_a_finding(examined: Examined, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database on a network file system is examined all the same, and that is a finding."""
    monkeypatch.setattr("engine.logs.mounts.mounted_as", lambda *_: "nfs4")
    monkeypatch.setattr(file_checks, "mounted_as", lambda *_: "nfs4")
    code, found = examined()
    assert (code, list(found)) == (1, ["file system"])
    assert "nfs4, a network file system" in found["file system"]["text"]


def test_an_unknown_file_system_is_no_finding(examined: Examined, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that does not say what kind of file system is mounted gives no finding."""
    monkeypatch.setattr(file_checks, "mounted_as", lambda *_: None)
    assert examined() == (0, {})


def test_a_disk_that_is_nearly_full_is_a_finding(examined: Examined, monkeypatch: pytest.MonkeyPatch) -> None:
    """A nearly full disk is a finding that says what a write without room raises."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(free=12_000_000))
    code, found = examined()
    assert (code, list(found)) == (1, ["disk"])
    assert found["disk"]["text"].startswith("only 12.0 MB free: a write that does not fit raises DiskFull")


def test_a_sync_that_had_failed_is_reported(database: Path, capsys: pytest.CaptureFixture[str], store: Path) -> None:
    """A failed sync of a file that is whole is reported once: opening it has cleared the mark."""
    shutil.copyfile(store, database)
    database.chmod(0o600)
    SyncFailureMark(database).set()
    said = []
    for _ in range(2):
        assert main(["doctor", "--json", "--db", str(database)]) == 0
        checks = json.loads(capsys.readouterr().out)["checks"]
        said += [check["text"] for check in checks if check["name"] == "syncs"]
    assert "one had failed; opening the file has rewritten everything" in said[0]
    assert said[1] == "none is known to have failed"


def test_a_damaged_file_after_a_failed_sync_is_a_finding(database: Path, examined: Examined) -> None:
    """A damaged file with a failed sync is a finding, with advice, until the mark is removed."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE events SET recorded_at = 0 WHERE position = 1")
        connection.commit()
    mark = SyncFailureMark(database)
    mark.set()
    code, found = examined()
    assert (code, found["syncs"]["details"]) == (1, {"mark": str(mark.path)})
    assert "remove runs.db-unsynced to write to it as it is" in found["syncs"]["advice"]
    mark.clear()
    assert "syncs" not in examined()[1]


def test_room_for_less_than_another_copy_is_reported(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little room for another copy is no finding, but the check says that a copy may not fit."""
    with database.open("wb") as file:
        file.truncate(10**10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(free=10**9))
    check = file_checks.check_disk(database)
    assert (check.state, check.text.partition(",")[0]) == ("ok", "1.0 GB free")
    assert "may not fit" in check.text


def test_a_write_ahead_log_that_only_grows_is_a_finding(database: Path) -> None:
    """A write-ahead log over its limit is a finding that points to readers; one at the limit is `ok`."""
    log = Path(f"{database}-wal")
    states = []
    for size in (0, WAL_BYTES_MAX, WAL_BYTES_MAX + 1):
        with log.open("wb") as file:
            file.truncate(size)
        states.append(check_log_size(database).state)
    assert states == ["ok", "ok", "found"]
    assert "an unknown process may be reading" in check_log_size(database).text
    assert "lsof runs.db-shm" in check_log_size(database).advice


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="this system does not tell who holds a lock")
async def test_readers_are_named(store: Path, database: Path) -> None:
    """`reading` names the processes that read, by SQLite's locks, until they end."""
    async with opened_copy(store, database) as engine:
        await engine.create_run("r")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _READING, database, stdin=PIPE, stdout=PIPE
        )
        assert await next_line(process) == "reading"
        assert reading(Path(f"{database}-shm")) == [process.pid]
        with Path(f"{database}-wal").open("r+b") as log:
            log.truncate(WAL_BYTES_MAX + 1)  # SQLite ignores what follows the last frame
        assert f"1 process ({process.pid}) may be reading" in check_log_size(database).text
        await process.communicate(b"")
        assert reading(Path(f"{database}-shm")) == []


def test_unknown_readers_are_not_named(tmp_path: Path) -> None:
    """A database that nobody has open has no readers."""
    assert reading(tmp_path / "runs.db-shm") == []


EXPOSED = {
    (3, 40, 1): True,
    (3, 44, 5): True,
    (3, 44, 6): False,
    (3, 45, 9): True,
    (3, 50, 6): True,
    (3, 50, 7): False,
    (3, 51, 2): True,
    (3, 51, 3): False,
    (3, 52, 0): False,
    (4, 0, 0): False,
}


@pytest.mark.parametrize("version", EXPOSED)
def test_versions_of_sqlite_with_the_wal_reset_bug(version: tuple[int, int, int]) -> None:
    """The check says whether this version of SQLite has the WAL reset bug.

    It is no finding, since the engine is safe from it; other programs that write to the file are not.
    """
    check = check_sqlite(version)
    assert (check.state, check.details["wal_reset_bug"]) == ("ok", EXPOSED[version])
    assert ("other programs that write to or checkpoint the file are not" in check.text) == EXPOSED[version]


def test_leftovers_of_a_killed_backup_are_removed(database: Path, examined: Examined) -> None:
    """`--fix` removes the folders that killed backups left, and keeps that of a running one."""
    folders = [PartialFolder(database.parent) for _ in range(3)]
    for folder in folders:
        (folder.path / "copy.db").write_bytes(b"x" * 1000)
        os.utime(folder.path, (time.time() - 120, time.time() - 120))
    for folder in folders[1:]:
        folder._lock.close()
    code, found = examined()
    assert (code, list(found)) == (1, ["leftovers"])
    assert "(2,000 bytes)" in found["leftovers"]["text"]
    assert examined("--fix")[1]["leftovers"]["state"] == "fixed"
    assert examined() == (0, {})
    assert [each.name for each in database.parent.glob("anabranch-partial-*")] == [folders[0].path.name]
    folders[0].remove()


def test_leftovers_that_cannot_be_removed_remain_a_finding(
    database: Path, examined: Examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--fix` reports as fixed only what is gone."""
    folders = [PartialFolder(database.parent) for _ in range(2)]
    for folder in folders:
        os.utime(folder.path, (time.time() - 120, time.time() - 120))
        folder._lock.close()
    kept, remove = folders[0].path, shutil.rmtree

    def refuse(path: Path) -> None:
        if path == kept:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        remove(path)

    monkeypatch.setattr(shutil, "rmtree", refuse)
    code, found = examined("--fix")
    assert (code, found["leftovers"]["details"]) == (1, [str(kept)])
    assert [each.name for each in database.parent.glob("anabranch-partial-*")] == [kept.name]
    monkeypatch.undo()
    assert examined("--fix")[1]["leftovers"]["state"] == "fixed"


def test_a_file_with_content_marks_no_failed_sync(database: Path, examined: Examined) -> None:
    """Only the empty file that the engine leaves is a mark; anybody else's file by that name is not."""
    SyncFailureMark(database).path.write_bytes(b"notes")
    assert examined() == (0, {})


def _sql(database: Path, statement: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        return connection.execute(statement).fetchall()


@pytest.mark.parametrize("content", [b"x" * 5000, b"SQLite format 3\0" + b"x" * 5000])
def test_a_file_that_is_no_database_is_a_finding(database: Path, examined: Examined, content: bytes) -> None:
    """A file that is no database is a finding with advice, and `--fix` changes neither its bytes nor its mode."""
    database.write_bytes(content)
    database.chmod(0o644)
    code, found = examined("--fix")
    assert (code, list(found)) == (1, ["file"])
    assert "put a backup in its place" in found["file"]["advice"]
    assert (database.read_bytes(), database.stat().st_mode & 0o777) == (content, 0o644)


def test_a_damaged_file_is_reported_and_not_written_to(database: Path, examined: Examined) -> None:
    """Overwritten pages are findings, and `--fix` rebuilds nothing in a damaged file."""
    _sql(database, "UPDATE runs SET status = 'FORGED'")
    ((page,),) = _sql(database, "SELECT rootpage FROM sqlite_schema WHERE name = 'events_by_run'")
    with database.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\x5a" * 4096)
    code, found = examined("--fix")
    assert code == 1
    assert {name: check["state"] for name, check in found.items()} == dict.fromkeys(
        ("file", "history", "views", "pages"), "found"
    )
    assert "put a backup in its place; anabranch verify names what is lost" in found["file"]["advice"]


def test_a_log_that_has_lost_events_is_reported(database: Path, examined: Examined) -> None:
    """In a log that has lost events, the views are a finding, which says that no rebuild helps."""
    _sql(database, "DELETE FROM events WHERE event_type = 'AttemptCreated'")
    code, found = examined("--fix")
    assert (code, list(found)) == (1, ["history", "views"])
    assert "EventOutOfPlace" in found["views"]["text"]
    assert "no rebuild restores it" in found["views"]["advice"]


def test_a_check_that_breaks_is_a_finding(examined: Examined, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that raises an unforeseen error is a finding, and the other checks are still made."""

    def break_off(_: object) -> list[str]:
        raise KeyError("unforeseen")

    monkeypatch.setattr(doctors_checks, "damage_in_log", break_off)
    code, found = examined()
    assert (code, list(found)) == (1, ["file"])
    assert "cannot be checked: KeyError" in found["file"]["text"]
