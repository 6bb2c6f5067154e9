"""Explanations of a run's state: what failed, what that blocks, what waits for what, and what is running.

Each unfinished task has exactly one finding, and so has each failed step or branch. A dependency is met when the task
has succeeded or was skipped. A failed or cancelled task also meets a dependency if it is allowed to fail
(`allow_failure`) or its dependent allows that (`allow_dependency_failure`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias, get_args

from msgspec import Struct, structs

from engine.handles.engine import Engine
from engine.model import (
    ACTIVE_STATUSES,
    CANCELLED,
    FAILED_STATUSES,
    SUCCEEDED_STATUSES,
    TERMINAL_STATUSES,
    AttemptLog,
    BranchLog,
    ExternalRun,
    has_ended,
)
from engine.names import ROOT
from engine.point import Point
from engine.reports.dependencies import found_dependencies, in_order
from engine.reports.standing import (
    ORPHANED_SECONDS,
    Place,
    PlacedStep,
    RunSteps,
    is_orphaned,
    job_state,
    read_steps,
)

Kind: TypeAlias = Literal[
    "failed", "missing", "cycle", "cancelled", "ended", "blocked", "orphaned", "running", "waiting", "ready"
]
"""What was found, in the order of reporting.

`ended`: with a status that is neither a success nor a failure. `missing`: depends on tasks that do not exist.
`cycle`: depends on itself, directly or through others. `blocked`: cannot run without intervention. `waiting`: can run
once running or ready tasks have succeeded."""

_KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
_BLOCKING: Final = frozenset({"failed", "missing", "cycle", "cancelled", "ended", "blocked"})


class Job(Struct, frozen=True, kw_only=True):
    """What executes a task: its current attempt, or its external run, which has neither index nor times."""

    status: str
    attempt_id: str | None = None
    attempt_index: int | None = None
    operator: str | None = None
    external_id: str | None = None
    since: datetime | None = None


class Finding(Struct, frozen=True, kw_only=True):
    """The state of one task, step or branch, and its cause. A branch's finding has no `step`.

    `allowed` is whether a failed or cancelled task is allowed to fail. `waits_for` are the unmet dependencies,
    `missing` the names of those that do not exist. `through` is the dependency that leads to `root`, the first cause,
    and `between` counts the tasks between the two; in a cycle `root` is None, and `through` is the next task in it.
    `blocks` counts the tasks whose root this is.
    """

    kind: Kind
    what: Literal["task", "step", "branch"]
    branch: str
    step: str = ""
    status: str
    reason: str | None = None
    allowed: bool = False
    attempts: int = 0
    job: Job | None = None
    waits_for: tuple[Place, ...] = ()
    missing: tuple[str, ...] = ()
    through: Place | None = None
    root: Place | None = None
    root_kind: Kind | None = None
    between: int = 0
    blocks: int = 0

    @property
    def place(self) -> Place:
        return Place(self.branch, self.step)


class Explanation(Struct, frozen=True, kw_only=True):
    """A run's state, and its findings: failures first, and within each kind in the order of the run.

    `job` is the state of the job of a single-job run, else empty. `at` is the time that all of it describes.
    """

    run_id: str
    at: datetime
    status: str
    status_reason: str | None
    job: str
    tasks: int
    findings: list[Finding]


async def explain_run(
    engine: Engine, run_id: str, *, at: Point = None, orphaned_seconds: float = ORPHANED_SECONDS
) -> Explanation:
    """Explain the state of a run, now or at a point of its root branch.

    Args:
        orphaned_seconds: the age at which an attempt that was never submitted is orphaned.

    Raises:
        RunNotFound, PointNotFound
    """
    steps = await read_steps(engine, run_id, at)
    return explain(steps, _time_of(at, steps), orphaned_seconds)


def _time_of(at: Point, run: RunSteps) -> datetime:
    """Return the time of a point; for a version or a position, the latest time recorded by then."""
    if at is None or isinstance(at, datetime):
        return at or datetime.now(UTC)
    attempts = [attempt for each in run.steps for attempt in each.step.attempts]
    times = [time for each in attempts for time in (each.created_at, each.submitted_at, each.ended_at)]
    return max(filter(None, [run.info.created_at, run.info.status_changed_at, *times]))


def explain(run: RunSteps, now: datetime, orphaned_seconds: float = ORPHANED_SECONDS) -> Explanation:
    """Explain the state of a run as of `now`. Pure."""
    steps = {each.place: each for each in run.steps}
    tasks = {place: each for place, each in steps.items() if each.is_task}
    found: dict[Place, Finding] = {}
    for place, each in steps.items():
        finding = _own_finding(each, now, orphaned_seconds)
        if finding is not None:
            found[place] = finding
    found |= _dependency_findings(tasks, found, {each.branch: each.parent for each in run.branches})
    blocks = Counter(each.root for each in found.values())
    findings = [structs.replace(found[place], blocks=blocks[place]) for place in steps if place in found]
    findings += _failed_branches(run.branches, findings)
    return Explanation(
        run_id=run.info.run_id,
        at=now,
        status=run.info.status,
        status_reason=run.info.status_reason,
        job="" if run.job is None else job_state(run.job),
        tasks=len(tasks),
        findings=sorted(findings, key=lambda each: _KINDS.index(each.kind)),
    )


def _own_finding(each: PlacedStep, now: datetime, orphaned_seconds: float) -> Finding | None:
    status = each.status
    if status in FAILED_STATUSES:
        return _finding("failed", each)
    if status == CANCELLED:
        return _finding("cancelled", each)
    if status in TERMINAL_STATUSES or (each.job is None and status not in ACTIVE_STATUSES):
        return None
    attempt = each.attempt
    if attempt is not None and has_ended(attempt.status, attempt.ended_at):
        return _finding("ended", each)
    orphaned = attempt is not None and is_orphaned(attempt, now, orphaned_seconds)
    return _finding("orphaned" if orphaned else "running", each)


def _finding(kind: Kind, each: PlacedStep) -> Finding:
    return Finding(
        kind=kind,
        what="task" if each.is_task else "step",
        branch=each.branch,
        step=each.step.step,
        status=each.status,
        reason=each.reason,
        allowed=kind in {"failed", "cancelled"} and each.step.spec is not None and each.step.spec.allow_failure,
        attempts=len(each.step.attempts),
        job=None if each.job is None else _job(each.job),
    )


def _job(job: AttemptLog | ExternalRun) -> Job:
    if isinstance(job, ExternalRun):
        return Job(status=job.status, operator=job.operator_type, external_id=job.external_id)
    return Job(
        status=job.status,
        attempt_id=job.attempt_id,
        attempt_index=job.attempt_index,
        operator=job.operator_key or job.operator_type,
        external_id=job.external_id,
        since=job.submitted_at or job.created_at,
    )


def _dependency_findings(
    tasks: Mapping[Place, PlacedStep], found: Mapping[Place, Finding], parents: Mapping[str, str | None]
) -> dict[Place, Finding]:
    """Return the findings of the tasks that have not begun, judging each after the tasks that it waits for."""
    unmet: dict[Place, list[Place]] = {}
    missing: dict[Place, tuple[str, ...]] = {}
    for key, task in tasks.items():
        if key not in found and task.status not in TERMINAL_STATUSES:
            where = found_dependencies(task, tasks, parents)
            missing[key] = tuple(name for name, place in where.items() if place is None)
            unmet[key] = [place for place in where.values() if place is not None and not _is_met(tasks[place], task)]
    judged: dict[Place, Finding] = {}
    for component in in_order(unmet):
        members = set(component)
        for key in component:
            next_in_cycle = next((place for place in unmet[key] if place in members), None)
            causes = [cause for place in unmet[key] if (cause := judged.get(place) or found.get(place)) is not None]
            finding = structs.replace(
                _waiting(tasks[key], causes),
                waits_for=tuple(unmet[key]),
                missing=missing[key],
            )
            judged[key] = _as_first_cause(finding, next_in_cycle) if next_in_cycle or missing[key] else finding
    return judged


def _is_met(dependency: PlacedStep, task: PlacedStep) -> bool:
    if dependency.status in SUCCEEDED_STATUSES:
        return True
    if dependency.status not in TERMINAL_STATUSES:
        return False
    its, own = dependency.step.spec, task.step.spec
    return (its is not None and its.allow_failure) or (own is not None and own.allow_dependency_failure)


def _waiting(task: PlacedStep, causes: Sequence[Finding]) -> Finding:
    if not causes:
        return _finding("ready", task)
    worst = min(causes, key=lambda cause: _KINDS.index(cause.kind))
    has_root = worst.root is not None
    return structs.replace(
        _finding("blocked" if worst.kind in _BLOCKING else "waiting", task),
        through=worst.place,
        root=worst.root if has_root else worst.place,
        root_kind=worst.root_kind if has_root else worst.kind,
        between=worst.between + 1 if has_root else 0,
    )


def _as_first_cause(finding: Finding, next_in_cycle: Place | None) -> Finding:
    # A task that can never run as described is a first cause, whatever else it waits for.
    return structs.replace(
        finding,
        kind="missing" if next_in_cycle is None else "cycle",
        through=next_in_cycle,
        root=None,
        root_kind=None,
        between=0,
    )


def _failed_branches(branches: Sequence[BranchLog], findings: Sequence[Finding]) -> list[Finding]:
    """Return findings of the failed branches that have no failed step, in themselves or below, to explain them."""
    parents = {each.branch: each.parent for each in branches}
    explained: set[str] = set()
    for finding in findings:
        branch: str | None = finding.branch if finding.kind == "failed" else None
        while branch is not None and branch not in explained:
            explained.add(branch)
            branch = parents[branch]
    return [
        Finding(kind="failed", what="branch", branch=each.branch, status=each.status, reason=each.status_reason)
        for each in branches
        if each.branch != ROOT and each.status in FAILED_STATUSES and each.branch not in explained
    ]
