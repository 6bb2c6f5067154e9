"""The temporary folder of a backup: private, removed at the end, and recognized when it was abandoned."""

import os
import shutil
import time
from pathlib import Path

import pytest

from engine.logs import partial_folder
from engine.logs.partial_folder import PartialFolder, abandoned, remove_abandoned


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The folder that a backup killed two minutes ago has left in `tmp_path`."""
    folder = PartialFolder(tmp_path)
    (folder.path / "copy.db").write_bytes(b"x" * 100)
    folder._lock.close()
    return _aged(folder.path)


def _aged(path: Path) -> Path:
    os.utime(path, (time.time() - 120, time.time() - 120))
    return path


def test_a_folder_is_its_owners_alone_and_goes_with_all_that_is_in_it(tmp_path: Path) -> None:
    """A partial folder has mode 0700 and is removed with its content."""
    folder = PartialFolder(tmp_path)
    assert folder.path.stat().st_mode & 0o777 == 0o700
    (folder.path / "copy.db").touch()
    folder.remove()
    assert list(tmp_path.iterdir()) == []


def test_what_was_abandoned_is_found_and_removed(tmp_path: Path, killed: Path) -> None:
    """An abandoned folder is found and removed with its content, and nothing else is."""
    (tmp_path / "runs.db").touch()
    assert abandoned(tmp_path) == [killed]
    assert partial_folder.bytes_in(killed) == 100
    assert remove_abandoned(tmp_path) == [killed]
    assert [path.name for path in tmp_path.iterdir()] == ["runs.db"]


def test_looking_at_what_was_abandoned_changes_nothing(tmp_path: Path, killed: Path) -> None:
    """A folder is found again and again, even if its process was killed before it had locked the folder."""
    (killed / "lock").unlink()
    _aged(killed)
    before = killed.stat().st_mtime
    assert [abandoned(tmp_path) for _ in range(2)] == [[killed], [killed]]
    assert (list(killed.iterdir()), killed.stat().st_mtime) == ([killed / "copy.db"], before)
    assert remove_abandoned(tmp_path) == [killed]


def test_a_file_that_is_removed_while_it_is_measured_counts_nothing(
    killed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may remove the folder at any moment."""
    for path in killed.iterdir():
        path.unlink()
    (killed / "copy.db").symlink_to("removed")
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    assert partial_folder.bytes_in(killed) == 0


def test_what_is_in_use_or_new_or_not_ours_is_kept(tmp_path: Path, killed: Path) -> None:
    """A folder that is locked, new or named otherwise is kept, and so are links and files."""
    in_use = PartialFolder(tmp_path)
    _aged(in_use.path)
    new = PartialFolder(tmp_path)
    new._lock.close()
    alike = _aged(Path(shutil.copytree(killed, f"{killed}0")))
    killed.rename(tmp_path / "elsewhere")
    killed.symlink_to(tmp_path / "elsewhere")
    (tmp_path / f"anabranch-partial-{'0' * 16}").touch()

    assert abandoned(tmp_path) == []
    assert remove_abandoned(tmp_path) == []
    in_use.remove()
    assert alike.exists()


def test_where_nothing_can_be_looked_at_nothing_is_found(tmp_path: Path) -> None:
    """A missing folder has no abandoned ones, and removing a partial folder twice is no error."""
    assert abandoned(tmp_path / "nowhere") == []
    folder = PartialFolder(tmp_path)
    folder.remove()
    folder.remove()
