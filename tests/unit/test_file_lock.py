"""The file lock that the writers of all processes queue for."""

import fcntl
import threading
from pathlib import Path

import pytest

from engine.logs.file_lock import FileLock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db-lock"


def is_free(path: Path) -> bool:
    """Whether another lock on the path can be acquired."""
    other = FileLock(path)
    try:
        return other.try_acquire()
    finally:
        other.close()


def test_it_is_held_inside_the_block_and_free_after(path: Path) -> None:
    """The lock is held inside the block and released when the block ends or raises."""
    lock = FileLock(path)
    with lock.held():
        assert not is_free(path)
    assert is_free(path)
    with pytest.raises(ZeroDivisionError), lock.held():
        raise ZeroDivisionError
    assert is_free(path)
    lock.close()


@pytest.mark.parametrize("again", [False, True])
def test_a_file_that_was_removed_is_made_anew(path: Path, again: bool) -> None:  # noqa: FBT001 - pytest passes it
    """A lock whose file was removed or replaced is taken on the file that is at the path now."""
    lock = FileLock(path)
    path.unlink()
    if again:
        path.touch()
    with lock.held():
        assert path.exists()
        assert not is_free(path)
    assert is_free(path)
    lock.close()


def test_it_can_be_taken_after_its_folder_was_removed(path: Path) -> None:
    """A lock whose folder was removed can still be taken and released: nobody else can take one at the path."""
    lock = FileLock(path)
    path.unlink()
    path.parent.rmdir()
    with lock.held():
        assert not path.exists()
    lock.close()


def test_a_second_lock_waits_for_the_first(path: Path) -> None:
    """A second lock on a path waits until the first is released."""
    order: list[str] = []
    first, second = FileLock(path), FileLock(path)

    def wait_and_take() -> None:
        with second.held():
            order.append("second")

    with first.held():
        thread = threading.Thread(target=wait_and_take)
        thread.start()
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    first.close()
    second.close()


def test_try_acquire_takes_it_only_when_free_and_keeps_it_until_closed(path: Path) -> None:
    """`try_acquire` fails while another lock is held, and holds the lock until it is closed."""
    holder, other = FileLock(path), FileLock(path)
    assert holder.try_acquire()
    assert not other.try_acquire()
    holder.close()
    assert other.try_acquire()
    other.close()


def test_trying_for_a_time_takes_it_as_soon_as_it_is_free(path: Path) -> None:
    """`tried_for` waits for a lock that is released in time, and gives up on one that is not."""
    holder, other = FileLock(path), FileLock(path)
    assert holder.try_acquire()
    with other.tried_for(0.05) as held:
        assert not held
    release = threading.Timer(0.1, holder.close)
    release.start()
    with other.tried_for(30) as held:
        assert held
    release.join()
    assert is_free(path)
    other.close()


def test_a_note_replaces_the_one_before(path: Path) -> None:
    """The file holds only the last holder's note, even if an earlier one was longer."""
    for note in ("a long note", "short"):
        lock = FileLock(path)
        with lock.held():
            lock.leave_note(note)
        lock.close()
    assert path.read_text() == "short"


def test_closing_frees_it_and_closing_twice_is_nothing(path: Path) -> None:
    """Closing releases the lock, and closing again does nothing."""
    lock = FileLock(path)
    assert lock.try_acquire()
    lock.close()
    lock.close()
    assert is_free(path)


def test_a_closed_lock_cannot_be_taken(path: Path) -> None:
    """Using a closed lock raises ValueError."""
    lock = FileLock(path)
    lock.close()
    with pytest.raises(ValueError, match="is closed"), lock.held():
        pass


def test_only_the_owner_may_read_the_file(path: Path) -> None:
    """The lock file has mode 0600."""
    FileLock(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_no_program_started_by_this_process_inherits_it(path: Path) -> None:
    """The lock's descriptor is closed on exec, so no child process can keep the lock."""
    lock = FileLock(path)
    (opened,) = (int(each.name) for each in Path("/proc/self/fd").iterdir() if is_link(each, path))
    assert fcntl.fcntl(opened, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    lock.close()


def is_link(link: Path, path: Path) -> bool:
    """Whether a descriptor is open on the path; the listing's own descriptor may be closed by now."""
    try:
        return link.readlink() == path
    except FileNotFoundError:
        return False
