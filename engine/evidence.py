"""Evidence of a run: what it was asked to do, every attempt at it, and the hashes that tie all that to the log.

A bundle is a folder with `bundle.json`, which holds everything and the head of every stream, and `report.md`, which
says the same in short for people. Later the heads can be held against the log.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from engine.engine import Engine
from engine.errors import AlreadyExists, BranchNotFound, Conflict, InvalidValue, PointNotFound, shown
from engine.evidence_files import BUNDLE_NAME, REPORT_NAME, artifact, as_json, write_whole
from engine.evidence_report import report
from engine.findings import Problem
from engine.model import AttemptLog, Head
from engine.ports import Progress
from engine.standing import AnyLog, PlacedStep, RunSteps, read_steps

FORMAT: Final = "anabranch-evidence"
FORMAT_VERSION: Final = 1

_READS_MAX: Final = 10


class EvidenceExists(AlreadyExists):
    """The folder holds evidence already; nothing was written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"{shown(str(path))} exists; overwriting it has to be asked for")


class RunMoves(Conflict):
    """The run was written to during every one of several readings; read it when it rests."""

    def __init__(self, run_id: str, readings: int) -> None:
        self.run_id, self.readings = run_id, readings
        super().__init__(f"run {shown(run_id)} was written to during each of {readings} readings")


class HeadFound(Struct, frozen=True, kw_only=True):
    """A stream's head as a bundle names it. `found` is the log's hash of that version, None where it has no such."""

    branch: str
    stream_version: int
    hash: str
    found: str | None

    @property
    def holds(self) -> bool:
        """Whether the log still has that head."""
        return self.found == self.hash


class EvidenceCheck(Struct, frozen=True, kw_only=True):
    """A bundle held against the log: what is wrong with the run's history in itself, and the heads."""

    problems: list[Problem]
    heads: list[HeadFound]

    @property
    def holds(self) -> bool:
        """Whether the log still holds the history that the bundle is evidence of."""
        return not self.problems and all(head.holds for head in self.heads)


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
    """Write the evidence of a run into a folder, which is created, and return what `bundle.json` holds.

    Each file is written whole under another name first, the bundle last.

    Args:
        overwrite: replace the files of an earlier bundle.

    Raises:
        RunNotFound
        EvidenceExists: the folder holds one of the files.
        RunMoves
        OSError: the folder cannot be written.
    """
    if not overwrite:
        await asyncio.to_thread(_check_free, folder)
    bundle = await collect_evidence(engine, run_id)
    texts = {REPORT_NAME: report(bundle), BUNDLE_NAME: as_json(bundle)}
    await asyncio.to_thread(write_whole, folder, texts)
    return bundle


async def collect_evidence(engine: Engine, run_id: str) -> dict[str, Any]:
    """Return what `bundle.json` holds, as it was at one moment.

    Raises:
        RunNotFound, RunMoves
    """
    for _ in range(_READS_MAX):
        position = await engine.last_position()
        run = await read_steps(engine, run_id)
        heads = [await _head(engine, run_id, branch.branch) for branch in run.branches]
        if not await _has_moved(engine, run_id, position):
            return await asyncio.to_thread(_bundle, run, heads, position)
    raise RunMoves(run_id, _READS_MAX)


async def check_evidence(engine: Engine, run_id: str, folder: Path, progress: Progress | None = None) -> EvidenceCheck:
    """Hold a bundle against the log: compute the run's hashes anew, and look for every head that the bundle names.

    Args:
        progress: as for `Engine.verify`.

    Raises:
        InvalidValue: the file is no bundle, or that of another run.
        RunNotFound
        OSError: the file cannot be read.
    """
    path = folder / BUNDLE_NAME
    bundle = _read_bundle(await asyncio.to_thread(path.read_bytes), path, run_id)
    verification = await engine.verify(run_id, progress=progress)
    heads = [
        HeadFound(
            branch=head.branch,
            stream_version=head.stream_version,
            hash=head.hash,
            found=await _hash_at(engine, run_id, head),
        )
        for head in bundle.log.heads
    ]
    return EvidenceCheck(problems=verification.problems, heads=heads)


