"""The state store's blocking twin in threads, event loops and processes: every attempt has a number of its own."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine import open_engine
from engine.errors import EngineClosed
from engine.stores import SQLiteStateStore, StateStore
from tests.integration.state_children import ATTEMPTS, PROCESSES

ROOT = Path(__file__).parents[2]


@pytest.fixture
def begun(database: Path) -> Path:
    """A closed file with a run that has one task."""
    with SQLiteStateStore(database) as store:
        store.create_run({"run_id": "r"})
        store.add_workflow({"tasks": {"a": {"image": "x"}}}, "r")
    return database


def run(name: str, database: Path) -> list[str]:
    """Run a function of `state_children` as a script, which must succeed silently; return the ids that it printed.

    Warnings are errors, and resources left open cause one. DeprecationWarning is exempt: newer Pythons raise it for
    forking with threads, which these tests do.
    """
    command = [sys.executable, "-X", "dev", "-W", "error", "-W", "ignore::DeprecationWarning"]
    done = subprocess.run(
        [*command, "-m", "tests.integration.state_children", name, str(database)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def assert_numbered(database: Path, created: list[str]) -> None:
    """Check that the attempts are exactly the created ones, numbered 1 to n, and that the last is the current one."""
    with SQLiteStateStore(database) as store:
        attempts = store.list_attempts("a")
        current = store.get_current_attempt("a")
    assert [each.attempt_index for each in attempts] == list(range(1, len(created) + 1))
    assert sorted(each.attempt_id for each in attempts) == sorted(created)
    assert current == attempts[-1]


@pytest.mark.parametrize("name", ["forked", pytest.param("spawned", marks=pytest.mark.slow)])
async def test_processes_number_the_attempts_of_one_task_together(begun: Path, name: str) -> None:
    """Attempts that eight processes create at once for one task have unique numbers, and none is lost."""
    created = run(name, begun)
    assert len(created) == PROCESSES * ATTEMPTS
    assert_numbered(begun, created)
    async with open_engine(begun) as engine:
        assert await engine.verify_views() == []


def test_parent_and_child_go_on_after_a_plain_fork(begun: Path) -> None:
    """After a plain fork, parent and child create attempts at once, and none is lost."""
    created = run("raw_fork", begun)
    assert len(created) == 3 * ATTEMPTS
    assert_numbered(begun, created)


@pytest.mark.parametrize(("name", "writers"), [("exit_without_closing", 3), ("exit_inside_a_loop", 1)])
def test_a_process_ends_without_closing(begun: Path, name: str, writers: int) -> None:
    """A process with an open store exits without a warning and leaves no write-ahead log."""
    created = run(name, begun)
    assert len(created) == writers * ATTEMPTS
    assert not begun.with_name("runs.db-wal").exists()
    assert_numbered(begun, created)


def test_threads_share_a_store(begun: Path) -> None:
    """Attempts that several threads create through one store are numbered together."""
    with SQLiteStateStore(begun) as store, ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(store.create_attempt, "r", "a") for _ in range(40)]
        created = [call.result() for call in calls]
    assert_numbered(begun, created)


async def test_a_running_loop_may_call(begun: Path) -> None:
    """The blocking store can be called inside a running event loop."""
    with SQLiteStateStore(begun) as store:
        created = [store.create_attempt("r", "a") for _ in range(3)]
    assert_numbered(begun, created)


def test_two_stores_on_one_file_agree_at_once(begun: Path) -> None:
    """A store reads in its next call what another store on the same file has written."""
    with SQLiteStateStore(begun) as first, SQLiteStateStore(begun) as second:
        for index in range(1, 6):
            attempt_id = first.create_attempt("r", "a")
            assert second.get_current_attempt("a") == first.get_attempt(attempt_id)
            assert second.get_attempt_count("r", "a") == index
            second.update_attempt(attempt_id, status="COMPLETED")
            assert first.get_active_attempts("r") == []


async def test_both_twins_on_one_file_agree_at_once(begun: Path) -> None:
    """An async and a blocking store on one file see each other's attempts."""
    async with open_engine(begun) as engine:
        awaited = StateStore(engine)
        with SQLiteStateStore(begun) as store:
            created = [store.create_attempt("r", "a"), await awaited.create_attempt("r", "a")]
            assert store.list_attempts("a") == await awaited.list_attempts("a")
    assert_numbered(begun, created)


def test_folder_and_file_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store creates its folder and file, and resolves a relative path when it is created."""
    monkeypatch.chdir(tmp_path)
    with SQLiteStateStore("runs/2026/state.db") as store:
        monkeypatch.chdir("/")
        assert store.db_path == tmp_path / "runs/2026/state.db"
        store.create_run({"run_id": "r"})
    assert store.db_path.is_file()


def test_a_closed_store_says_so(database: Path) -> None:
    """Calls on a closed store raise EngineClosed, and a second close does nothing."""
    store = SQLiteStateStore(database)
    store.close()
    store.close()
    with pytest.raises(EngineClosed):
        store.get_run("r")


def test_closing_leaves_no_thread(database: Path) -> None:
    """Every thread that a store started ends after its close."""
    before = set(threading.enumerate())
    with SQLiteStateStore(database) as store:
        store.create_run({"run_id": "r"})
    started = set(threading.enumerate()) - before
    for thread in started:
        thread.join(timeout=30)
    assert not any(thread.is_alive() for thread in started)
