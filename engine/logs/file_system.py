"""Where a database may live: the folder, the file's permissions, and no network file system."""

import os
import re
from pathlib import Path

from engine.errors import FolderNotWritable, NetworkFileSystem

# File systems whose locks or syncs do not hold between machines, or not at all.
NETWORK_FILE_SYSTEMS = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "fuse.s3fs",
        "fuse.sshfs",
        "gfs2",
        "glusterfs",
        "fuse.glusterfs",
        "lustre",
    }
    | {"ncpfs", "nfs", "nfs4", "smb3", "smbfs"}
)

_MOUNTS = Path("/proc/self/mountinfo")


def prepare_file(path: Path, *, allow_network: bool) -> bool:
    """Make sure that `path` is a file that can be written; say whether it was created just now.

    Missing folders are created. A new file has mode 0600, and its folder is synced, which SQLite would not report on.

    Raises:
        FolderNotWritable, NetworkFileSystem
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not allow_network:
            refuse_network(path.parent)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
            return False
        os.close(descriptor)
        sync_folder(path.parent)
    except OSError as error:
        raise FolderNotWritable(path, str(error.strerror or error)) from error
    return True


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refuse_network(folder: Path, mounts: Path = _MOUNTS) -> None:
    """Raise `NetworkFileSystem` when `folder` is mounted from one. Where the system has no mount table, pass."""
    kind = mounted_as(folder.resolve(), mounts)
    if kind in NETWORK_FILE_SYSTEMS:
        raise NetworkFileSystem(folder, kind)


def mounted_as(folder: Path, mounts: Path) -> str | None:
    """Return the type of the file system that `folder` is on, from a table in the form of proc(5)'s mountinfo."""
    try:
        table = mounts.read_bytes()
    except OSError:
        return None
    best, kind = Path(), None
    for line in table.splitlines():
        fields, _, source = line.partition(b" - ")
        mount_point = Path(os.fsdecode(_ESCAPED.sub(_unescape, fields.split(b" ")[4])))
        if folder.is_relative_to(mount_point) and len(mount_point.parts) >= len(best.parts):
            best, kind = mount_point, source.split(b" ")[0].decode()
    return kind


# The table writes a space in a mount point as its octal code, and so on.
_ESCAPED = re.compile(rb"\\([0-7]{3})")


def _unescape(match: re.Match[bytes]) -> bytes:
    return bytes([int(match[1], 8)])
