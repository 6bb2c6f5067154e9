"""`anabranch doctor`: it finds each kind of fault, gives advice, and with `--fix` repairs what is safe to repair."""

import asyncio
import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from engine import open_engine
from engine.cli import main
from engine.commands import Record
from engine.events import AttemptCreated, StepLogged
from engine.logs.file_lock import FileLock
from engine.model import AttemptLog
from tests.integration.recorded_tasks import LONG_AGO, record_tasks
from tests.integration.test_cli_text import hidden

Examined = Callable[..., tuple[int, dict[str, Any]]]

FROM_OUTSIDE = ["SQLite", "permissions", "file system", "disk", "syncs", "write-ahead log"]
CHECKS = [
    "file",
    "history",
    *FROM_OUTSIDE,
    "write lock",
    "run lock",
    "leftovers",
    "views",
    "pages",
    "schema",
    "attempts",
]

# Takes a lock, writes its process id into the file, lets a child inherit the lock, and exits; the child exits at EOF.
_INHERITING = """
import fcntl, os, sys
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
file.write(str(os.getpid())); file.flush()
if not os.fork():
    print("held", flush=True); os.close(1); sys.stdin.read()
"""


@pytest.fixture
def healthy(database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A healthy database, named by the environment, with one attempt that counts as orphaned by the default timeout."""
    monkeypatch.setenv("ANABRANCH_DB", str(database))
    monkeypatch.delenv("COLUMNS", raising=False)
    asyncio.run(record_tasks(database))
    return database


@pytest.fixture
def examined(healthy: Path, capsys: pytest.CaptureFixture[str]) -> Examined:
    """Run `doctor --json`; return the exit code and the checks.

    Unless `--timeout` is given, no attempt counts as orphaned.
    """

    def run(*arguments: str) -> tuple[int, dict[str, Any]]:
        timeout = [] if "--timeout" in arguments else ["--timeout", "1e12"]
        code = main(["doctor", "--json", *timeout, *arguments])
        document = json.loads(capsys.readouterr().out)
        assert document["healthy"] == (code == 0)
        return code, {check["name"]: check for check in document["checks"]}

    return run


def states(checks: dict[str, Any]) -> dict[str, str]:
    """Return the states of the checks that are not `ok`."""
    return {name: check["state"] for name, check in checks.items() if check["state"] != "ok"}


def _sql(database: Path, statement: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        return connection.execute(statement).fetchall()


def test_a_healthy_database_is_well(examined: Examined) -> None:
    """On a healthy database every check is made and is `ok`, and the exit code is 0."""
    code, checks = examined()
    assert (code, list(checks), states(checks)) == (0, CHECKS, {})


TAMPERED = {
    "UPDATE tasks SET status = 'COMPLETED'": {"views"},
    "ALTER TABLE tasks RENAME COLUMN image TO img": {"views"},
    "ALTER TABLE tasks ADD COLUMN extra TEXT": {"views"},
    "DELETE FROM task_attempts": {"views"},
    "UPDATE runs SET status = 'FORGED'": {"views"},
    "INSERT INTO schema_info VALUES ('forged', '1')": {"views"},
    "UPDATE schema_info SET value = '3'": {"views", "schema"},
    "DELETE FROM schema_info": {"views", "schema"},
    "DROP TABLE schema_info": {"views", "schema"},
    "DROP TABLE task_attempts": {"views", "attempts"},
    "DROP VIEW resolved_parameters": {"views"},
    "CREATE TRIGGER liar AFTER INSERT ON tasks BEGIN DELETE FROM tasks; END": {"views"},
}


@pytest.mark.parametrize("statement", TAMPERED)
def test_tampered_views_are_rebuilt(healthy: Path, examined: Examined, statement: str) -> None:
    """`doctor` finds views that were altered from outside; `--fix` rebuilds them as they were."""
    tables = "runs", "tasks", "task_attempts", "schema_info"
    before = [_sql(healthy, f"SELECT * FROM {table} ORDER BY 1") for table in tables]
    _sql(healthy, statement)

    code, checks = examined()
    assert (code, states(checks)) == (1, dict.fromkeys(TAMPERED[statement], "found"))
    assert "--fix" in checks["views"]["advice"]
    code, checks = examined("--fix")
    assert (code, states(checks)) == (0, {"views": "fixed"})
    assert [_sql(healthy, f"SELECT * FROM {table} ORDER BY 1") for table in tables] == before
    assert states(examined()[1]) == {}


def test_a_trigger_on_the_log_is_reported(healthy: Path, examined: Examined) -> None:
    """`doctor` reports a foreign trigger on the log's tables and never removes it."""
    _sql(healthy, "CREATE TRIGGER liar AFTER INSERT ON events BEGIN DELETE FROM events; END")
    code, checks = examined("--fix")
    assert (code, states(checks)) == (1, {"schema": "found"})
    assert "1 foreign trigger may change what is recorded: liar on events" in checks["schema"]["text"]
    _sql(healthy, "DROP TRIGGER liar")
    assert states(examined()[1]) == {}


def test_an_unreadable_event_leaves_the_views_alone(healthy: Path, examined: Examined) -> None:
    """An unreadable event is a finding with its position; `--fix` does not rebuild the views over it."""
    _sql(healthy, "UPDATE events SET payload = x'80' WHERE position = 3")
    before = _sql(healthy, "SELECT * FROM tasks")

    code, checks = examined("--fix")
    assert (code, states(checks)) == (1, {"history": "found", "views": "found"})
    assert "position 3" in checks["views"]["text"]
    assert "anabranch verify" in checks["views"]["advice"]
    assert _sql(healthy, "SELECT * FROM tasks") == before


async def _record_orphans(database: Path) -> None:
    async with open_engine(database) as engine:
        run = await engine.create_run("r2")
        await run.fork("fit.a")
        young = datetime.now(UTC) - timedelta(minutes=10)
        tried: list[dict[str, Any]] = [
            {"created_at": LONG_AGO},
            {"created_at": LONG_AGO, "external_id": "7"},
            {"created_at": LONG_AGO, "status": "RUNNING"},
            {"created_at": young},
        ]
        created = [
            AttemptCreated(branch="fit.a", step="train", attempt_id=f"t{index}", attempt_index=index, **fields)
            for index, fields in enumerate(tried, start=1)
        ]
        logged = StepLogged(branch="fit.a", step="train", name="train")
        await engine.write(run.run_id, Record(branch="fit.a", events=(logged, *created)))


async def _attempts(database: Path) -> dict[str, AttemptLog]:
    async with open_engine(database) as engine:
        runs = [await engine.run(run_id) for run_id in ("r1", "r2")]
        return {attempt.attempt_id: attempt for run in runs for _, attempt in await run.all_attempts()}


def test_orphaned_attempts_are_marked_in_any_run(healthy: Path, examined: Examined) -> None:
    """`--fix` marks orphaned attempts of every run as FAILED_INIT, and no others.

    Orphaned is an attempt that was created long ago and never submitted, and has no job.
    """
    asyncio.run(_record_orphans(healthy))
    before = asyncio.run(_attempts(healthy))

    code, checks = examined("--timeout", "3600")
    assert (code, states(checks)) == (1, {"attempts": "found"})
    assert "r1: lost #1, r2 fit.a: train #1" in checks["attempts"]["text"]
    assert [each["attempt"]["attempt_id"] for each in checks["attempts"]["details"]] == ["o1", "t1"]
    code, checks = examined("--timeout", "3600", "--fix")
    assert (code, states(checks)) == (0, {"attempts": "fixed"})

    after = asyncio.run(_attempts(healthy))
    assert {name for name in before if after[name] != before[name]} == {"o1", "t1"}
    assert (after["t1"].status, after["t1"].status_reason) == (
        "FAILED_INIT",
        "orphaned: created 2026-01-31 00:00:00 UTC and never submitted",
    )
    assert states(examined("--timeout", "3600")[1]) == {}


@pytest.mark.parametrize("timeout", ["inf", "nan", "-1"])
def test_the_timeout_is_a_number_of_seconds(healthy: Path, timeout: str) -> None:
    """A timeout that no attempt could ever reach is wrong usage, and not a problem of the database."""
    assert main(["doctor", "--db", str(healthy), "--timeout", timeout]) == 2


def test_the_timeout_decides_what_is_orphaned(healthy: Path, examined: Examined) -> None:
    """A shorter `--timeout` counts younger attempts as orphaned, too."""
    asyncio.run(_record_orphans(healthy))

    found = {
        timeout: {each["attempt"]["attempt_id"] for each in examined("--timeout", timeout)[1]["attempts"]["details"]}
        for timeout in ("3600", "300", "0")
    }
    assert found == {"3600": {"o1", "t1"}, "300": {"o1", "t1", "t4"}, "0": {"o1", "t1", "t4"}}


def test_a_run_lock_that_is_held_is_no_finding(healthy: Path, examined: Examined) -> None:
    """A run lock held by a live process is `ok`, with its holder's process id; a released lock is free."""
    assert examined()[1]["run lock"]["text"] == "has never been taken"
    assert not (healthy.parent / "run.lock").exists()
    lock = FileLock(healthy.parent / "run.lock")
    assert lock.try_acquire()
    (healthy.parent / "run.lock").write_text(str(os.getpid()))

    code, checks = examined()
    assert (code, checks["run lock"]["text"]) == (0, f"is held by process {os.getpid()}, which is alive")
    assert checks["run lock"]["details"]["holder"] == os.getpid()
    lock.close()
    assert examined()[1]["run lock"]["text"] == "is free"


@pytest.mark.parametrize("note", ["", "nobody", "-1", "0", str(10**30)])
def test_a_holder_that_left_no_name(healthy: Path, examined: Examined, note: str) -> None:
    """A lock file whose note is no process id gives no holder."""
    lock = FileLock(healthy.parent / "run.lock")
    assert lock.try_acquire()
    (healthy.parent / "run.lock").write_text(note)
    code, checks = examined()
    lock.close()

    assert (code, checks["run lock"]["details"]["holder"]) == (0, None)


@pytest.fixture(params=["asked for", "not asked for"])
def dead_holder(request: pytest.FixtureRequest, healthy: Path) -> Iterator[int]:
    """The id of a dead process that took `run.lock`, while a child of it still holds the lock.

    "Not asked for": its parent has not reaped it, so the process id still exists.
    """
    command = [sys.executable, "-c", _INHERITING, str(healthy.parent / "run.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        if request.param == "asked for":
            process.wait()
        elif not Path("/proc/self/stat").exists():
            pytest.skip("this system does not tell who has ended")
        yield process.pid


def test_a_run_lock_of_a_dead_process_is_reported_and_kept(dead_holder: int, examined: Examined) -> None:
    """A run lock whose taker is dead but whose child holds it is a finding with advice; `--fix` leaves it."""
    code, checks = examined("--fix")

    assert (code, states(checks)) == (1, {"run lock": "found"})
    assert f"process {dead_holder}, which took it, is dead" in checks["run lock"]["text"]
    assert "lsof run.lock" in checks["run lock"]["advice"]


def test_a_held_write_lock_does_not_block_other_checks(healthy: Path, examined: Examined) -> None:
    """`doctor` does not wait for a held write lock: it reports it, makes every other check and fixes nothing."""
    _sql(healthy, "DELETE FROM task_attempts")
    lock = FileLock(Path(f"{healthy}-lock"))
    assert lock.try_acquire()
    code, checks = examined("--fix")
    lock.close()

    assert (code, states(checks)) == (1, {"write lock": "found", "views": "found"})
    assert states(examined("--fix")[1]) == {"views": "fixed"}


LEFT = "-rebuild", "-rebuild-journal", "-compare-00ff00ff00ff00ff", "-compare-00ff00ff00ff00ff-journal"


@pytest.fixture
def leftovers(healthy: Path) -> list[Path]:
    """Scratch files that a rebuild and a comparison left two days ago, beside files of similar names."""
    left = [Path(f"{healthy}{suffix}") for suffix in LEFT]
    two_days_ago = datetime.now(UTC).timestamp() - 2 * 86_400
    names = "runs.dbx-rebuild", "runs.db-rebuilt", "other.db-compare-00ff00ff00ff00ff", "runs.db-compare-baseline"
    alike = [healthy.parent / name for name in names]
    for path in [*left, *alike]:
        path.touch()
        os.utime(path, (two_days_ago, two_days_ago))
    return left


def test_leftovers_are_removed(leftovers: list[Path], healthy: Path, examined: Examined) -> None:
    """`--fix` removes leftover scratch files and no other file in the folder."""
    before = {path.name for path in healthy.parent.iterdir()}

    code, checks = examined()
    assert (code, states(checks)) == (1, {"leftovers": "found"})
    assert checks["leftovers"]["details"] == sorted(map(str, leftovers))
    assert states(examined("--fix")[1]) == {"leftovers": "fixed"}
    assert before - {path.name for path in healthy.parent.iterdir()} == {path.name for path in leftovers}
    assert states(examined()[1]) == {}


def test_what_may_be_in_use_is_kept(leftovers: list[Path], healthy: Path, examined: Examined) -> None:
    """Scratch files that may be in use are kept: those of a running rebuild, and recent ones of a comparison."""
    for path in leftovers:
        os.utime(path)
    rebuilding = FileLock(Path(f"{healthy}-rebuild-lock"))
    assert rebuilding.try_acquire()
    code, checks = examined("--fix")
    rebuilding.close()

    assert (code, checks["leftovers"]["text"]) == (0, "none; 4 scratch files may be in use")
    assert all(path.exists() for path in leftovers)


def _update_lost(database: Path) -> list[Any]:
    """Delete the last update of an attempt from the log, and return the rows of the attempts' view."""
    ((position,),) = _sql(database, "SELECT max(position) FROM events WHERE event_type = 'AttemptUpdated'")
    _sql(database, f"DELETE FROM events WHERE position = {position}")
    return _sql(database, "SELECT * FROM task_attempts")


def test_a_lost_event_is_a_finding_and_the_views_are_left(healthy: Path, examined: Examined) -> None:
    """A lost event is a finding, and `--fix` leaves the views, which may be the last record of what it said.

    Nor does it mark attempts as orphaned by what is left.
    """
    told = _update_lost(healthy)

    code, checks = examined("--fix", "--timeout", "0")
    assert (code, states(checks)) == (1, {"history": "found", "views": "found", "attempts": "found"})
    assert checks["history"]["text"].startswith("is damaged: missing event, ")
    assert "no rebuild restores an event" in checks["history"]["advice"]
    assert _sql(healthy, "SELECT * FROM task_attempts") == told


def test_rebuild_leaves_the_views_of_a_lost_event(healthy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`rebuild` refuses a log that has lost an event, and rebuilds from what is left with `--force`."""
    told = _update_lost(healthy)

    assert main(["rebuild"]) == 1
    assert "HistoryNotWhole: nothing was rebuilt: " in capsys.readouterr().err
    assert _sql(healthy, "SELECT * FROM task_attempts") == told
    assert main(["rebuild", "--force"]) == 0
    assert _sql(healthy, "SELECT * FROM task_attempts") != told


def test_problems_come_with_advice(healthy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`doctor` prints a line for each check, an arrow before each advice, and the verdict last."""
    _sql(healthy, "UPDATE tasks SET status = 'COMPLETED'")

    assert main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line[0] != " "] == [
        *["ok"] * 11,
        *("found", "ok", "ok", "found"),
        "runs.db:",
    ]
    assert sum(line.strip().startswith("→") for line in lines) == 2
    assert lines[-1] == "runs.db: 2 problems found"
    assert main(["doctor", "--fix"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "runs.db is healthy; 2 problems were fixed"
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "runs.db is healthy"


def test_lines_fit_the_terminal(
    healthy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`doctor` prints no line longer than the terminal is wide."""
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["doctor"]) == 1
    assert max(len(line) for line in capsys.readouterr().out.splitlines()) <= 60


def test_reading_creates_no_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`doctor --fix` on a missing file raises DatabaseNotFound and creates nothing."""
    assert main(["doctor", "--fix", "--db", str(tmp_path / "missing.db")]) == 1
    assert "DatabaseNotFound" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


async def _record_hostile(database: Path) -> None:
    async with open_engine(database) as engine:
        run = await engine.create_run("[red]r[/red] :x:")
        created = AttemptCreated(branch="", step="[bold]s", attempt_id="h1", attempt_index=1, created_at=LONG_AGO)
        logged = StepLogged(branch="", step="[bold]s", name="[bold]s")
        await run.write(Record(events=(logged, created)))


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_hostile_names_stay_text(healthy: Path, capsys: pytest.CaptureFixture[str], options: list[str]) -> None:
    """`doctor` prints markup in names as plain text."""
    asyncio.run(_record_hostile(healthy))
    assert main(["doctor", *options]) == 1

    printed = capsys.readouterr().out
    assert hidden(printed) <= {"\n"}
    assert "[red]r[/red] :x:: [bold]s #1" in printed
