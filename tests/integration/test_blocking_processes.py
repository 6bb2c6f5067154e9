"""Blocking stores in processes that are forked, spawned, pooled or abandoned: nothing hangs and nothing is lost."""

import subprocess
import sys
from pathlib import Path

import pytest

from engine.blocking import BlockingEngine
from engine.stores import BlockingRunLogStore
from tests.integration.blocking_children import WRITES

ROOT = Path(__file__).parents[2]


def run(name: str, database: Path) -> None:
    """Run a function of `blocking_children` as a script, which must succeed and print no error.

    Warnings are errors, and resources left open cause one. DeprecationWarning is exempt: newer Pythons raise it for
    forking with threads, which these tests do.
    """
    command = [sys.executable, "-X", "dev", "-W", "error", "-W", "ignore::DeprecationWarning"]
    done = subprocess.run(
        [*command, "-m", "tests.integration.blocking_children", name, str(database)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def parameters(database: Path, branch: str = "") -> dict[str, object]:
    with BlockingRunLogStore(database) as store:
        return {name: parameter.value for name, parameter in store.get_parameters("r", branch).items()}


def assert_all_written(database: Path, *writers: str) -> None:
    found = parameters(database)
    for writer in writers:
        assert {name for name in found if name.startswith(f"{writer}-")} == {f"{writer}-{i}" for i in range(WRITES)}
        assert parameters(database, f"branch.{writer}")["index"] == WRITES - 1


def test_a_process_ends_without_closing(database: Path) -> None:
    """An engine that nobody closed does not keep its process from exiting, and leaves no write-ahead log."""
    run("exit_without_closing", database)
    assert not database.with_name("runs.db-wal").exists()
    assert parameters(database) == {"x": 1}


def test_a_call_after_the_end_is_refused(database: Path) -> None:
    """At exit engines end; a handler that runs later gets `EngineClosed`, and what was recorded stays."""
    run("call_after_the_engine_has_ended", database)
    assert parameters(database) == {"x": 1}


@pytest.mark.skipif((3, 12) <= sys.version_info < (3, 12, 2), reason="Python 3.12.0 and 3.12.1 start no thread then")
def test_a_thread_may_call_when_the_main_thread_has_ended(database: Path) -> None:
    """A thread that outlives the main thread can still make calls and open a store."""
    run("thread_outlives_main", database)
    assert parameters(database) == {"x": 1, "y": 1}


def test_an_interrupt_ends_a_call(database: Path) -> None:
    """Ctrl-C ends a call that waits for ever, and neither the close nor the exit waits for its work."""
    run("interrupt_call", database)
    with BlockingEngine(database) as engine:
        assert [info.run_id for info in engine.call(lambda each: each.runs())] == ["r"]


def test_an_interrupt_ends_an_opening(database: Path) -> None:
    """Ctrl-C during an opening that waits for another process's lock leaves no engine open."""
    run("interrupt_opening", database)
    assert not database.with_name("runs.db-wal").exists()


def test_a_forked_child_opens_the_file_anew(database: Path) -> None:
    """After a fork, parent and child go on writing at once and lose nothing."""
    run("raw_fork", database)
    assert_all_written(database, "before", "parent", "child")


def test_a_fork_waits_for_no_thread_that_the_child_lacks(database: Path) -> None:
    """A child forked while other threads make calls does not deadlock on their locks, and the views stay true."""
    run("fork_amid_threads", database)
    assert_all_written(database, *(f"thread{index}" for index in range(3)), *(f"p{index}" for index in range(4)))
    with BlockingEngine(database) as engine:
        assert engine.call(lambda opened: opened.verify_views()) == []


def test_a_child_opens_the_file_while_a_thread_of_its_parent_does(database: Path) -> None:
    """A child forked while another thread waits for the engine to open does not wait for that thread."""
    run("fork_during_opening", database)
    with BlockingEngine(database) as engine:
        runs = engine.call(lambda each: each.runs())
    assert sorted(info.run_id for info in runs) == ["child", "parent", "r"]


def test_a_child_closes_while_a_thread_of_its_parent_calls(database: Path) -> None:
    """The close of a forked child does not wait for the calls that were under way in its parent."""
    run("fork_during_a_call", database)
    with BlockingEngine(database) as engine:
        runs = engine.call(lambda each: each.runs())
    assert sorted(info.run_id for info in runs) == ["child", "r"]


def test_a_child_may_fork_too(database: Path) -> None:
    """A forked child and its own forked child can each use the engine."""
    run("fork_of_a_fork", database)


@pytest.mark.parametrize("name", ["forked_pool", pytest.param("spawned_pool", marks=pytest.mark.slow)])
def test_a_store_may_be_pickled_into_a_pool(database: Path, name: str) -> None:
    """Pool workers that receive a pickled store write through it at once and lose nothing."""
    run(name, database)
    assert_all_written(database, *(f"task{index}" for index in range(6)))
