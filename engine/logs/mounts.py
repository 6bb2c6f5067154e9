"""Mount checks: a database must not be on a network file system, nor be mounted without its folder."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from engine.errors import CannotOpen, NetworkFileSystem

# File systems whose locks or syncs are not reliable, at least between machines.
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
        "ncpfs",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
    }
)

_MOUNTS = Path("/proc/self/mountinfo")


def refuse_network(folder: Path, mounts: Path = _MOUNTS) -> None:
    """Raise `NetworkFileSystem` if `folder` is on one. Without a mount table, do nothing."""
    kind = mounted_as(folder.resolve(), mounts)
    if kind in NETWORK_FILE_SYSTEMS:
        raise NetworkFileSystem(folder, kind)


def mounted_as(folder: Path, mounts: Path = _MOUNTS) -> str | None:
    """Return the type of the file system that `folder` is on, from a table in the form of proc(5)'s mountinfo."""
    best, kind = Path(), None
    for mount_point, mounted in _mount_points(mounts):
        if folder.is_relative_to(mount_point) and len(mount_point.parts) >= len(best.parts):
            best, kind = mount_point, mounted
    return kind


def refuse_mounted_alone(path: Path, mounts: Path = _MOUNTS) -> None:
    """Raise `CannotOpen` for a file that is a mount point itself, such as a bind mount of a container.

    The files beside it are not mounted with it, so a process outside the container uses other ones: the lock and the
    write-ahead log are not shared, and the log's content is lost with the container.
    """
    if any(mount_point == path for mount_point, _ in _mount_points(mounts)):
        raise CannotOpen(path, "it is mounted by itself, without the files that belong beside it: mount its folder")


def _mount_points(mounts: Path) -> Iterator[tuple[Path, str]]:
    try:
        table = mounts.read_bytes()
    except OSError:  # no mount table on this system
        return
    for line in table.splitlines():
        fields, _, source = line.partition(b" - ")
        # The table escapes spaces and some other characters of a mount point as octal codes.
        mount_point = re.sub(rb"\\([0-7]{3})", lambda code: bytes([int(code[1], 8)]), fields.split(b" ")[4])
        yield Path(os.fsdecode(mount_point)), source.split(b" ")[0].decode()
