"""A run with tasks in every state, for the tests of the commands that report on tasks."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engine import Run, open_engine
from engine.commands import CreateAttempt, LogExternalRun, LogTask, Record, SetStepStatus
from engine.events import AttemptCreated, ExternalRunRegistered
from engine.model import AttemptChanges, TaskSpec

LONG_AGO = datetime(2026, 1, 31, tzinfo=UTC)


async def record_tasks(database: Path, *, root_path: str | None = None) -> None:
    """Record the run `r1`.

    One task failed after two attempts and blocks two others; the other tasks run, wait, have an orphaned attempt or
    depend on a task that does not exist.
    """
    async with open_engine(database, durability="relaxed") as engine:
        run = await engine.create_run(
            "r1",
            status="RUNNING",
            workspace_slug="lab",
            root_path=root_path,
            tags={"year": 2026},
            description="docking",
        )
        await run.write(
            LogTask(task_id="prepare", spec=TaskSpec(image="py:3", command="prepare.sh", env={"N": "1"}, cores=2)),
            LogTask(task_id="relax", spec=TaskSpec(dependencies=["prepare"], operator_key="slurm")),
            LogTask(task_id="dock", spec=TaskSpec(dependencies=["relax", "prepare"])),
            LogTask(task_id="report", spec=TaskSpec(dependencies=["dock"])),
            LogTask(task_id="plot", spec=TaskSpec(dependencies=["prepare"])),
            LogTask(task_id="publish", spec=TaskSpec(dependencies=["nope"])),
            LogTask(task_id="legacy", spec=TaskSpec()),
            LogTask(task_id="lost", spec=TaskSpec()),
        )
        await _try(run, "prepare", "p1", "COMPLETED", external_id="job-1", relative_path="prepare/1")
        await _try(run, "relax", "x1", "FAILED", external_id="job-2", relative_path="relax/1")
        await _try(run, "relax", "x2", "FAILED", external_id="job-3", operator_key="slurm", relative_path="relax/2")
        await (await run.find_attempt("x2")).update(status_reason="exit code 137: out of memory")
        await _try(run, "plot", "l1", "RUNNING", external_id="4711", operator_key="local")
        registered = [
            ExternalRunRegistered(branch="", task_id=task, operator_type="HPC", status="SUBMITTED", external_id="9")
            for task in ("legacy", "plot")
        ]
        created = AttemptCreated(branch="", step="lost", attempt_id="o1", attempt_index=1, created_at=LONG_AGO)
        await run.write(
            SetStepStatus(step="prepare", status="COMPLETED"),
            SetStepStatus(step="relax", status="FAILED"),
            *(LogExternalRun(event=event) for event in registered),
            Record(events=(created,)),
        )
        branch = await run.fork("fit.a")
        await branch.start_attempt("train", status="FAILED", message="no data")


async def _try(run: Run, task: str, attempt_id: str, status: str, **fields: Any) -> None:
    await run.write(CreateAttempt(task_id=task, attempt_id=attempt_id, fields=AttemptChanges(**fields)))
    await (await run.find_attempt(attempt_id)).update(status=status)
