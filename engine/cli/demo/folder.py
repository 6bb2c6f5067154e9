"""Reading a folder for the census. All of it blocks, so it runs on worker threads. Links are never followed.

Only regular files are opened. A name may be any bytes: it is recorded escaped and shortened.
"""

import itertools
import os
import stat
from collections.abc import Iterator
from hashlib import blake2b
from typing import Final, Literal

from msgspec import Struct

from engine.cli.escapes import visible

SKIPPED_FOLDERS: Final = frozenset(
    {".bzr", ".cache", ".eggs", ".git", ".hg", ".hypothesis", ".import_linter_cache", ".mypy_cache", ".nox"}
    | {".pytest_cache", ".ruff_cache", ".svn", ".tox", ".venv", "__pycache__", "node_modules", "venv"}
)
_MARKS: Final = ("pyvenv.cfg", "CACHEDIR.TAG")  # files that mark a virtual environment and a cache

TEXT_BYTES_MAX: Final = 32 * 1024 * 1024
"""Larger files are not read, and count as having no lines."""

_SNIFFED_BYTES: Final = 8192
_READ_BYTES: Final = 1024 * 1024
_SEGMENT_BYTES_MAX: Final = 96
_SHOWN_CHARACTERS_MAX: Final = 200


class Skip(Struct, frozen=True):
    """What to leave out: folders by name or by a marker file inside, and the census's own database.

    `database` is an absolute path; files whose paths continue it with `-` belong to it.
    """

    folders: frozenset[str] = SKIPPED_FOLDERS
    marks: tuple[str, ...] = _MARKS
    database: str | None = None

    def leaves_out(self, path: str, name: str, *, folder: bool) -> bool:
        """Return whether to leave out an entry."""
        if not folder:
            return self.database is not None and (path == self.database or path.startswith(f"{self.database}-"))
        return name in self.folders or any(os.path.lexists(f"{path}{os.sep}{mark}") for mark in self.marks)


class Found(Struct, frozen=True):
    """One entry. `shown` is its path below the census's folder; `problem` says why it cannot be read.

    Links, pipes, sockets and devices are `"other"`.
    """

    kind: Literal["file", "folder", "other", "problem"]
    path: str
    shown: str
    bytes: int = 0
    modified: float = 0.0
    problem: str = ""


class Place(Struct, frozen=True):
    """What one branch counts: some entries, each `(path, shown)`, and their contents.

    `below` includes the contents of sub-folders.
    """

    starts: tuple[tuple[str, str], ...]
    below: bool = True


def entries(folder: str, shown: str, skip: Skip) -> list[Found]:
    """Return the entries of a folder: sub-folders first, then the rest, each sorted by name.

    Raises:
        OSError: the folder cannot be listed.
    """
    with os.scandir(folder) as scanned:
        names = sorted(entry.name for entry in scanned)
    found = [look_at(f"{folder}{os.sep}{name}", f"{shown}{os.sep}{name}" if shown else name) for name in names]
    kept = [
        each for name, each in zip(names, found, strict=True)
        if not skip.leaves_out(each.path, name, folder=each.kind == "folder")
    ]  # fmt: skip
    return sorted(kept, key=lambda each: each.kind != "folder")


def look_at(path: str, shown: str) -> Found:
    """Return what kind of entry a path is, without following links."""
    shown = short(legible(shown))
    try:
        facts = os.lstat(path)
    except OSError as error:
        return Found("problem", path, shown, problem=error.strerror or str(error))
    if stat.S_ISDIR(facts.st_mode):
        return Found("folder", path, shown)
    if stat.S_ISREG(facts.st_mode):
        return Found("file", path, shown, facts.st_size, facts.st_mtime)
    return Found("other", path, shown)


def scan(place: Place, skip: Skip) -> Iterator[Found]:
    """Yield the contents of a place, folder by folder."""
    waiting = [look_at(path, shown) for path, shown in reversed(place.starts)]
    while waiting:
        found = waiting.pop()
        yield found
        if found.kind != "folder":
            continue
        try:
            inside = entries(found.path, found.shown, skip)
        except OSError as error:
            yield Found("problem", found.path, found.shown, problem=error.strerror or str(error))
            continue
        waiting += [each for each in reversed(inside) if place.below or each.kind != "folder"]


def take(found: Iterator[Found], count: int) -> list[Found]:
    """Return the next `count` entries, fewer at the end."""
    return list(itertools.islice(found, count))


def count_lines(files: list[Found]) -> tuple[int, list[Found]]:
    """Return the total number of lines of the text files, and the files that cannot be read.

    A file with a zero byte near its start counts as binary, and has no lines.
    """
    lines, problems = 0, []
    for file in files:
        try:
            lines += lines_of(file.path)
        except OSError as error:
            problems.append(Found("problem", file.path, file.shown, problem=error.strerror or str(error)))
    return lines, problems


def lines_of(path: str) -> int:
    """Return the number of line ends in a text file.

    Raises:
        OSError
    """
    # NONBLOCK, NOFOLLOW: since it was listed, a pipe or a link may have replaced the file.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor
        if os.fstat(descriptor).st_size > TEXT_BYTES_MAX:
            return 0
        chunk = file.read(_READ_BYTES) or b""
        if b"\0" in chunk[:_SNIFFED_BYTES]:
            return 0
        lines, left = 0, TEXT_BYTES_MAX
        while chunk and left > 0:
            lines, left = lines + chunk.count(b"\n"), left - len(chunk)
            chunk = file.read(_READ_BYTES) or b""
        return lines


def legible(name: str) -> str:
    """Return a file's name or path as text, with hidden characters and bytes that are not UTF-8 escaped (`\\xff`)."""
    return visible(os.fsencode(name).decode(errors="backslashreplace"))


def short(text: str) -> str:
    """Return a text cut to the length at which paths are recorded."""
    return text if len(text) <= _SHOWN_CHARACTERS_MAX else f"{text[:_SHOWN_CHARACTERS_MAX]}…"


def branch_name(name: str) -> str:
    """Return an entry's name as a segment of a branch name: printable, and short enough for nested branches."""
    shown = legible(name)
    if len(shown.encode()) <= _SEGMENT_BYTES_MAX:
        return shown
    digest = blake2b(os.fsencode(name), digest_size=4).hexdigest()
    return f"{shown.encode()[: _SEGMENT_BYTES_MAX - 12].decode(errors='ignore')}~{digest}"
