"""The lock of a run's folder has one holder, refuses others at once, and is free once its holder is dead."""

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine import Engine
from engine.errors import AnabranchError, FolderNotWritable, RunLocked
from engine.logs.file_lock import FileLock
from engine.stores import RunLock, SQLiteStateStore, StateStore

ROOT = Path(__file__).parents[2]
RACERS = 4


def start(task: str, database: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.faults.lock_worker", task, str(database)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def next_line(worker: "subprocess.Popen[str]") -> str:
    assert worker.stdout is not None
    return worker.stdout.readline().rstrip("\n")


@contextmanager
def holding(task: str, database: Path) -> Iterator["subprocess.Popen[str]"]:
    """A worker that holds the lock; the block's end also ends the processes that the worker left asleep."""
    with start(task, database) as worker:
        try:
            assert next_line(worker) == "held"
            yield worker
        finally:
            worker.kill()


def refused(lock: RunLock) -> RunLocked:
    """Return the error that is raised when the lock is held."""
    with pytest.raises(RunLocked) as caught, lock:
        pass
    return caught.value


def is_free(folder: Path) -> bool:
    try:
        with RunLock(folder):
            return True
    except RunLocked:
        return False


@pytest.mark.parametrize("task", ["hold", "hold_awaiting"])
def test_the_lock_is_refused_to_others_and_the_holder_is_named(database: Path, task: str) -> None:
    """A second taker is refused at once, by an error that names the locked file and the process that holds it."""
    with holding(task, database) as worker, SQLiteStateStore(database) as store:
        error = refused(store.lock())
        assert (error.path, error.holder) == (database.with_name("run.lock"), worker.pid)
        assert str(worker.pid) in str(error)
        assert isinstance(error, AnabranchError)
        assert isinstance(error, RuntimeError)


@pytest.mark.parametrize("task", ["hold", "hold_awaiting"])
def test_a_holder_that_is_killed_frees_it(database: Path, task: str) -> None:
    """`kill -9` of the holder frees the lock; the next taker is then named as its holder."""
    with holding(task, database) as worker:
        worker.kill()
        worker.wait()
        with RunLock(database.parent):
            assert refused(RunLock(database.parent)).holder == os.getpid()


@pytest.mark.parametrize("task", ["hold_and_fork", "hold_and_spawn"])
def test_what_the_holder_has_started_does_not_keep_it(database: Path, task: str) -> None:
    """The lock is free once its holder is dead, although a process that the holder forked or started is still alive."""
    with holding(task, database) as worker:
        assert refused(RunLock(database.parent)).holder == worker.pid
        worker.kill()
        worker.wait()
        assert is_free(database.parent)
        assert worker.stdin is not None
        worker.stdin.close()
        assert next_line(worker) == "woken"  # it was asleep until now


def test_a_holder_that_ends_frees_it(database: Path) -> None:
    """The lock is free once the holder's block and process have ended."""
    with holding("hold", database) as worker:
        worker.communicate()
        assert worker.returncode == 0
        assert is_free(database.parent)


def test_of_many_processes_one_is_inside_at_a_time(database: Path) -> None:
    """Of several racing processes, only one holds the lock at a time, and each gets it."""
    racers = [start("race", database) for _ in range(RACERS)]
    assert [racer.communicate()[0] for racer in racers] == ["done\n"] * RACERS


async def test_both_forms_exclude_each_other(engine: Engine, database: Path) -> None:
    """`async with` and `with`, on the store and its blocking twin, take the same lock."""
    awaited = StateStore(engine)
    with SQLiteStateStore(database) as store:
        async with awaited.lock():
            assert refused(store.lock()).holder == os.getpid()
            assert refused(awaited.lock()).holder == os.getpid()
        with store.lock(), pytest.raises(RunLocked):
            async with awaited.lock():
                pass
        async with awaited.lock():
            pass


def test_it_is_not_reentrant(tmp_path: Path) -> None:
    """A holder is refused a second lock, by the same object as by another, and keeps the first."""
    lock = RunLock(tmp_path)
    with lock:
        assert refused(lock).holder == os.getpid()
        assert not is_free(tmp_path)
    with lock:
        assert not is_free(tmp_path)


def test_of_many_threads_one_is_inside_at_a_time(tmp_path: Path) -> None:
    """Threads of one process exclude each other as processes do, even on one object."""
    lock, inside, failures = RunLock(tmp_path), threading.Lock(), []

    def take() -> None:
        for _ in range(100):
            try:
                with lock:
                    if inside.acquire(blocking=False):
                        inside.release()
                    else:
                        failures.append("not alone")
            except RunLocked:
                continue

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert is_free(tmp_path)


def test_an_error_inside_frees_it(tmp_path: Path) -> None:
    """An error that ends the block frees the lock."""
    with pytest.raises(KeyboardInterrupt), RunLock(tmp_path):
        raise KeyboardInterrupt
    assert is_free(tmp_path)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # forking is what is tested
def test_a_forked_child_that_leaves_the_block_does_not_free_it(tmp_path: Path) -> None:
    """A forked child that leaves the block does not free its parent's lock."""

    def in_child(lock: RunLock) -> int:
        lock.__exit__(None, None, None)
        return 3 if is_free(tmp_path) else 0

    with RunLock(tmp_path) as lock:
        assert exit_code_of_a_fork(lambda: in_child(lock)) == 0
        assert refused(RunLock(tmp_path)).holder == os.getpid()


def exit_code_of_a_fork(work: Callable[[], int]) -> int:
    child = os.fork()
    if child == 0:
        try:
            os._exit(work())
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def test_a_folder_without_room_for_it_says_so(tmp_path: Path) -> None:
    """A folder in place of the lock file raises FolderNotWritable, which names the path."""
    (tmp_path / "run.lock").mkdir()
    with pytest.raises(FolderNotWritable, match=r"run\.lock"), RunLock(tmp_path):
        pass


@pytest.mark.parametrize("note", ["", "0", "-1", f"{2**31}", "somebody"])
def test_a_note_that_names_no_process_names_nobody(tmp_path: Path, note: str) -> None:
    """A lock file whose text is no process id gives a RunLocked without a holder: older hosts write other notes."""
    with RunLock(tmp_path) as held:
        held.path.write_text(note)
        assert refused(RunLock(tmp_path)).holder is None


def test_a_full_disk_does_not_prevent_locking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is taken even if the holder's id cannot be written to it."""

    def fail(_lock: FileLock, _note: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(FileLock, "leave_note", fail)
    with RunLock(tmp_path):
        assert refused(RunLock(tmp_path)).holder is None
    assert is_free(tmp_path)
