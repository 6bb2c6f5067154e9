"""Where a database file may be placed."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from engine.errors import CannotOpen, FolderNotWritable, NetworkFileSystem
from engine.logs import file_system
from engine.logs.file_system import prepare_file, sync_folder, sync_folder_if_readable
from engine.logs.mounts import NETWORK_FILE_SYSTEMS, mounted_as, refuse_mounted_alone, refuse_network
from engine.logs.own_files import is_own_name

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:21 / /proc rw - proc proc rw
30 22 0:40 / /data rw shared:2 master:1 - nfs4 server:/export rw,vers=4.2
31 30 8:2 / /data/local rw - xfs /dev/sdb1 rw
32 22 0:41 / /mnt/with\\040space rw - cifs //server/share rw
33 22 0:42 / /mnt/donn\u00e9es rw - fuse.sshfs me@host:/ rw
34 22 8:3 / /over rw - nfs server:/a rw
35 34 8:4 / /over rw - ext4 /dev/sdc1 rw
36 22 0:43 / /mnt/back\\134slash rw - ceph mon:/ rw
"""


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    """A made-up mount table in the format of mountinfo in proc(5)."""
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTS, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("folder", "file_system"),
    [
        ("/", "ext4"),
        ("/home/me", "ext4"),
        ("/data", "nfs4"),
        ("/data/runs", "nfs4"),
        ("/data/local/runs", "xfs"),
        ("/database", "ext4"),
        ("/mnt/with space/x", "cifs"),
        ("/mnt/donn\u00e9es/x", "fuse.sshfs"),
        ("/mnt/back\\slash", "ceph"),
        ("/over/x", "ext4"),
    ],
)
def test_a_folder_is_on_the_deepest_and_latest_mount_above_it(mounts: Path, folder: str, file_system: str) -> None:
    """A folder is on the deepest and latest mount above it; escapes in mount points are decoded."""
    assert mounted_as(Path(folder), mounts) == file_system


@pytest.mark.parametrize("folder", ["/data/runs", "/mnt/with space", "/mnt/donn\u00e9es"])
def test_a_network_file_system_is_refused_by_name(mounts: Path, folder: str) -> None:
    """A folder on a network file system raises NetworkFileSystem with the file system and the path."""
    with pytest.raises(NetworkFileSystem) as caught:
        refuse_network(Path(folder), mounts)
    assert caught.value.file_system in NETWORK_FILE_SYSTEMS
    assert caught.value.path == Path(folder)


def test_a_local_file_system_passes(mounts: Path) -> None:
    """A local disk mounted below a network file system is accepted."""
    refuse_network(Path("/data/local"), mounts)


def test_a_table_that_is_not_utf_8_is_read_all_the_same(tmp_path: Path) -> None:
    """A mount table with bytes that are not UTF-8 can be read."""
    table = tmp_path / "mountinfo"
    table.write_bytes(MOUNTS.encode() + b"40 22 0:44 / /mnt/\xff rw - nfs server:/b rw\n")
    assert mounted_as(Path("/data"), table) == "nfs4"
    assert mounted_as(Path(os.fsdecode(b"/mnt/\xff/x")), table) == "nfs"


def test_without_a_table_nothing_is_refused(tmp_path: Path) -> None:
    """Without a mount table, as on other systems, every folder is accepted."""
    assert mounted_as(Path("/data"), tmp_path / "missing") is None
    refuse_network(Path("/data"), tmp_path / "missing")


def test_a_file_that_is_mounted_by_itself_is_refused(mounts: Path) -> None:
    """A file that is a mount point itself, as with `docker -v runs.db:/data/runs.db`, raises CannotOpen."""
    with pytest.raises(CannotOpen, match="mount its folder"):
        refuse_mounted_alone(Path("/mnt/with space"), mounts)
    refuse_mounted_alone(Path("/mnt/with space/runs.db"), mounts)
    refuse_mounted_alone(Path("/data"), mounts.with_name("missing"))


def test_a_missing_file_is_made_with_its_folders_for_the_owner_alone(tmp_path: Path) -> None:
    """A missing file is created with its folders, empty and with mode 0600, and the call returns true."""
    path = tmp_path / "a" / "b" / "runs.db"
    assert prepare_file(path, allow_network=False)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_size == 0


def test_a_file_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    """An existing file keeps its content and mode, and the call returns false."""
    path = tmp_path / "runs.db"
    path.write_bytes(content := b"content" * 100)
    path.chmod(0o640)
    assert not prepare_file(path, allow_network=False)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (content, 0o640)


def test_a_folder_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    """A path below a file raises FolderNotWritable with the path."""
    (tmp_path / "file").touch()
    with pytest.raises(FolderNotWritable) as caught:
        prepare_file(tmp_path / "file" / "runs.db", allow_network=False)
    assert caught.value.path == tmp_path / "file" / "runs.db"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """A folder at the file's path raises CannotOpen."""
    with pytest.raises(CannotOpen, match="it is a folder"):
        prepare_file(tmp_path, allow_network=False)


def test_a_folder_that_cannot_be_synced_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that cannot be synced raises FolderNotWritable, because the file could be lost in a power failure."""

    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(FolderNotWritable, match="Input/output error"):
        prepare_file(tmp_path / "runs.db", allow_network=False)


@pytest.mark.parametrize("full_sync", [fcntl.F_GETFD, -1])
def test_the_disk_is_synced_where_the_system_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_sync: int
) -> None:
    """A system's command for a full sync replaces `fsync`; where the file system refuses it, `fsync` is called."""
    synced: list[int] = []
    monkeypatch.setattr(file_system, "_FULL_SYNC", full_sync)
    monkeypatch.setattr(os, "fsync", synced.append)
    sync_folder(tmp_path)
    assert len(synced) == (1 if full_sync == -1 else 0)


def test_syncing_a_folder_leaves_no_descriptor_open(tmp_path: Path) -> None:
    """Syncing a folder leaves no descriptor open, even when it fails."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    sync_folder(tmp_path)
    with pytest.raises(NotADirectoryError):
        sync_folder(Path("/proc/self/mountinfo"))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_folder_that_may_not_be_read_is_not_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without read permission is skipped by `sync_folder_if_readable`; any other error is raised."""
    opened = os.open

    def refuse(error: type[OSError]) -> None:
        monkeypatch.setattr(os, "open", lambda *_: (_ for _ in ()).throw(error()))

    refuse(PermissionError)
    sync_folder_if_readable(tmp_path)
    refuse(FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        sync_folder_if_readable(tmp_path)
    monkeypatch.setattr(os, "open", opened)
    sync_folder_if_readable(tmp_path)


@pytest.mark.parametrize(
    "suffix",
    [
        "",
        "-wal",
        "-shm",
        "-journal",
        "-lock",
        "-unsynced",
        "-rebuild",
        "-rebuild-lock",
        "-compare-0f0f0f0f0f0f0f0f",
        "-rebuild-journal",
    ],
)
def test_the_files_of_a_database_are_known_by_name(suffix: str) -> None:
    """The database and the files that SQLite and the engine keep beside it are recognized; similar names are not."""
    assert is_own_name(f"runs.db{suffix}", "runs.db")
    assert not is_own_name(f"runs.db-2026{suffix}", "runs.db")
    assert not is_own_name(f"runs.db{suffix}.jsonl", "runs.db")
