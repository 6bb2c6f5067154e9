"""Evidence of a run: its tasks, every attempt at them, and the hashes that tie all of it to the log.

A bundle is a folder with `bundle.json`, which holds everything including the head of every stream, and `report.md`, a
summary for people. The bundle can be checked against the log later.
"""

import asyncio
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from engine.codec import derived_id
from engine.encoding.free_form import check_json
from engine.encoding.plain_json import plain
from engine.errors import AlreadyExists, InvalidValue, NotFound, shown
from engine.events import PayloadErased, RunForked, SourceCarriedOver
from engine.findings import Problem
from engine.handles.engine import Engine
from engine.logs.file_system import make_folders
from engine.logs.whole_file import whole_file
from engine.model import Head
from engine.ports import Progress
from engine.reports.evidence_bundle import FORMAT, FORMAT_VERSION, as_json, bundle_as_of, remove_version_2_fields
from engine.reports.evidence_differences import Difference, differences, is_attempt
from engine.reports.evidence_report import report

BUNDLE_NAME: Final = "bundle.json"
REPORT_NAME: Final = "report.md"

_PLACES_MAX: Final = 20


class EvidenceExists(AlreadyExists):
    """The folder already holds evidence; nothing was written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"{shown(path)} exists; use overwrite=True, or --force, to overwrite it")


class EvidenceNotFound(NotFound):
    """There is no bundle in the folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"no evidence: {shown(path)} does not exist")


class HeadFound(Struct, frozen=True, kw_only=True):
    """A stream's head as a bundle names it. `found` is the log's hash of that version, None if it has no such event."""

    branch: str
    stream_version: int
    hash: str
    found: str | None

    @property
    def holds(self) -> bool:
        """Whether the log still has this head."""
        return self.found == self.hash


class EvidenceCheck(Struct, frozen=True, kw_only=True):
    """The result of checking a bundle against the log.

    `problems` are those of the run's history itself, and `heads` are the heads that the bundle names. `differing` are
    the first places, such as `tasks[0].status`, where the bundle differs from the log as of those heads; `erased` are
    the first places that cannot be compared because the log's content was erased.
    """

    run_id: str
    problems: list[Problem]
    heads: list[HeadFound]
    differing: list[str]
    erased: list[str]

    @property
    def holds(self) -> bool:
        """Whether the log still supports the bundle."""
        return not self.problems and not self.differing and all(head.holds for head in self.heads)


class _BundleHead(Struct, frozen=True):
    branch: str
    stream_version: int
    hash: str


class _BundleLog(Struct, frozen=True):
    heads: list[_BundleHead]


class _BundleRun(Struct, frozen=True):
    run_id: str


class _Bundle(Struct, frozen=True):
    format: str
    format_version: int
    run: _BundleRun
    log: _BundleLog


async def export_evidence(engine: Engine, run_id: str, folder: Path, *, overwrite: bool = False) -> dict[str, Any]:
    """Write the evidence of a run into a folder, creating it if needed, and return the content of `bundle.json`.

    Each file is first written completely under another name; the bundle is renamed last.

    Args:
        overwrite: replace the files of an earlier bundle.

    Raises:
        RunNotFound
        EvidenceExists: the folder already has one of the files.
        OSError: the folder cannot be written.
    """
    bundle = await collect_evidence(engine, run_id)
    await asyncio.to_thread(_write, folder, bundle, overwrite=overwrite)
    return bundle


async def collect_evidence(engine: Engine, run_id: str) -> dict[str, Any]:
    """Return the content of `bundle.json` for a run as of the log's last position.

    Raises:
        RunNotFound
    """
    await engine.run(run_id)
    return await bundle_as_of(engine, run_id, await engine.last_position())


async def check_evidence(
    engine: Engine, run_id: str | None, folder: Path, progress: Progress | None = None
) -> EvidenceCheck:
    """Check a bundle against the log.

    The run's hashes are recomputed, every head that the bundle names is looked up, and the bundle is compared with the
    log as of those heads. Not compared are the time and position at which it was made, whether artifacts existed then,
    and `report.md`.

    Args:
        run_id: the run that the bundle must be of; None accepts any run.
        progress: as for `Engine.verify`.

    Raises:
        InvalidValue: the file is not a bundle, or that of another run.
        EvidenceNotFound, RunNotFound
        OSError: the file cannot be read.
    """
    path = folder / BUNDLE_NAME
    try:
        content = await asyncio.to_thread(path.read_bytes)
    except FileNotFoundError as error:
        raise EvidenceNotFound(path) from error
    bundle, document = await asyncio.to_thread(_read_bundle, content, path)
    if run_id not in (None, bundle.run.run_id):
        raise InvalidValue("bundle", bundle.run.run_id, f"is the run it is evidence of, not {shown(run_id)}")
    run_id = bundle.run.run_id
    verification = await engine.verify(run_id, progress=progress)
    found = await engine.views.heads_of(run_id, [(head.branch, head.stream_version) for head in bundle.log.heads])
    heads = [_head_found(head, found.get(head.branch)) for head in bundle.log.heads]
    whole = not verification.problems and all(head.holds for head in heads)
    differing: list[Difference] = []
    if whole:
        position = max((found[head.branch][1] for head in bundle.log.heads), default=0)
        differing = await _differences(engine, run_id, position, document)
    return EvidenceCheck(
        run_id=run_id,
        problems=verification.problems,
        heads=heads,
        differing=[each.place for each in differing if not each.is_erased][:_PLACES_MAX],
        erased=[each.place for each in differing if each.is_erased][:_PLACES_MAX],
    )


