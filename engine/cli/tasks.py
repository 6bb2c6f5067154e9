"""`anabranch tasks`: the steps of a run that have a task specification."""

from typing import Any

from rich.text import Text

from engine.cli.database import DEFAULT_DATABASE, existing
from engine.cli.document import attempt_document, print_json
from engine.cli.escapes import visible
from engine.cli.failures import run
from engine.cli.listing import Listing
from engine.cli.options import AsJson, AtPoint, Database, RunId, Statuses, as_point
from engine.cli.terminal import output
from engine.cli.text import branch_cell, cell, counted, none_found, status
from engine.encoding.plain_json import plain
from engine.names import ROOT
from engine.reports.standing import PlacedStep, read_steps


def tasks(
    run_id: RunId,
    *,
    db: Database = DEFAULT_DATABASE,
    with_status: Statuses = None,
    at: AtPoint = None,
    json: AsJson = False,
) -> None:
    """List a run's tasks and their statuses.

    A task is a step with a task specification. STATUS is its own status, which may lag behind NOW, the status of its
    current attempt, or of its external run if there are no attempts; --status matches either. With --at, lists the
    tasks as of that point; a version is one of the root branch.

    \b
      anabranch tasks r1 --status FAILED
    """
    point = as_point(at)

    async def command() -> None:
        async with existing(db) as engine:
            steps = (await read_steps(engine, run_id, point)).steps
        asked = [each for each in steps if each.is_task]
        found = [each for each in asked if with_status in (None, each.step.status, each.job and each.job.status)]
        if json:
            print_json({"run_id": run_id, "tasks": [_document(each) for each in found]})
        elif found:
            _print(found)
        else:
            hint = "" if asked or not steps else f"; {counted(len(steps), 'step')}: anabranch steps {visible(run_id)}"
            output().print(f"{none_found('no tasks', status=with_status)}{hint}", soft_wrap=True)

    run(command(), as_json=json)


def _document(task: PlacedStep) -> dict[str, Any]:
    step, attempt = task.step, task.attempt
    return {
        "branch": task.branch,
        "task_id": step.step,
        "name": step.name,
        "status": step.status,
        "status_reason": step.status_reason,
        "stands": task.status,
        "reason": task.reason,
        "attempts": len(step.attempts),
        "current_attempt": None if attempt is None else attempt_document(task.branch, attempt),
        "external_run": plain(task.external_run),
        "spec": plain(step.spec),
    }


def _print(tasks: list[PlacedStep]) -> None:
    headers = ["TASK", "STATUS", "NOW", "#", "OPERATOR", "EXTERNAL ID", "DEPENDS ON"]
    rows = [_row(task) for task in tasks]
    if any(task.branch != ROOT for task in tasks):
        headers.insert(0, "BRANCH")
        rows = [(branch_cell(task.branch), *row) for task, row in zip(tasks, rows, strict=True)]
    flexible = "BRANCH", "TASK", "OPERATOR", "EXTERNAL ID", "DEPENDS ON"
    output().show(Listing(headers, rows, flexible=flexible, right=("#",)))


def _row(task: PlacedStep) -> tuple[Text, ...]:
    spec, attempt = task.step.spec, task.attempt
    by_attempt = None if attempt is None else attempt.operator_key
    by_spec = None if spec is None else spec.operator_key
    by_job = None if task.external_run is None else task.external_run.operator_type
    return (
        cell(task.step.step, "bold"),
        status(task.step.status),
        cell("") if task.job is None else status(task.job.status),
        cell(len(task.step.attempts)),
        cell(by_attempt or by_spec or by_job),
        cell(None if task.job is None else task.job.external_id),
        cell(", ".join(spec.dependencies) if spec is not None else ""),
    )
