"""The state store's blocking twin in threads, loops and real processes: every attempt has a number of its own."""

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
    """A file with a run that has one task, and nobody who has it open."""
    with SQLiteStateStore(database) as store:
        store.create_run({"run_id": "r"})
        store.add_workflow({"tasks": {"a": {"image": "x"}}}, "r")
    return database


def run(name: str, database: Path) -> list[str]:
    """Run one of the children's functions as a script, and return the ids that it printed.

    Warnings are errors, and what is left open is a warning. Newer Pythons deprecate forking with threads, which is
    what is tested.
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
    """Every attempt that a caller was told of is there, numbered 1 to n, and the last one is the current one."""
    with SQLiteStateStore(database) as store:
        attempts = store.list_attempts("a")
        current = store.get_current_attempt("a")
    assert [each.attempt_index for each in attempts] == list(range(1, len(created) + 1))
    assert sorted(each.attempt_id for each in attempts) == sorted(created)
    assert current == attempts[-1]


@pytest.mark.parametrize("name", ["forked", pytest.param("spawned", marks=pytest.mark.slow)])
async def test_processes_number_the_attempts_of_one_task_together(begun: Path, name: str) -> None:
    """Eight processes create attempts for one task at once: the numbers are unique, and none is lost."""
    created = run(name, begun)
    assert len(created) == PROCESSES * ATTEMPTS
    assert_numbered(begun, created)
    async with open_engine(begun) as engine:
        assert await engine.verify_views() == []


def test_parent_and_child_go_on_after_a_plain_fork(begun: Path) -> None:
    """Each has an engine of its own from then on, and neither closes it."""
    created = run("raw_fork", begun)
    assert len(created) == 3 * ATTEMPTS
    assert_numbered(begun, created)


@pytest.mark.parametrize(("name", "writers"), [("exit_without_closing", 3), ("exit_inside_a_loop", 1)])
def test_a_process_ends_without_closing(begun: Path, name: str, writers: int) -> None:
    """It ends at once, without a warning, and leaves nothing behind but what it wrote."""
    created = run(name, begun)
    assert len(created) == writers * ATTEMPTS
    assert not begun.with_name("runs.db-wal").exists()
    assert_numbered(begun, created)


def test_threads_share_a_store(begun: Path) -> None:
    """Any thread may call, and all are numbered together."""
    with SQLiteStateStore(begun) as store, ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(store.create_attempt, "r", "a") for _ in range(40)]
        created = [call.result() for call in calls]
    assert_numbered(begun, created)


async def test_a_running_loop_may_call(begun: Path) -> None:
    """The loop waits for the answer, as for any blocking call."""
    with SQLiteStateStore(begun) as store:
        created = [store.create_attempt("r", "a") for _ in range(3)]
    assert_numbered(begun, created)


def test_two_stores_on_one_file_agree_at_once(begun: Path) -> None:
    """What one has written, the other reads in its next call."""
    with SQLiteStateStore(begun) as first, SQLiteStateStore(begun) as second:
        for index in range(1, 6):
            attempt_id = first.create_attempt("r", "a")
            assert second.get_current_attempt("a") == first.get_attempt(attempt_id)
            assert second.get_attempt_count("r", "a") == index
            second.update_attempt(attempt_id, status="COMPLETED")
            assert first.get_active_attempts("r") == []


async def test_both_twins_on_one_file_agree_at_once(begun: Path) -> None:
    """An engine that is awaited and a store that blocks may share a file in one process."""
    async with open_engine(begun) as engine:
        awaited = StateStore(engine)
        with SQLiteStateStore(begun) as store:
            created = [store.create_attempt("r", "a"), await awaited.create_attempt("r", "a")]
            assert store.list_attempts("a") == await awaited.list_attempts("a")
    assert_numbered(begun, created)


def test_folder_and_file_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is taken from the folder that is current when the store is made."""
    monkeypatch.chdir(tmp_path)
    with SQLiteStateStore("runs/2026/state.db") as store:
        monkeypatch.chdir("/")
        assert store.db_path == tmp_path / "runs/2026/state.db"
        store.create_run({"run_id": "r"})
    assert store.db_path.is_file()


def test_a_closed_store_says_so(database: Path) -> None:
    """Closing twice is nothing; calling after it is an error."""
    store = SQLiteStateStore(database)
    store.close()
    store.close()
    with pytest.raises(EngineClosed):
        store.get_run("r")


def test_closing_leaves_no_thread(database: Path) -> None:
    """What the store has started comes to its end when it is closed; a connection's thread a moment later."""
    before = set(threading.enumerate())
    with SQLiteStateStore(database) as store:
        store.create_run({"run_id": "r"})
    started = set(threading.enumerate()) - before
    for thread in started:
        thread.join(timeout=30)
    assert not any(thread.is_alive() for thread in started)