async def _differences(engine: Engine, run_id: str, position: int, found: dict[str, Any]) -> list[Difference]:
    """Return where a bundle differs from the log as of a position, which is 0 if the bundle names no head."""
    if position == 0:
        return [Difference(("log", "heads"), is_erased=False)]
    expected = await bundle_as_of(engine, run_id, position)
    return await asyncio.to_thread(_compared, found, expected, await _ancestry(engine, run_id))


def _compared(found: dict[str, Any], document: dict[str, Any], ancestry: "_Ancestry") -> list[Difference]:
    expected = plain(document)
    if found["format_version"] == 1:
        remove_version_2_fields(expected)
    differing = differences(found, expected, erased=ancestry.erased)
    return [each for each in differing if not _is_carried_over(ancestry.carried, each, found, expected)]


class _Ancestry(Struct, frozen=True):
    """What was done to a run and the runs it was forked from that changes what the run shows.

    `carried` is the nearest run that data was carried over to, followed by the runs that the data came from through
    earlier carry-overs, nearest first. `erased` is whether content may have been erased.
    """

    carried: tuple[str, ...]
    erased: bool


async def _ancestry(engine: Engine, run_id: str) -> _Ancestry:
    erased, types = False, (PayloadErased, SourceCarriedOver, RunForked)
    while True:
        found = [recorded.event async for recorded in engine.events(run_id=run_id, types=types)]
        erased |= any(isinstance(event, PayloadErased) for event in found)
        source = next((event.source_run_id for event in found if isinstance(event, RunForked)), None)
        if source is None:
            return _Ancestry(carried=(), erased=erased)
        carried = next((event for event in found if isinstance(event, SourceCarriedOver)), None)
        if carried is not None:
            # Content may have been erased from the deleted run, too.
            return _Ancestry(carried=(run_id, *(carried.runs or [source])), erased=True)
        run_id = source


def _is_carried_over(carried: Sequence[str], difference: Difference, found: Any, expected: Any) -> bool:
    """Return whether a difference comes from carrying data over from a deleted source into the run.

    Carrying over gives the attempts other ids, and makes the steps the run's own.

    Args:
        carried: see `_Ancestry`; nothing was carried over if it is empty.
    """
    if not carried:
        return False
    *above, name = difference.path
    if "inherited_from" in above or name == "inherited_from":
        return True
    if name != "attempt_id" or not is_attempt(tuple(above)):
        return False
    for step in above:
        found, expected = found[step], expected[step]
    given = found.get(name)
    if not isinstance(given, str):
        return False
    # Any of these runs may have held the attempt when the bundle was made; each later carry-over derived a new id.
    later = (carried[:count] for count in range(1, len(carried) + 1))
    return any(_carried_id(given, expected["step"], runs) == expected[name] for runs in later)


def _carried_id(attempt_id: str, step: str, runs: Sequence[str]) -> str:
    """Return the id that an attempt has after it was carried over to each of some runs, the last of them first."""
    for run_id in reversed(runs):
        attempt_id = derived_id(run_id, step, attempt_id)
    return attempt_id


def _head_found(head: _BundleHead, found: tuple[Head, int] | None) -> HeadFound:
    return HeadFound(
        branch=head.branch,
        stream_version=head.stream_version,
        hash=head.hash,
        found=None if found is None or found[0].stream_version != head.stream_version else found[0].hash.hex(),
    )


def _write(folder: Path, bundle: dict[str, Any], *, overwrite: bool) -> None:
    make_folders(folder)
    write_whole = partial(whole_file, overwrite=overwrite, taken=EvidenceExists)
    # The report is renamed before the bundle, and only once there was space for both.
    with write_whole(folder / BUNDLE_NAME) as bundle_file, write_whole(folder / REPORT_NAME) as report_file:
        bundle_file.write(as_json(bundle).encode())
        bundle_file.flush()
        report_file.write(report(bundle).encode())


def _read_bundle(content: bytes, path: Path) -> tuple[_Bundle, dict[str, Any]]:
    """Return a bundle's typed part, and its whole document."""
    try:
        bundle, document = msgspec.json.decode(content, type=_Bundle), json.loads(content.decode())
        check_json(document)
    except (ValueError, RecursionError) as error:
        raise InvalidValue("bundle", str(path), f"is not a bundle of evidence: {error}") from error
    if bundle.format != FORMAT or not 1 <= bundle.format_version <= FORMAT_VERSION:
        raise InvalidValue("bundle", f"{bundle.format} {bundle.format_version}", f"is not {FORMAT} {FORMAT_VERSION}")
    return bundle, document
