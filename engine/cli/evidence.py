"""`anabranch export evidence`: a record of what a run did, tied to the log by hashes."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from engine.cli.database import DEFAULT_DATABASE, existing
from engine.cli.document import print_json
from engine.cli.escapes import visible
from engine.cli.failures import FAILED, OK, run
from engine.cli.listing import Listing
from engine.cli.options import AsJson, Database
from engine.cli.progress import event_bars, reporting
from engine.cli.terminal import output
from engine.cli.text import branch_cell, cell, counted
from engine.encoding.plain_json import plain
from engine.findings import Problem
from engine.reports.evidence import EvidenceCheck, HeadFound, check_evidence, export_evidence


def evidence(
    run_id: Annotated[
        str | None, typer.Argument(metavar="RUN", help="The run's id. [required with --to]", show_default=False)
    ] = None,
    *,
    db: Database = DEFAULT_DATABASE,
    to: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write bundle.json and report.md here.", file_okay=False)
    ] = None,
    check: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Check the bundle in this folder against the log.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the files of an earlier export.")] = False,
    json: AsJson = False,
) -> None:
    """Write evidence of what a run did, with every attempt and every stream's head hash; or check it.

    The bundle holds the tasks with their specifications and attempts, whether their artifacts exist now, the other
    steps branch by branch, and the log's position. --check recomputes the run's hashes, looks up every head that the
    bundle names, and compares bundle.json with the log as of those heads; the exit code is 1 if they differ. The report
    is for people, and is not checked.

    \b
      anabranch export evidence r1 --to evidence/
      anabranch export evidence --check evidence/
    """
    if (to is None) == (check is None):
        raise typer.BadParameter("give either --to FOLDER or --check FOLDER")
    if to is not None and run_id is None:
        raise typer.BadParameter("--to FOLDER needs a run: anabranch export evidence RUN --to FOLDER")

    async def command() -> int:
        async with existing(db) as engine:
            if check is not None:
                with event_bars() as bars:
                    found = await check_evidence(engine, run_id, check, reporting(bars, "verifying"))
                return _print_check(found, as_json=json)
            assert to is not None, "one of the two is given"
            assert run_id is not None, "with the run"
            bundle = await export_evidence(engine, run_id, to, overwrite=force)
        written = {
            "run_id": run_id,
            "folder": str(to),
            "tasks": len(bundle["tasks"]),
            "streams": len(bundle["log"]["heads"]),
            "position": bundle["log"]["position"],
        }
        if json:
            print_json(written)
        else:
            holds = f"{counted(written['tasks'], 'task')}, {counted(written['streams'], 'stream')}"
            output().print(f"wrote bundle.json and report.md into {visible(str(to))}: {holds}", soft_wrap=True)
        return OK

    run(command(), as_json=json)


def _print_check(found: EvidenceCheck, *, as_json: bool) -> int:
    if as_json:
        heads = [{**plain(head), "holds": head.holds} for head in found.heads]
        problems = plain(found.problems)
        check = {"run_id": found.run_id, "holds": found.holds, "problems": problems, "heads": heads}
        print_json({**check, "differing": found.differing, "erased": found.erased})
    elif found.holds:
        text = f"the log holds the history of {counted(len(found.heads), 'stream')} that the bundle describes"
        output().print(text, style="green")
        if found.erased:
            places = visible(", ".join(found.erased))
            text = f"not compared, because it was erased from the log: {places}"
            output().print(text, style="yellow", soft_wrap=True)
    else:
        rows = [*map(_problem_row, found.problems), *(_head_row(head) for head in found.heads if not head.holds)]
        rows += [
            (cell(""), cell(""), cell(f"the bundle's {place} differs from the log", "red")) for place in found.differing
        ]
        output().show(Listing(("BRANCH", "VERSION", "WHAT"), rows, flexible=("BRANCH", "WHAT"), right=("VERSION",)))
    return OK if found.holds else FAILED


def _problem_row(problem: Problem) -> tuple[Text, ...]:
    branch = cell("") if problem.branch is None else branch_cell(problem.branch)
    return branch, cell(problem.stream_version), cell(f"{problem.kind}: {problem.message}", "red")


def _head_row(head: HeadFound) -> tuple[Text, ...]:
    has = "no such event" if head.found is None else f"{head.found[:12]}…"
    text = f"the bundle has the hash {head.hash[:12]}…, the log has {has}"
    return branch_cell(head.branch), cell(head.stream_version), cell(text, "red")