async def _hash_at(engine: Engine, run_id: str, head: _BundleHead) -> str | None:
    try:
        stream = await engine.views.stream(run_id, head.branch)
        if stream.version == head.stream_version:
            return stream.hash.hex()
        return (await engine.views.head_at(run_id, head.branch, head.stream_version)).hash.hex()
    except (BranchNotFound, PointNotFound):
        return None


def _check_free(folder: Path) -> None:
    for name in (BUNDLE_NAME, REPORT_NAME):
        if (folder / name).exists():
            raise EvidenceExists(folder / name)


async def _head(engine: Engine, run_id: str, branch: str) -> Head:
    stream = await engine.views.stream(run_id, branch)
    return Head(branch, stream.version, stream.hash)


async def _has_moved(engine: Engine, run_id: str, position: int) -> bool:
    # No event of the run after a position that was the last before the reading: all of it read the same state.
    async with contextlib.aclosing(engine.events(run_id=run_id, after=position)) as events:
        async for _ in events:
            return True
    return False


def _read_bundle(content: bytes, path: Path, run_id: str) -> _Bundle:
    try:
        bundle = msgspec.json.decode(content, type=_Bundle)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidValue("bundle", str(path), f"is no evidence: {error}") from error
    if (bundle.format, bundle.format_version) != (FORMAT, FORMAT_VERSION):
        raise InvalidValue("bundle", f"{bundle.format} {bundle.format_version}", f"is not {FORMAT} {FORMAT_VERSION}")
    if bundle.run.run_id != run_id:
        raise InvalidValue("bundle", bundle.run.run_id, f"is the run it is evidence of, not {shown(run_id)}")
    return bundle


def _bundle(run: RunSteps, heads: Sequence[Head], position: int) -> dict[str, Any]:
    root_path = run.info.root_path
    tasks = [each for each in run.steps if each.is_task]
    others: dict[str, list[PlacedStep]] = {}
    for each in run.steps:
        if not each.is_task:
            others.setdefault(each.branch, []).append(each)
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "generated_at": datetime.now(UTC),
        "run": run.info,
        "log": {"position": position, "heads": heads},
        "task_counts": dict(sorted(Counter(each.step.status for each in tasks).items())),
        "tasks": [_task(each, root_path) for each in tasks],
        "branches": [_branch(each, others.get(each.branch, []), root_path) for each in run.branches],
    }


def _task(task: PlacedStep, root_path: str | None) -> dict[str, Any]:
    current = task.attempt
    return {
        **_step(task, root_path),
        "spec": task.step.spec,
        "current_attempt": None if current is None else _attempt(current, root_path),
        "external_run": None if current is not None else task.external_run,
    }


def _step(placed: PlacedStep, root_path: str | None) -> dict[str, Any]:
    step = placed.step
    return {
        "branch": placed.branch,
        "step": step.step,
        "name": step.name,
        "step_type": step.step_type,
        "status": step.status,
        "status_reason": step.status_reason,
        "message": step.message,
        "details": step.details,
        "attempts": [_attempt(each, root_path) for each in step.attempts],
    }


def _attempt(attempt: AttemptLog, root_path: str | None) -> dict[str, Any]:
    fields = msgspec.structs.asdict(attempt)
    return {**fields, "artifacts": artifact(root_path, attempt.relative_path)}


def _branch(branch: AnyLog, steps: Sequence[PlacedStep], root_path: str | None) -> dict[str, Any]:
    return {
        "branch": branch.branch,
        "parent": getattr(branch, "parent", None),
        "status": branch.status,
        "status_reason": branch.status_reason,
        "stream_version": branch.stream_version,
        "steps": [_step(each, root_path) for each in steps],
    }
