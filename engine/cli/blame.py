"""`anabranch blame`: where a value came from, as a tree."""

from typing import Annotated, Final

import typer

from engine import Branch, Engine
from engine.cli.database import DEFAULT_DATABASE, existing
from engine.cli.document import print_json
from engine.cli.failures import run
from engine.cli.hints import did_you_mean, in_branches
from engine.cli.lineage_tree import LineageTree
from engine.cli.options import AsJson, AtPoint, BranchName, Database, RunId, as_point
from engine.cli.terminal import output
from engine.encoding.plain_json import plain
from engine.errors import ParameterNotFound
from engine.lineage import LIMIT_DEFAULT
from engine.model import branches_of
from engine.point import Point

_LIMIT_SHOWN: Final = 100
"""How many nodes of a wide reduction or a long history are shown on a terminal; `--json` shows ten times as many."""


def blame(
    run_id: RunId,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The parameter's name.", show_default=False)],
    *,
    db: Database = DEFAULT_DATABASE,
    branch: BranchName = None,
    at: AtPoint = None,
    history: Annotated[bool, typer.Option("--history", help="Also trace all values that it overwrote.")] = False,
    json: AsJson = False,
) -> None:
    """Show where a parameter's value came from.

    Shows the event that wrote it (branch@version), its time and hash, and the attempt during which it was recorded, if
    exactly one was open on that branch. Below a reduction are the child events it was made from and those it passed
    over, then the conflicts between child and parent, and the value it overwrote. Long values are cut; --json shows
    them in full.

    \b
      anabranch blame r1 loss --branch fit.a --at 3
    """
    point = as_point(at)

    async def command() -> None:
        async with existing(db) as engine:
            seen_by = await (await engine.run(run_id)).branch(branch)
            limit = LIMIT_DEFAULT if json else _LIMIT_SHOWN
            try:
                found = await seen_by.lineage(name, at=point, history=history, limit=limit)
            except ParameterNotFound as error:
                if hint := await _hint(engine, seen_by, name, point):
                    error.add_note(hint)
                raise
        if json:
            print_json({"run_id": run_id, "branch": seen_by.name, "name": name, "lineage": plain(found)})
        else:
            output().show(LineageTree(run_id, name).draw(found, seen_by.name))

    run(command(), as_json=json)


async def _hint(engine: Engine, seen_by: Branch, name: str, point: Point) -> str:
    """Return a hint to what the caller may have meant: a later point, another branch, or a similar name."""
    if point is not None and await seen_by.parameters(names=[name]):
        return "it was written after that point"
    log = await (await engine.run(seen_by.run_id)).compile(inherited=False)
    having = [each.branch for each in branches_of(log) if name in each.parameters]
    if having:
        return f"it was written in {in_branches(having)}"
    return did_you_mean(name, await seen_by.parameters(at=point))
