"""`anabranch export evidence`: what a run did, tied to the log by hashes."""

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.database import DEFAULT_DATABASE, existing
from engine.cli.document import plain, print_json
from engine.cli.escapes import visible
from engine.cli.failures import FAILED, OK, run
from engine.cli.options import AsJson, Database, RunId
from engine.cli.terminal import output, table
from engine.cli.text import branch as branch_cell
from engine.cli.text import cell, counted
from engine.evidence import HeadFound, check_evidence, export_evidence


def evidence(
    run_id: RunId,
    *,
    db: Database = DEFAULT_DATABASE,
    to: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write bundle.json and report.md here.", file_okay=False)
    ] = None,
    check: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Hold the bundle in this folder against the log.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what an earlier export has written.")] = False,
    json: AsJson = False,
) -> None:
    """Write down what a run did, with every attempt and the hash of every stream's head; or check what was written.

    The bundle holds the tasks with their specifications and attempts, whether their artifacts exist now, the other
    steps branch by branch, and where the log stood. The check finds each head that the log does not hold any more; then
    the exit code is 1. It compares the hashes that are recorded, and computes none anew.

    \b
      anabranch export evidence r1 --to evidence/
      anabranch export evidence r1 --check evidence/
    """
    if (to is None) == (check is None):
        raise typer.BadParameter("either --to FOLDER or --check FOLDER is needed")

    async def command() -> int:
        async with existing(db) as engine:
            if check is not None:
                return _print_check(await check_evidence(engine, run_id, check), run_id, as_json=json)
            assert to is not None, "one of the two is given"
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


def _print_check(found: list[HeadFound], run_id: str, *, as_json: bool) -> int:
    gone = [head for head in found if not head.holds]
    if as_json:
        heads = [{**plain(head), "holds": head.holds} for head in found]
        print_json({"run_id": run_id, "holds": not gone, "heads": heads})
    elif gone:
        headers = "BRANCH", "VERSION", "BUNDLE'S HASH", "THE LOG"
        rows = [
            (branch_cell(head.branch), cell(head.stream_version), cell(f"{head.hash[:12]}…"), cell(_what(head), "red"))
            for head in gone
        ]
        output().show(table(headers, rows, flexible=("BRANCH", "THE LOG"), right=("VERSION",)))
    else:
        output().print(
            f"the log holds the history of {counted(len(found), 'stream')} as the bundle names it", style="green"
        )
    return FAILED if gone else OK


def _what(head: HeadFound) -> str:
    if head.found is None:
        return f"has {counted(head.events, 'event')} up to there, not this one"
    if head.found != head.hash:
        return f"has another hash, {head.found[:12]}…"
    return f"lacks {counted(head.stream_version - head.events, 'event')} before it"
