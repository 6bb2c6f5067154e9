"""The checks of `anabranch doctor` beside a database: locks and their holders, and leftovers of killed processes.

Locks are tried, not waited for. The database file itself is not opened here: closing it would drop the locks that
SQLite holds on it in this process.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from engine.cli.doctor.checks import Check
from engine.cli.text import counted
from engine.logs.file_lock import RUN_LOCK_NAME, FileLock, noted_holder
from engine.logs.own_files import LOCK, REBUILD, REBUILD_LOCK, beside, is_scratch_name
from engine.logs.partial_folder import abandoned, bytes_in, remove_abandoned

_WRITE_LOCK_SECONDS: Final = 0.5
_COMPARISON_SECONDS_MAX: Final = 86_400.0


def check_write_lock(database: Path) -> Check:
    """Try the lock that writers queue for."""
    path = beside(database, LOCK)
    with _lock_attempt(path, _WRITE_LOCK_SECONDS) as free:
        if free:
            return Check(name="write lock", text="is free")
    return Check(
        name="write lock",
        state="found",
        text=f"was not free for {_WRITE_LOCK_SECONDS:g} s: a process writes a lot, or was suspended while writing",
        advice=f"try again; if it stays taken, `lsof {path.name}` in its folder lists its holder",
        details={"path": str(path)},
    )


def check_run_lock(database: Path) -> Check:
    """Try the lock of the run's folder, and report its holder."""
    path = database.with_name(RUN_LOCK_NAME)
    if not path.exists():
        return Check(name="run lock", text="has never been taken")
    holder = noted_holder(path)
    with _lock_attempt(path, 0) as free:
        if free:
            return Check(name="run lock", text="is free", details={"path": str(path), "holder": None})
    alive = None if holder is None else _is_alive(holder)
    details = {"path": str(path), "holder": holder, "alive": alive}
    if holder is None:
        return Check(name="run lock", text="is held; its file does not name the holder", details=details)
    if alive:
        return Check(name="run lock", text=f"is held by process {holder}, which is alive", details=details)
    return Check(
        name="run lock",
        state="found",
        text=f"is held, but process {holder}, which took it, is dead: one of its child processes has inherited it",
        advice=f"`lsof {path.name}` in its folder lists the child; the lock is freed when it ends",
        details=details,
    )


def check_leftovers(database: Path, *, fix: bool) -> Check:
    """Look for leftovers of killed rebuilds, comparisons, backups and imports; with `fix`, remove the unused ones."""
    scratch = sorted(path for path in database.parent.iterdir() if is_scratch_name(path.name, database.name))
    with _no_rebuild(database, scratch) as no_rebuild:
        unused = [path for path in scratch if _is_unused(path, database, no_rebuild=no_rebuild)]
        sizes = {path: bytes_in(path) for path in abandoned(database.parent)} | {path: _size(path) for path in unused}
        if fix:
            remove_abandoned(database.parent)
            for path in unused:
                path.unlink(missing_ok=True)
    used = len(scratch) - len(unused)
    if not sizes:
        return Check(name="leftovers", text=f"none; {counted(used, 'scratch file')} may be in use" if used else "none")
    remaining = [path for path in sizes if path.exists()]
    left = remaining or list(sizes)
    named = f"{', '.join(path.name for path in left)} ({sum(sizes[path] for path in left):,} bytes)"
    details = [str(path) for path in left]
    if fix and not remaining:
        return Check(name="leftovers", state="fixed", text=f"removed {named}", details=details)
    text = f"of killed rebuilds, comparisons, backups or imports; they only take up space: {named}"
    advice = "they could not be removed: remove them by hand" if fix else "anabranch doctor --fix removes them"
    return Check(name="leftovers", state="found", text=text, advice=advice, details=details)


@contextlib.contextmanager
def _no_rebuild(database: Path, scratch: list[Path]) -> Iterator[bool]:
    """Block rebuilds while scratch files are examined, and yield whether none is running."""
    if not scratch:
        yield True
        return
    with _lock_attempt(beside(database, REBUILD_LOCK), 0) as free:
        yield free


@contextlib.contextmanager
def _lock_attempt(path: Path, seconds: float) -> Iterator[bool]:
    lock = FileLock(path)
    try:
        with lock.tried_for(seconds) as held:
            yield held
    finally:
        lock.close()


def _is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(process_id)


def _is_zombie(process_id: int) -> bool:
    # A zombie has ended and holds no locks; its parent just has not waited for it yet.
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[:1] == ["Z"]


def _is_unused(path: Path, database: Path, *, no_rebuild: bool) -> bool:
    if path.name.removesuffix("-journal") == f"{database.name}{REBUILD}":
        return no_rebuild
    try:
        return time.time() - path.stat().st_mtime > _COMPARISON_SECONDS_MAX
    except FileNotFoundError:  # the comparison has ended
        return False


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
