"""`anabranch explain`: what failed or is blocked in a run, and why."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated, Final, Literal

import typer
from rich.text import Text
from rich.tree import Tree

from engine.cli.database import DEFAULT_DATABASE, existing
from engine.cli.document import print_json
from engine.cli.escapes import visible
from engine.cli.failures import run
from engine.cli.options import AsJson, AtPoint, Database, RunId, as_point
from engine.cli.terminal import output
from engine.cli.text import branch_text, counted, elapsed_text, shortened_inside, status
from engine.encoding.plain_json import plain
from engine.names import ROOT
from engine.reports.explanation import Explanation, Finding, Job, Kind, explain_run
from engine.reports.standing import Place

_REASON_CHARACTERS_MAX: Final = 300
_NAME_CHARACTERS_MAX: Final = 48


def explain(
    run_id: RunId,
    *,
    db: Database = DEFAULT_DATABASE,
    at: AtPoint = None,
    limit: Annotated[
        int, typer.Option(min=1, metavar="N", help="Show at most N causes of each kind, and N tasks waiting for each.")
    ] = 10,
    json: AsJson = False,
) -> None:
    """Say what failed or is blocked in a run, and why.

    After a one-line summary come the causes, each with the tasks that wait for it: failures with the reason of the last
    attempt, missing dependencies, tasks that depend on each other, attempts created at least an hour ago and never
    submitted, what is running and for how long, and what is ready to run. With --at, explains the run as of that point;
    a version is one of the root branch.

    \b
      anabranch explain r1
      anabranch explain r1 --at 2h
    """
    point = as_point(at)

    async def command() -> None:
        async with existing(db) as engine:
            explanation = await explain_run(engine, run_id, at=point)
        answer = headline(explanation)
        if json:
            print_json({"answer": answer, **plain(explanation)})
        else:
            output().show(_tree(explanation, visible(answer), limit))

    run(command(), as_json=json)


def headline(explanation: Explanation) -> str:
    """Return the answer in one line."""
    parts = [part for part in _parts(explanation.findings) if part]
    return f"{explanation.run_id} is {explanation.status}: {'; '.join(parts) or _nothing_found(explanation)}"


def _nothing_found(explanation: Explanation) -> str:
    tasks = explanation.tasks
    if tasks:
        return f"{'the task has' if tasks == 1 else f'all {tasks:,} tasks have'} finished"
    return f"its job is {explanation.job}" if explanation.job else _NOTHING


_NOTHING: Final = "no step or branch failed, and none is waiting"


def _parts(findings: Sequence[Finding]) -> Iterator[str]:
    failed = [each for each in findings if each.kind == "failed"]
    blocking = [each for each in failed if not each.allowed]
    yield f"{_counted(blocking)} failed{_blocks('failed', findings, len(blocking))}" if blocking else ""
    allowed = len(failed) - len(blocking)
    yield f"{counted(allowed, 'task')} failed, which is allowed" if allowed else ""
    for kind, (one, many) in _VERBS.items():
        of_kind = [each for each in findings if each.kind == kind]
        verb = one if len(of_kind) == 1 else many
        yield f"{_counted(of_kind)} {verb}{_blocks(kind, findings, len(of_kind))}" if of_kind else ""


def _counted(findings: Sequence[Finding]) -> str:
    """Return `1 task and 2 steps`."""
    counts = Counter(each.what for each in findings)
    return " and ".join(counted(counts[what], what, plural) for what, plural in _WHATS.items() if counts[what])


_WHATS: Final[dict[Literal["task", "step", "branch"], str]] = {"task": "tasks", "step": "steps", "branch": "branches"}
_VERBS: Final[dict[Kind, tuple[str, str]]] = {
    "missing": ("depends on a missing task", "depend on missing tasks"),
    "cycle": ("depends on itself", "depend on each other"),
    "cancelled": ("is cancelled", "are cancelled"),
    "ended": ("ended with an unrecognised status", "ended with unrecognised statuses"),
    "orphaned": ("is orphaned", "are orphaned"),
    "running": ("is running", "are running"),
    "waiting": ("waits", "wait"),
    "ready": ("is ready to run", "are ready to run"),
}


def _blocks(kind: Kind, findings: Sequence[Finding], causes: int) -> str:
    blocked = sum(each.kind == "blocked" and each.root_kind == kind for each in findings)
    return f" and {'blocks' if causes == 1 else 'block'} {blocked:,}" if blocked else ""


def _tree(explanation: Explanation, answer: str, limit: int) -> Tree:
    root = Tree(Text(answer, "bold"), guide_style="dim")
    if explanation.status_reason:
        root.add(Text(f"the run: {_shown_reason(explanation.status_reason)}", "dim"))
    waiting_for: dict[Place | None, list[Finding]] = {}
    for finding in explanation.findings:
        waiting_for.setdefault(finding.root, []).append(finding)
    by_kind: dict[Kind, list[Finding]] = {}
    for finding in waiting_for.pop(None, []):
        by_kind.setdefault(finding.kind, []).append(finding)
    for kind, causes in by_kind.items():
        for finding in causes[:limit]:
            _add_waiting(root.add(_line(finding, explanation.at)), waiting_for.get(finding.place, []), limit)
        if len(causes) > limit:
            root.add(Text(f"… and {len(causes) - limit:,} more {_MORE[kind]} (--limit)", "dim"))
    return root


def _add_waiting(node: Tree, waiting: Sequence[Finding], limit: int) -> None:
    for each in waiting[:limit]:
        node.add(_waiting_line(each))
    if len(waiting) > limit:
        node.add(Text(f"… and {len(waiting) - limit:,} more (--limit)", "dim"))


_MORE: Final[dict[Kind, str]] = {
    "failed": "that failed",
    "missing": "that depend on missing tasks",
    "cycle": "that depend on each other",
    "cancelled": "that are cancelled",
    "ended": "that ended with unrecognised statuses",
    "orphaned": "that are orphaned",
    "running": "that are running",
    "ready": "that are ready to run",
}


def _line(finding: Finding, now: datetime) -> Text:
    line = _label(finding)
    match finding.kind:
        case "missing":
            names = ", ".join(map(_shown_name, finding.missing))
            line.append(f"depends on {names}, which {'does' if len(finding.missing) == 1 else 'do'} not exist")
        case "cycle":
            line.append(_cycle_text(finding))
        case "ready":
            line.append("is ready to run")
        case "orphaned":
            line.append(f"was created {_age_text(finding.job, now)}{_operator_text(finding.job)} and never submitted")
        case "running":
            line.append(f"{_age_text(finding.job, now, 'for ', '')}{_operator_text(finding.job)}".strip())
        case _:
            line.append(_failure(finding))
    return line


def _failure(finding: Finding) -> str:
    tries = f"attempt {finding.job.attempt_index}" if finding.job and finding.job.attempt_index else ""
    where = _operator_text(finding.job)
    parts = [f"{tries}{where}".strip(), _shown_reason(finding.reason or "no reason was recorded")]
    allowed = "; allowed to fail" if finding.allowed else ""
    return ": ".join(part for part in parts if part) + allowed


def _waiting_line(finding: Finding) -> Text:
    line = _label(finding)
    assert finding.through is not None, "a finding with a root has a way there"
    assert finding.root is not None, "only findings with a root wait for one"
    line.append(f"waits for {_shown_place(finding.through)}")
    if finding.between:
        way = "which waits" if finding.between == 1 else f"and through {finding.between:,} tasks"
        line.append(f", {way} for {_shown_place(finding.root)}")
    return line


def _label(finding: Finding) -> Text:
    name = f"branch {branch_text(finding.branch)}" if finding.what == "branch" else _shown_place(finding.place)
    return Text().append(name, "bold").append("  ").append_text(status(finding.status)).append("  ")


def _shown_place(place: Place) -> str:
    name = _shown_name(place.step)
    return name if place.branch == ROOT else f"{_shown_name(place.branch)}: {name}"


def _shown_name(name: str) -> str:
    return shortened_inside(visible(name), _NAME_CHARACTERS_MAX)


def _shown_reason(reason: str) -> str:
    return shortened_inside(visible(reason), _REASON_CHARACTERS_MAX)


def _cycle_text(finding: Finding) -> str:
    if finding.through is None or finding.through == finding.place:
        return "depends on itself"
    return f"depends on {_shown_place(finding.through)}, which in turn depends on {_shown_place(finding.place)}"


def _operator_text(job: Job | None) -> str:
    if job is None:
        return ""
    operator = f" on {_shown_name(job.operator)}" if job.operator else ""
    external_id = f" as {_shown_name(job.external_id)}" if job.external_id else ""
    return operator + external_id


def _age_text(job: Job | None, now: datetime, before: str = "", after: str = " ago") -> str:
    if job is None or job.since is None:
        return ""
    elapsed = elapsed_text(job.since, now)
    return f"{before}{elapsed}{after}" if elapsed else ""
