"""The state of a run's steps: a task's own status may lag behind that of its attempt or its external run."""

from datetime import datetime
from typing import Any, Final

from msgspec import Struct

from engine.handles.engine import Engine
from engine.model import (
    SUCCEEDED_STATUSES,
    TERMINAL_STATUSES,
    AttemptLog,
    BranchLog,
    ExternalRun,
    RunInfo,
    StepLog,
    branches_of,
    never_submitted,
)
from engine.point import Point

ORPHANED_SECONDS: Final = 3600.0
"""The default age at which an attempt that was created and never submitted counts as orphaned."""


class Place(Struct, frozen=True):
    """The place of a task or a step."""

    branch: str
    step: str


class PlacedStep(Struct, frozen=True, kw_only=True):
    """A step, its branch, and its legacy external run, which may replace attempts."""

    branch: str
    step: StepLog
    external_run: ExternalRun | None = None

    @property
    def place(self) -> Place:
        return Place(self.branch, self.step.step)

    @property
    def is_task(self) -> bool:
        return self.step.spec is not None

    @property
    def attempt(self) -> AttemptLog | None:
        """The attempt that the step names as current, else the last one."""
        attempts = self.step.attempts
        if not attempts:
            return None
        named = (each for each in attempts if each.attempt_id == self.step.current_attempt_id)
        return next(named, attempts[-1])

    @property
    def job(self) -> AttemptLog | ExternalRun | None:
        """What executes the step: its current attempt, or its external run if there are no attempts."""
        return self.attempt or self.external_run

    @property
    def status(self) -> str:
        """The step's status if that is terminal, else that of its job."""
        if self.step.status in TERMINAL_STATUSES or self.job is None:
            return self.step.status
        return self.job.status

    @property
    def reason(self) -> str | None:
        """The recorded reason of its state, if any: the attempt's first, unless the attempt succeeded."""
        attempt = self.attempt
        by_attempt = () if attempt is None else (attempt.status_reason, attempt.message)
        by_step = self.step.status_reason, self.step.message
        went_well = attempt is None or attempt.status in SUCCEEDED_STATUSES
        return next(filter(None, (*by_step, *by_attempt) if went_well else (*by_attempt, *by_step)), None)


class RunSteps(Struct, frozen=True, kw_only=True):
    """A run, and its steps branch by branch, in the order they were first logged.

    `branches` are in the order they were opened, the root first. `job` is the log of a single-job run.
    """

    info: RunInfo
    job: dict[str, Any] | None = None
    branches: list[BranchLog]
    steps: list[PlacedStep]


async def read_steps(engine: Engine, run_id: str, at: Point = None) -> RunSteps:
    """Return the steps of a run, now or at a point of its root branch.

    Raises:
        RunNotFound, PointNotFound
    """
    run = await engine.run(run_id)
    # The external runs first: a change between the two reads then only makes an external run's status stale.
    external = {(branch, each.task_id): each for branch, each in await engine.views.tasks.external_runs(run_id, at=at)}
    compiled = await engine.views.compile(run_id, at=at, nested=True, inherited=False, parameters=False)
    branches = list(branches_of(compiled))
    steps = [
        PlacedStep(branch=log.branch, step=step, external_run=external.get((log.branch, step.step)))
        for log in branches
        for step in log.steps.values()
    ]
    return RunSteps(info=await run.info(at=at), job=compiled.job, branches=branches, steps=steps)


def job_state(job: dict[str, Any]) -> str:
    """Return the status and message of a job, as far as a log of unknown shape has them."""
    attempts = job.get("attempts")
    last = attempts[-1] if isinstance(attempts, list) and attempts and isinstance(attempts[-1], dict) else {}
    parts = (job.get("status"), job.get("message") or last.get("message"))
    return ": ".join(each for each in parts if isinstance(each, str) and each)


def is_orphaned(attempt: AttemptLog, now: datetime, seconds: float = ORPHANED_SECONDS) -> bool:
    """Return whether an attempt was created at least that long ago and never submitted."""
    waited = (now - attempt.created_at).total_seconds()
    return never_submitted(attempt) and waited >= seconds
