"""Records what happens to folders, cuts the power at points of the recording, and checks what each cut leaves."""

import asyncio
import contextlib
import hashlib
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from tests.faults.disk.changes import Change, Kind, read_changes
from tests.faults.disk.simulated import Cut, SimulatedDisk
from tests.faults.disk.stories import DATABASE, STORIES, Told
from tests.faults.disk.survey import Found, survey
from tests.faults.preload import loading

Files = Mapping[str, bytes]
_SHARED_MEMORY: Final = "-shm"
_FAST_FOLDER: Final = "/dev/shm"
_ROOT: Final = Path(__file__).parents[3]


class Recorded(NamedTuple):
    """The files of a folder at first, the changes to it, and what was acknowledged before."""

    files: Files
    changes: Sequence[Change]
    told: Sequence[Told] = ()


class Point(NamedTuple):
    """A power cut before change number `at`."""

    at: int
    cut: Cut
    seed: int


class Left(NamedTuple):
    """The files that a cut left, and what was acknowledged until then."""

    point: Point
    files: Files
    told: Sequence[Told]


def record_story(recorder: Path, *stories: str, early: bool = False) -> Recorded:
    """Record stories, one after another, that begin with the files that the first one prepares."""
    with unpacked({}) as database:
        asyncio.run(STORIES[stories[0]].prepare(database))
        files = packed(database.parent)
    (recorded,) = record(recorder, [files], *stories, early=early)
    return recorded


def record(recorder: Path, begin: Sequence[Files], *stories: str, early: bool = False) -> list[Recorded]:
    """Record the stories in a folder for each of these sets of files; each story runs in a process of its own."""
    with contextlib.ExitStack() as stack:
        folders = [stack.enter_context(unpacked(files)).parent for files in begin]
        recordings = stack.enter_context(unpacked({})).parent
        for story in stories:
            subprocess.run(
                [sys.executable, "-m", "tests.faults.disk.stories", story, recordings, *["early"] * early],
                input="".join(f"{folder}\n" for folder in folders),
                env=loading(recorder),
                cwd=_ROOT,
                text=True,
                check=True,
            )
        return [
            Recorded(files, read_changes(recordings / folder.name))
            for files, folder in zip(begin, folders, strict=True)
        ]


def points(changes: int, count: int, seed: int) -> list[Point]:
    """Return `count` points, drawn over the whole recording and evenly over the kinds of cut."""
    dice = random.Random(seed)
    cuts = list(Cut)
    return [Point(dice.randint(0, changes), cuts[number % len(cuts)], dice.getrandbits(32)) for number in range(count)]


def left_behind(recorded: Recorded, cuts: Sequence[Point]) -> Iterator[Left]:
    """Yield what each cut leaves, in the order of the recording."""
    disk, told, done = SimulatedDisk(recorded.files), list(recorded.told), 0
    for point in sorted(cuts):
        for change in recorded.changes[done : point.at]:
            disk.apply(change)
            if change.kind is Kind.ACKNOWLEDGED:
                told.append(msgspec.json.decode(change.data, type=Told))
        done = point.at
        yield Left(point, _with_stray_memory(disk.after_cut(point.cut, random.Random(point.seed)), point), list(told))


def _with_stray_memory(files: Files, point: Point) -> Files:
    # Whatever is left of shared memory, the first to open the database rebuilds it.
    if point.cut is Cut.TORN and f"{DATABASE}-wal" in files:
        return {**files, f"{DATABASE}{_SHARED_MEMORY}": random.Random(point.seed).randbytes(32768)}
    return files


class Surveyor:
    """Surveys folders, each distinct content once."""

    def __init__(self) -> None:
        self._known: dict[bytes, Found] = {}

    def find(self, files: Files) -> Found:
        digest = hashlib.sha256(msgspec.msgpack.encode(sorted(files.items()))).digest()
        if digest not in self._known:
            with unpacked(files) as database:
                self._known[digest] = asyncio.run(survey(database))
        return self._known[digest]


@contextlib.contextmanager
def unpacked(files: Files) -> Iterator[Path]:
    """Yield the path of the database in a temporary folder with these files, in memory where possible."""
    fast = _FAST_FOLDER if Path(_FAST_FOLDER).is_dir() else None
    with tempfile.TemporaryDirectory(dir=fast) as folder:
        for name, data in files.items():
            Path(folder, name).write_bytes(data)
        yield Path(folder, DATABASE)


def packed(folder: Path) -> Files:
    """Return the files of a folder, without shared memory."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith(_SHARED_MEMORY)}


def complaints(recorded: Recorded, cuts: Sequence[Point]) -> list[str]:
    """Return what is wrong after each of these cuts: acknowledged events that are lost, and problems of the store."""
    surveyor, found = Surveyor(), list[str]()
    for left in left_behind(recorded, cuts):
        after = surveyor.find(left.files)
        found += [f"{left.point}: {what}" for what in (*after.problems, *after.lost(left.told))]
    return found
