"""Runs that hold some of everything, for tests that damage the records."""

import math
from datetime import UTC, datetime

from engine import Branch, Engine, Run
from engine.commands import LogExternalRun
from engine.events import ExternalRunRegistered, ExternalRunUpdated
from engine.model import Parameter, TaskSpec

NOON = datetime(2026, 1, 2, 12, 30, 15, 123456, tzinfo=UTC)


async def record_rich_run(engine: Engine, run_id: str) -> Run:
    """Record a run whose root branch has an event of nearly every type; nothing in it names another branch."""
    run = await engine.create_run(
        run_id,
        parameters={"lr": 0.1, "nan": math.nan, "deep": {"a": [1, [None, {"é": -0.0}]]}},
        tag="rich",
        tags={"team": ["é", 1]},
        workspace_slug="lab",
        root_path="/data",
        description="some of everything",
        created_at=NOON,
    )
    await run.configure({"executor": {"kind": "local", "slots": 2}})
    await run.log_job({"name": "job", "attempts": [{"number": 1}]})
    await run.log_step("task", name="Task", spec=_spec(), details={"k": [1.5, True]}, message="so far")
    await _attempts(run)
    await run.write(LogExternalRun(event=_registered(status="RUNNING")))
    updated = ExternalRunUpdated(branch="", task_id="task", status="COMPLETED", operator_data={"exit": 0})
    await run.write(LogExternalRun(event=updated))
    await run.set_step_status("task", "FAILED", "why not")
    await run.log_step("gone")
    await run.remove_step("gone", "renamed")
    await run.describe({"owner": "me"})
    await engine.pin(run_id, "a paper")
    await engine.unpin(run_id, "published")
    await run.set_status("RUNNING", "at last")
    await run.set_parameters({"lr": Parameter(2**63 - 1, "metric"), "where": Parameter("s3://bucket", "object")})
    return run


def _spec() -> TaskSpec:
    return TaskSpec(
        image="ubuntu",
        command="run",
        files={"a.txt": "text"},
        env={"A": "1"},
        dependencies=["other"],
        cores=2,
        memory_gb=1.5,
        time_limit_minutes=60,
        download_patterns={"include": ["*.csv"]},
    )


async def _attempts(run: Run) -> None:
    first = await run.start_attempt(
        "task", attempt_id=f"{run.run_id} 1", operator_key="hpc", operator_data={"queue": "long"}, inputs={"x": 1}
    )
    await first.update(
        status="FAILED", status_reason="walltime", submitted_at=NOON, outputs={"y": [1]}, metrics={"m": 0.5}
    )
    await run.start_attempt("task", attempt_id=f"{run.run_id} 2", details={"host": None}, message="again")


def _registered(status: str) -> ExternalRunRegistered:
    return ExternalRunRegistered(
        branch="", task_id="task", operator_type="HPC", status=status, external_id="x", relative_path="task/1"
    )


async def record_branches(run: Run) -> list[Branch]:
    """Fork branches off a run, reduce what they write, and finalise it."""
    children = [await run.fork(name, status="RUNNING") for name in ("fit.a", "fit.[1, 2]")]
    for number, child in enumerate(children):
        await child.set_parameters({"loss": number / 2, "lr": number})
        async with child.attempt("train", attempt_id=f"{run.run_id} train {number}"):
            await (await child.fork("inner")).set_parameters({"text": "é" * 50 * number})
        await child.reduce()
    await run.reduce(children, rules={"loss": "min", "text": "collect"})
    await run.finalize("COMPLETED")
    return children
