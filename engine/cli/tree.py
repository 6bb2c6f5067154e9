"""`anabranch tree`, and the tree of branches that the demo also shows."""

from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer
from rich.text import Text
from rich.tree import Tree

from engine.cli.counts import attempts_of
from engine.cli.database import DEFAULT_DATABASE, existing
from engine.cli.document import print_json
from engine.cli.escapes import visible
from engine.cli.failures import run
from engine.cli.options import AsJson, AtPoint, Database, RunId, as_point
from engine.cli.terminal import output
from engine.cli.text import counted, shortened_inside, status
from engine.encoding.plain_json import plain
from engine.model import FAILED_STATUSES, BranchLog, RunLog, StepLog, branches_of

_NAME_CHARACTERS_MAX: Final = 48


def tree(
    run_id: RunId,
    *,
    db: Database = DEFAULT_DATABASE,
    at: AtPoint = None,
    with_steps: Annotated[bool, typer.Option("--steps", help="Also show the steps of each branch.")] = False,
    json: AsJson = False,
) -> None:
    """Show a run's branches as a tree.

    Each branch is shown with its status, its stream version, and its numbers of steps and attempts. With --at, shows
    the tree as of that point; a version is one of the root branch.

    \b
      anabranch tree r1 --steps
    """
    point = as_point(at)

    async def command() -> None:
        async with existing(db) as engine:
            log = await (await engine.run(run_id)).compile(at=point, inherited=False)
        if json:
            print_json({"run_id": run_id, **branch_document(log)})
        else:
            output().show(branch_tree(log, with_steps=with_steps))

    run(command(), as_json=json)


def branch_document(log: BranchLog) -> dict[str, Any]:
    """Return a branch with its steps, their attempts, and the branches below it in `branches`."""
    return {
        "branch": log.branch,
        "status": log.status,
        "status_reason": log.status_reason,
        "stream_version": log.stream_version,
        "steps": [plain(step) for step in log.steps.values()],
        "branches": [branch_document(child) for child in log.branches.values()],
    }


def branch_tree(log: RunLog, *, with_steps: bool = False, levels: int | None = None) -> Tree:
    """Return the tree of a run's branches.

    Args:
        levels: how many levels below the root to draw; deeper branches are only counted.
    """
    root = Tree(_label(log, log.run_id), guide_style="dim")
    waiting: list[tuple[Tree, BranchLog, int]] = [(root, log, 1)]
    while waiting:
        node, branch, level = waiting.pop()
        for line in _step_lines(branch) if with_steps else ():
            node.add(line)
        prefix = f"{branch.branch}." if branch.branch else ""
        for child in branch.branches.values():
            label = _label(child, child.branch.removeprefix(prefix))
            if level == levels and child.branches:
                label.append(f"  + {counted(len(list(branches_of(child))) - 1, 'branch', 'branches')} below", "dim")
            added = node.add(label)
            if level != levels:
                waiting.append((added, child, level + 1))
    return root


def _label(log: BranchLog, name: str) -> Text:
    attempts = attempts_of(log)
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(shortened_inside(visible(name), _NAME_CHARACTERS_MAX), "bold")
    line.append("  ").append_text(status(log.status))
    line.append(f"  v{log.stream_version}", "dim")
    if log.steps:
        inherited = sum(step.inherited_from is not None for step in log.steps.values())
        of_others = f" ({inherited:,} inherited)" if inherited else ""
        line.append(f"  {counted(len(log.steps), 'step')}{of_others}, {counted(len(attempts), 'attempt')}", "dim")
    failed = sum(attempt.status in FAILED_STATUSES for attempt in attempts)
    if failed:
        line.append(f" ({failed:,} failed)", "red")
    if log.status_reason:
        line.append(f"  {visible(log.status_reason)}", "dim")
    return line


def _step_lines(log: BranchLog) -> Iterator[Text]:
    for step in log.steps.values():
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(visible(step.name)).append("  ").append_text(status(step.status))
        yield line.append(_tries(step), "dim").append("  inherited" if step.inherited_from is not None else "", "dim")


def _tries(step: StepLog) -> str:
    if len(step.attempts) < 2:  # noqa: PLR2004 - one attempt goes without saying
        return ""
    return "  " + ", ".join(f"#{attempt.attempt_index} {visible(attempt.status)}" for attempt in step.attempts)
