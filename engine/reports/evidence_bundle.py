"""Bundles of evidence: what `bundle.json` holds of a run, and whether its artifacts exist."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from msgspec import structs

from engine.encoding.plain_json import plain
from engine.handles.engine import Engine
from engine.model import AttemptLog, BranchLog, Head
from engine.point import Position
from engine.reports.standing import PlacedStep, RunSteps, read_steps

FORMAT: Final = "anabranch-evidence"
FORMAT_VERSION: Final = 2
"""Version 2 adds `run.status_changed_at`, and `inherited_from` to every step."""


async def bundle_as_of(engine: Engine, run_id: str, position: int) -> dict[str, Any]:
    """Return the bundle of a run as of a position, so that all reads see the same moment while others write."""
    run = await read_steps(engine, run_id, Position(position))
    found = await engine.views.heads_of(run_id, [(each.branch, each.stream_version) for each in run.branches])
    heads = [found[each.branch][0] for each in run.branches]
    return await asyncio.to_thread(_bundle, run, heads, position)


def remove_version_2_fields(bundle: dict[str, Any]) -> None:
    """Remove the fields that bundles of version 1 do not have."""
    bundle["format_version"] = 1
    del bundle["run"]["status_changed_at"]
    for step in (*bundle["tasks"], *(step for branch in bundle["branches"] for step in branch["steps"])):
        del step["inherited_from"]


def as_json(document: Any) -> str:
    """Return a document as JSON text in ASCII, with values as in `engine.encoding.plain_json`."""
    return json.dumps(plain(document), indent=2, allow_nan=False) + "\n"


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
        "inherited_from": step.inherited_from,
        "attempts": [_attempt(each, root_path) for each in step.attempts],
    }


def _attempt(attempt: AttemptLog, root_path: str | None) -> dict[str, Any]:
    fields = structs.asdict(attempt)
    return {**fields, "artifacts": _artifacts(root_path, attempt.relative_path)}


def _branch(branch: BranchLog, steps: Sequence[PlacedStep], root_path: str | None) -> dict[str, Any]:
    return {
        "branch": branch.branch,
        "parent": branch.parent,
        "status": branch.status,
        "status_reason": branch.status_reason,
        "stream_version": branch.stream_version,
        "steps": [_step(each, root_path) for each in steps],
    }


def _artifacts(root_path: str | None, relative_path: str | None) -> dict[str, Any] | None:
    """Return the `path` of an attempt's artifacts and whether it `exists`, None if the attempt has no relative path.

    `path` is None if the run has no root path; `exists` is None if it is unknown or the system refuses access.
    """
    if relative_path is None:
        return None
    if root_path is None:
        return {"path": None, "exists": None}
    path = Path(root_path) / relative_path
    return {"path": str(path), "exists": _exists(path)}


def _exists(path: Path) -> bool | None:
    try:
        return path.exists()
    except (OSError, ValueError):  # no permission for a folder, or an invalid file name
        return None
