"""`anabranch steps` and `anabranch attempts`."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.text import Text

from engine import Engine
from engine.cli.database import DEFAULT_DATABASE, existing
from engine.cli.document import attempt_document, print_json, step_document
from engine.cli.escapes import visible
from engine.cli.failures import run
from engine.cli.hints import did_you_mean
from engine.cli.listing import Listing
from engine.cli.options import AsJson, AtPoint, BranchName, Database, RunId, Statuses, as_point
from engine.cli.parameters import origin_text
from engine.cli.terminal import output
from engine.cli.text import (
    branch_cell,
    cell,
    counted,
    elapsed_text,
    none_found,
    parameters_text,
    so_far_text,
    status,
    time_text,
)
from engine.errors import TaskNotFound
from engine.model import CREATED, AttemptLog, StepLog, branches_of
from engine.point import Point


def steps(
    run_id: RunId,
    *,
    db: Database = DEFAULT_DATABASE,
    branch: BranchName = None,
    with_status: Statuses = None,
    at: AtPoint = None,
    json: AsJson = False,
) -> None:
    """List a run's steps and their latest outcomes.

    Steps are listed branch by branch, in the order they were first logged. With --at, lists them as of that point; a
    version is one of the given branch, or else of the root.

    \b
      anabranch steps r1 --status FAILED
    """

    point, now = as_point(at), datetime.now(UTC) if at is None else None

    async def command() -> None:
        async with existing(db) as engine:
            found = [
                (name, step)
                for name, step in await _steps(engine, run_id, branch, point)
                if with_status in (None, step.status)
            ]
        if json:
            print_json({"run_id": run_id, "steps": [step_document(name, step) for name, step in found]})
        elif found:
            headers = "BRANCH", "STEP", "STATUS", "ATTEMPTS", "TOOK", "REASON"
            rows = (_step_row(name, step, run_id, now) for name, step in found)
            flexible = "BRANCH", "STEP", "REASON"
            output().show(Listing(headers, rows, flexible=flexible, right=("ATTEMPTS", "TOOK"), spare=("TOOK",)))
        else:
            output().print(none_found("no steps", status=with_status, branch=branch), soft_wrap=True)

    run(command(), as_json=json)


def attempts(
    run_id: RunId,
    *,
    db: Database = DEFAULT_DATABASE,
    branch: BranchName = None,
    step: Annotated[
        str | None, typer.Option("--step", "--task", metavar="STEP", help="Only attempts at this step or task.")
    ] = None,
    with_status: Statuses = None,
    at: AtPoint = None,
    json: AsJson = False,
) -> None:
    """List a run's attempts in the order they were recorded.

    Attempts at inherited steps belong to the source run, which is named below the list. OUTCOME is why an attempt
    failed, or else its outputs. With --at, lists the attempts as of that point; a version is one of the given branch,
    or else of the root.

    \b
      anabranch attempts r1 --status FAILED
    """

    point, now = as_point(at), datetime.now(UTC) if at is None else None

    async def command() -> None:
        async with existing(db) as engine:
            found = [
                (name, attempt)
                for name, attempt in await _attempts(engine, run_id, branch, point)
                if with_status in (None, attempt.status) and step in (None, attempt.step)
            ]
            inherited = [] if branch else await _inherited(engine, run_id, step, point)
            if step is not None and not (found or inherited or await engine.views.tasks.places(step, run_id)):
                raise await _not_found(engine, run_id, step)
            tried = [each for each in inherited if each.attempts and with_status is None]
        if json:
            print_json({"run_id": run_id, "attempts": [attempt_document(name, attempt) for name, attempt in found]})
        elif found:
            headers = "STARTED (UTC)", "BRANCH", "STEP", "#", "STATUS", "TOOK", "OUTCOME"
            rows = (_attempt_row(name, attempt, now) for name, attempt in found)
            flexible, spare = ("BRANCH", "STEP", headers[-1]), (headers[0], "TOOK")
            output().show(Listing(headers, rows, flexible=flexible, right=("#", "TOOK"), spare=spare))
        else:
            said = "no attempts of its own" if tried else "no attempts"
            output().print(none_found(said, step=step, status=with_status, branch=branch), soft_wrap=True)
        if tried and not json:
            output().print(_inherited_text(tried, run_id))

    run(command(), as_json=json)


async def _not_found(engine: Engine, run_id: str, step: str) -> TaskNotFound:
    """Return the error for a task or a step that a run does not have, with similar names."""
    error = TaskNotFound(run_id, step)
    known = dict.fromkeys(each.step for _, each in await _steps(engine, run_id, None, None))
    if hint := did_you_mean(step, known):
        error.add_note(hint)
    return error


async def _inherited(engine: Engine, run_id: str, step: str | None, at: Point) -> list[StepLog]:
    """Return the steps that a forked run inherits, or only the one named. Only the root branch can have any."""
    steps = (await (await engine.run(run_id)).steps(at=at)).values()
    return [each for each in steps if each.inherited_from is not None and step in (None, each.step)]


def _inherited_text(steps: list[StepLog], run_id: str) -> str:
    """Return where the attempts at inherited steps are: in the runs that made them."""
    origins = {each.inherited_from for each in steps if each.inherited_from is not None}
    named = ", ".join(sorted(origin_text(origin, run_id) for origin in origins))
    return visible(f"{counted(sum(len(each.attempts) for each in steps), 'attempt')} at inherited steps: {named}")


async def _steps(engine: Engine, run_id: str, branch: str | None, at: Point) -> list[tuple[str, StepLog]]:
    handle = await engine.run(run_id)
    if branch is not None:
        found = await (await handle.branch(branch)).steps(at=at)
        return [(branch, step) for step in found.values()]
    compiled = await engine.views.compile(run_id, at=at, nested=True, inherited=False, parameters=False)
    return [(log.branch, step) for log in branches_of(compiled) for step in log.steps.values()]


async def _attempts(engine: Engine, run_id: str, branch: str | None, at: Point) -> list[tuple[str, AttemptLog]]:
    handle = await engine.run(run_id)
    if branch is None:
        return await handle.all_attempts(at=at)
    return [(branch, attempt) for attempt in await (await handle.branch(branch)).attempts(at=at)]


def _step_row(branch: str, step: StepLog, run_id: str, now: datetime | None) -> tuple[Text, ...]:
    last = step.attempts[-1] if step.attempts else None
    return (
        branch_cell(branch),
        cell(step.name if step.name == step.step else f"{step.name} ({step.step})", "bold"),
        status(step.status),
        cell(len(step.attempts)),
        cell("" if last is None else _took(last, now)),
        cell(_reason(step, last, run_id)),
    )


def _reason(step: StepLog, last: AttemptLog | None, run_id: str) -> str:
    reason = step.status_reason or (last.status_reason if last is not None else None) or ""
    if step.inherited_from is None:
        return reason
    return f"inherited from {origin_text(step.inherited_from, run_id)}" + (f": {reason}" if reason else "")


def _attempt_row(branch: str, attempt: AttemptLog, now: datetime | None) -> tuple[Text, ...]:
    return (
        cell(time_text(attempt.created_at)),
        branch_cell(branch),
        cell(attempt.step, "bold"),
        cell(attempt.attempt_index),
        status(attempt.status),
        cell(_took(attempt, now)),
        cell(_outcome(attempt)),
    )


def _outcome(attempt: AttemptLog) -> str:
    said = attempt.status_reason or attempt.message or parameters_text({**attempt.outputs, **attempt.metrics})
    by = attempt.operator_key or attempt.operator_type
    return said or (f"on {by}" if by else "") + (f" as {attempt.external_id}" if attempt.external_id else "")


def _took(attempt: AttemptLog, now: datetime | None) -> str:
    """Return how long an attempt took, or has taken so far. `now` is None for a view of the past."""
    began, ended = attempt.submitted_at or attempt.created_at, attempt.ended_at
    if ended is None:
        return "" if now is None or attempt.status == CREATED else so_far_text(began, now)
    # An attempt recorded after its end, without times of its own, has an unknown duration.
    return "" if ended == began else elapsed_text(began, ended)
