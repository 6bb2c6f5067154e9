"""What `anabranch doctor` finds about a database's files and where they are, without opening them."""

import contextlib
import shutil
import sqlite3
import stat
import sys
from pathlib import Path
from typing import Final

from rich.filesize import decimal

from engine.cli.checks import RESTORE, Check
from engine.cli.text import counted
from engine.logs.mounts import NETWORK_FILE_SYSTEMS, mounted_as
from engine.logs.own_files import LOCK, SHARED_MEMORY, WAL, beside
from engine.logs.sync_failures import SyncFailureMark
from engine.logs.wal_limit import WAL_BYTES_MAX

DISK_BYTES_MIN: Final = 2 * WAL_BYTES_MAX
"""What the write-ahead log may take, and once more."""

_OWN_FILES: Final = "", WAL, SHARED_MEMORY, LOCK
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO

_MENDED: Final = (3, 51, 3)
_MENDED_BEFORE: Final[dict[tuple[int, ...], int]] = {(3, 50): 7, (3, 44): 6}
"""Releases of earlier series that have the same fix."""

_LOCKS: Final = Path("/proc/locks")
_READERS_BYTES: Final = range(123, 128)
"""Where SQLite's readers lock the `-shm` file (https://sqlite.org/walformat.html#wal_locks)."""


def check_sqlite(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> Check:
    """Say what the SQLite in use is exposed to."""
    name = ".".join(map(str, version))
    exposed = version < _MENDED and version[2] < _MENDED_BEFORE.get(version[:2], sys.maxsize)
    details = {"version": name, "wal_reset_bug": exposed, "see": "https://sqlite.org/wal.html#walresetbug"}
    if not exposed:
        return Check(name="SQLite", text=f"{name}, in which the WAL-reset bug is mended", details=details)
    text = (
        f"{name} has the WAL-reset bug, mended in 3.51.3: two connections that write and checkpoint at the same moment"
        " can corrupt a file. anabranch does both under its write lock only, which is safe; other programs that write"
        " to the file or checkpoint it are not"
    )
    return Check(name="SQLite", text=text, details=details)


def check_permissions(database: Path, *, fix: bool) -> Check:
    """Look whether others than the owner may read or write the files; take that from them."""
    modes = {path: mode for path, mode in _modes(database).items() if mode & _OTHERS}
    if not modes:
        return Check(name="permissions", text="nobody but the owner can read or write it")
    details = {str(path): f"{mode:03o}" for path, mode in modes.items()}
    named = ", ".join(f"{path.name} ({mode:03o})" for path, mode in modes.items())
    if fix:
        for path, mode in modes.items():
            with contextlib.suppress(FileNotFoundError):
                path.chmod(mode & ~_OTHERS)
        return Check(name="permissions", state="fixed", text=f"taken from all but the owner: {named}", details=details)
    text = f"the group, or everybody, may use {named}: all values and texts of all runs are in there"
    advice = f"anabranch doctor --fix, or chmod 600 {' '.join(path.name for path in modes)}"
    return Check(name="permissions", state="found", text=text, advice=advice, details=details)


def _modes(database: Path) -> dict[Path, int]:
    found = {}
    for suffix in _OWN_FILES:
        path = beside(database, suffix)
        with contextlib.suppress(FileNotFoundError):
            found[path] = stat.S_IMODE(path.stat().st_mode)
    return found


def check_file_system(database: Path) -> Check:
    """Look whether the folder is on a file system whose locks and syncs can be relied on."""
    kind = mounted_as(database.parent)
    details = {"kind": kind}
    if kind is None:
        return Check(name="file system", text="this system does not say of what kind it is", details=details)
    if kind not in NETWORK_FILE_SYSTEMS:
        return Check(name="file system", text=f"{kind}, on this machine", details=details)
    text = f"{kind}, over the network: locks and syncs do not hold there, and two machines that write damage the file"
    advice = "keep it on a disk of the machine that writes; only backups may be there"
    return Check(name="file system", state="found", text=text, advice=advice, details=details)


def check_syncs(database: Path, *, had_failed: bool) -> Check:
    """Look whether the disk took all that was written to it, as far as it told. `had_failed` before this opening."""
    mark = SyncFailureMark(database).path
    if mark.exists():
        text = "one failed, and what is in the file is not whole: it is read, and nothing is written to it"
        advice = f"anabranch verify says what is wrong; {RESTORE}, or remove {mark.name} to write to it as it is"
        return Check(name="syncs", state="found", text=text, advice=advice, details={"mark": str(mark)})
    if had_failed:
        text = (
            "one had failed; all was written once more just now, and is whole. Engines that saw it are to be reopened"
        )
        return Check(name="syncs", text=text)
    return Check(name="syncs", text="none is known to have failed")


def check_disk(database: Path) -> Check:
    """Look how much room is left."""
    free, size = shutil.disk_usage(database.parent).free, database.stat().st_size
    details = {"free_bytes": free, "database_bytes": size}
    if free < DISK_BYTES_MIN:
        text = f"only {decimal(free)} are free: a write that finds no room is refused by DiskFull, and not recorded"
        advice = "make room beside it: deleting takes some; anabranch gc --older-than 30d --dry-run shows what is old"
        return Check(name="disk", state="found", text=text, advice=advice, details=details)
    less = ", less than the file has: a rebuild, a compaction or a backup here may not fit" if free < size else ""
    return Check(name="disk", text=f"{decimal(free)} free{less}", details=details)


def check_log_size(database: Path) -> Check:
    """Look whether somebody keeps the write-ahead log from being begun anew, and who that is."""
    name = "write-ahead log"
    size = 0
    with contextlib.suppress(FileNotFoundError):
        size = beside(database, WAL).stat().st_size
    if size <= WAL_BYTES_MAX:
        return Check(name=name, text=decimal(size) if size else "empty", details={"bytes": size})
    readers = reading(beside(database, SHARED_MEMORY))
    who = f"{counted(len(readers), 'process', 'processes')} ({', '.join(map(str, readers))})" if readers else "somebody"
    text = (
        f"{decimal(size)}, and should stay below {decimal(WAL_BYTES_MAX)}: it grows as long as somebody reads an older"
        f" state of the file. At the moment {who} may be reading"
    )
    advice = f"end what reads it for long; `lsof {database.name}-shm` in its folder names who has it open"
    return Check(name=name, state="found", text=text, advice=advice, details={"bytes": size, "readers": readers})


def reading(shared_memory: Path) -> list[int]:
    """Return the processes that are reading a database, as far as this system tells."""
    try:
        inode = shared_memory.stat().st_ino
        locks = _LOCKS.read_text(encoding="ascii").splitlines()
    except OSError:
        return []
    # "1: POSIX  ADVISORY  READ 4711 fe:00:131 124 124": the process, the device and the inode, the first and last byte
    fields = [line.split() for line in locks]
    return sorted({int(each[4]) for each in fields if _is_reader(each, inode)})


def _is_reader(lock: list[str], inode: int) -> bool:
    _, kind, _, _, process, place, first, *_ = (*lock, "", "")
    return (
        kind == "POSIX"
        and place.rpartition(":")[2] == str(inode)
        and first.isdecimal()
        and int(first) in _READERS_BYTES
        and process.isdecimal()
    )
