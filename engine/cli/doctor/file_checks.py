"""The checks of `anabranch doctor` that look at a database's files and file system, without opening the database."""

import contextlib
import shutil
import sqlite3
import stat
import sys
from pathlib import Path
from typing import Final

from rich.filesize import decimal

from engine.cli.doctor.checks import RESTORE, Check
from engine.cli.text import counted
from engine.logs.mounts import NETWORK_FILE_SYSTEMS, mounted_as
from engine.logs.own_files import LOCK, SHARED_MEMORY, WAL, beside
from engine.logs.sync_failures import SyncFailureMark
from engine.logs.wal_limit import WAL_BYTES_MAX

DISK_BYTES_MIN: Final = 2 * WAL_BYTES_MAX
"""Twice what the write-ahead log may take."""

_OWN_FILES: Final = "", WAL, SHARED_MEMORY, LOCK
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO

_FIXED_IN: Final = (3, 51, 3)
_BACKPORTED_IN: Final[dict[tuple[int, ...], int]] = {(3, 50): 7, (3, 44): 6}
"""The first patch releases of earlier series that have the same fix."""

_LOCKS: Final = Path("/proc/locks")
_READERS_BYTES: Final = range(123, 128)
"""The bytes of the `-shm` file that SQLite's readers lock (https://sqlite.org/walformat.html#wal_locks)."""


def check_sqlite(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> Check:
    """Check whether the SQLite in use has the WAL-reset bug."""
    name = ".".join(map(str, version))
    exposed = version < _FIXED_IN and version[2] < _BACKPORTED_IN.get(version[:2], sys.maxsize)
    details = {"version": name, "wal_reset_bug": exposed, "see": "https://sqlite.org/wal.html#walresetbug"}
    if not exposed:
        return Check(name="SQLite", text=f"{name}, in which the WAL-reset bug is fixed", details=details)
    text = (
        f"{name} has the WAL-reset bug, fixed in 3.51.3: two connections that write and checkpoint at the same moment"
        " can corrupt a file. anabranch is safe, because it does both under its write lock only; other programs that"
        " write to or checkpoint the file are not"
    )
    return Check(name="SQLite", text=text, details=details)


def check_permissions(database: Path, *, fix: bool) -> Check:
    """Check that only the owner may read or write the files; with `fix`, remove the others' permissions."""
    modes = {path: mode for path, mode in _modes(database).items() if mode & _OTHERS}
    if not modes:
        return Check(name="permissions", text="only the owner can read or write it")
    details = {str(path): f"{mode:03o}" for path, mode in modes.items()}
    named = ", ".join(f"{path.name} ({mode:03o})" for path, mode in modes.items())
    if fix:
        for path, mode in modes.items():
            with contextlib.suppress(FileNotFoundError):
                path.chmod(mode & ~_OTHERS)
        return Check(name="permissions", state="fixed", text=f"restricted to the owner: {named}", details=details)
    text = f"other users have access to {named}, which hold all values and texts of all runs"
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
    """Check that the folder is on a file system with reliable locks and syncs."""
    kind = mounted_as(database.parent)
    details = {"kind": kind}
    if kind is None:
        return Check(name="file system", text="this system does not report its type", details=details)
    if kind not in NETWORK_FILE_SYSTEMS:
        return Check(name="file system", text=f"{kind}, local", details=details)
    text = f"{kind}, a network file system: locks and syncs are unreliable, and two machines that write damage the file"
    advice = "move it to a local disk of the machine that writes; only backups may be here"
    return Check(name="file system", state="found", text=text, advice=advice, details=details)


def check_syncs(database: Path, *, had_failed: bool) -> Check:
    """Check whether a sync of the file is known to have failed. `had_failed` is whether one had before this opening."""
    mark = SyncFailureMark(database)
    if mark.is_set():
        text = "one failed, and the file is damaged: it can be read, but not written to"
        advice = f"anabranch verify says what is wrong; {RESTORE}, or remove {mark.path.name} to write to it as it is"
        return Check(name="syncs", state="found", text=text, advice=advice, details={"mark": str(mark.path)})
    if had_failed:
        text = "one had failed; opening the file has rewritten everything. Reopen the engines that saw the failure"
        return Check(name="syncs", text=text)
    return Check(name="syncs", text="none is known to have failed")


def check_disk(database: Path) -> Check:
    """Check how much disk space is left."""
    free, size = shutil.disk_usage(database.parent).free, database.stat().st_size
    details = {"free_bytes": free, "database_bytes": size}
    if free < DISK_BYTES_MIN:
        text = f"only {decimal(free)} free: a write that does not fit raises DiskFull and is not recorded"
        advice = (
            "free space outside the database first, because deleting runs needs some;"
            " anabranch gc --older-than 30d --dry-run lists old runs"
        )
        return Check(name="disk", state="found", text=text, advice=advice, details=details)
    less = ", less than the file's size: a rebuild, a compaction or a backup may not fit here" if free < size else ""
    return Check(name="disk", text=f"{decimal(free)} free{less}", details=details)


def check_log_size(database: Path) -> Check:
    """Check whether a reader keeps the write-ahead log from being reset, and which process that is."""
    name = "write-ahead log"
    size = 0
    with contextlib.suppress(FileNotFoundError):
        size = beside(database, WAL).stat().st_size
    if size <= WAL_BYTES_MAX:
        return Check(name=name, text=decimal(size) if size else "empty", details={"bytes": size})
    readers = reading(beside(database, SHARED_MEMORY))
    named = f"{counted(len(readers), 'process', 'processes')} ({', '.join(map(str, readers))})"
    text = (
        f"{decimal(size)}, and should stay below {decimal(WAL_BYTES_MAX)}: it grows while a reader holds an older"
        f" snapshot of the file. At the moment {named if readers else 'an unknown process'} may be reading"
    )
    advice = f"end long-running readers; `lsof {database.name}-shm` in its folder lists all processes that have it open"
    return Check(name=name, state="found", text=text, advice=advice, details={"bytes": size, "readers": readers})


def reading(shared_memory: Path) -> list[int]:
    """Return the ids of the processes that are reading a database, as far as this system reports them."""
    try:
        inode = shared_memory.stat().st_ino
        locks = _LOCKS.read_text(encoding="ascii").splitlines()
    except OSError:
        return []
    # "1: POSIX  ADVISORY  READ 4711 fe:00:131 124 124": the process, device and inode, first and last byte
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
