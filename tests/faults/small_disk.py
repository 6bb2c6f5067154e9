"""Disks that are full for a while: small file systems of their own, or a limit on the size of files."""

import contextlib
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

import pytest
from typing_extensions import override

_MIB: Final = 2**20
_TMPFS_BYTES: Final = 24 * _MIB
_EXT4_BYTES: Final = 32 * _MIB
_LIMIT_BYTES_MIN: Final = 100_000


class SmallDisk(Protocol):
    """A folder, and a block in which it has room for only some bytes more."""

    folder: Path

    def full(self, spare_bytes: int = 0) -> contextlib.AbstractContextManager[None]: ...


class MountedDisk(SmallDisk):
    """A file system of its own, which a ballast file fills."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @override
    @contextlib.contextmanager
    def full(self, spare_bytes: int = 0) -> Iterator[None]:
        ballast = self.folder / "ballast"
        _fill(ballast, spare_bytes)
        try:
            yield
        finally:
            ballast.unlink()


def _fill(ballast: Path, spare_bytes: int) -> None:
    piece = _MIB
    with ballast.open("wb", buffering=0) as file:
        while piece:
            try:
                file.write(bytes(piece))
            except OSError:
                piece //= 2
        os.fsync(file)
        file.truncate(max(0, file.tell() - spare_bytes))


class LimitedFiles(SmallDisk):
    """A folder in which no file may grow beyond a limit; it imitates a full disk without needing root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @override
    @contextlib.contextmanager
    def full(self, spare_bytes: int = 0) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        # The limit is for all files of the process, which may include a test's own output.
        resource.setrlimit(resource.RLIMIT_FSIZE, (_LIMIT_BYTES_MIN + spare_bytes, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def small_disk(kind: str, folder: Path) -> Iterator[SmallDisk]:
    """Yield a small disk: `tmpfs`, `ext4`, or `limit`. Skip the test where it is unavailable."""
    mounted = folder / "disk"
    mounted.mkdir()
    if kind == "limit":
        yield LimitedFiles(mounted)
        return
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small file system")
    if kind == "tmpfs":
        _or_skip("mount", "-t", "tmpfs", "-o", f"size={_TMPFS_BYTES}", "none", str(mounted))
    else:
        image = folder / "image"
        image.touch()
        os.truncate(image, _EXT4_BYTES)
        _or_skip("mkfs.ext4", "-q", "-m", "0", str(image))
        _or_skip("mount", "-o", "loop", str(image), str(mounted))
    try:
        yield MountedDisk(mounted)
    finally:
        subprocess.run(["umount", "--lazy", mounted], check=True)


def _or_skip(program: str, *arguments: str) -> None:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"needs {program}, for a small file system")
    done = subprocess.run([found, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot make a small file system: {done.stderr.strip()}")
