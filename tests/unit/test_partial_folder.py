"""The folder of a backup: nobody else's, gone at the end, and told from one that was abandoned."""

import os
import shutil
import time
from pathlib import Path

import pytest

from engine.logs import partial_folder
from engine.logs.partial_folder import PartialFolder, abandoned, remove_abandoned


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """What a backup that was killed two minutes ago has left in `tmp_path`."""
    folder = PartialFolder(tmp_path)
    (folder.path / "copy.db").write_bytes(b"x" * 100)
    folder._lock.close()
    return _aged(folder.path)


def _aged(path: Path) -> Path:
    os.utime(path, (time.time() - 120, time.time() - 120))
    return path


def test_a_folder_is_its_owners_alone_and_goes_with_all_that_is_in_it(tmp_path: Path) -> None:
    """Mode 0700, whatever the umask lets through."""
    folder = PartialFolder(tmp_path)
    assert folder.path.stat().st_mode & 0o777 == 0o700
    (folder.path / "copy.db").touch()
    folder.remove()
    assert list(tmp_path.iterdir()) == []


def test_what_was_abandoned_is_found_and_removed(tmp_path: Path, killed: Path) -> None:
    """The folder with all that is in it, and nothing beside it."""
    (tmp_path / "runs.db").touch()
    assert abandoned(tmp_path) == [killed]
    assert partial_folder.bytes_in(killed) == 100
    assert remove_abandoned(tmp_path) == [killed]
    assert [path.name for path in tmp_path.iterdir()] == ["runs.db"]


def test_what_is_in_use_or_new_or_not_ours_is_kept(tmp_path: Path, killed: Path) -> None:
    """A folder that is locked, one of just now, a link, a file, and other names; without its lock it is whose it is."""
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
    """A folder that is not there has no leftovers, and removing twice is no error."""
    assert abandoned(tmp_path / "nowhere") == []
    folder = PartialFolder(tmp_path)
    folder.remove()
    folder.remove()
