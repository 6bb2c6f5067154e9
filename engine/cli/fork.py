"""`anabranch fork`: a run that continues from a point of another."""

from collections.abc import Coroutine
from typing import Annotated, Any

import typer
from rich.text import Text

from engine import Engine, Run
from engine.cli.database import DEFAULT_DATABASE, existing
from engine.cli.default_names import dated, first_free
from engine.cli.document import print_json
from engine.cli.escapes import visible
from engine.cli.failures import run
from engine.cli.hints import did_you_mean, in_branches
from engine.cli.options import AsJson, AtPoint, BranchName, Database, RunId, as_point
from engine.cli.parameters import origin_text
from engine.cli.terminal import facts, output
from engine.cli.text import cell, counted
from engine.encoding.plain_json import plain
from engine.errors import StepNotFound
from engine.events import RunForked
from engine.model import Origin, branches_of


def fork(
    run_id: RunId,
    *,
    db: Database = DEFAULT_DATABASE,
    at: AtPoint = None,
    from_step: Annotated[
        str | None,
        typer.Option("--from-step", metavar="STEP", help="Fork just before this step began.", show_default=False),
    ] = None,
    branch: BranchName = None,
    new_id: Annotated[
        str | None,
        typer.Option("--as", metavar="ID", help="The new run's id.", show_default="RUN-fork-date-time"),
    ] = None,
    tag: Annotated[str, typer.Option(metavar="TAG", help="The new run's tag.", show_default=False)] = "",
    json: AsJson = False,
) -> None:
    """Fork a new run from a point of another run.

    Nothing is copied: the new run sees the parameters as of that point, and inherits the steps that had succeeded. The
    source does not change. Without --at or --from-step, the new run continues from the source's present state.

    \b
      anabranch fork r1 --from-step train --as r2
    """
    point = as_point(at)

    async def command() -> None:
        async with existing(db) as engine:

            def opened_as(name: str) -> Coroutine[Any, Any, Run]:
                return engine.fork_run(run_id, run_id=name, branch=branch, at=point, from_step=from_step, tag=tag)

            try:
                forked = await (first_free(dated(run_id, "fork"), opened_as) if new_id is None else opened_as(new_id))
            except StepNotFound as error:
                error.add_note(await _step_hint(engine, error))
                raise
            opened = [recorded.event async for recorded in engine.events(run_id=forked.run_id, types=[RunForked])]
            document = await _document(forked, opened[0])
        print_json(document) if json else _print(document)

    run(command(), as_json=json)


async def _step_hint(engine: Engine, missing: StepNotFound) -> str:
    """Return a hint to where a missing step is, or to similar names."""
    log = await (await engine.run(missing.run_id)).compile(inherited=False)
    containing = {each.branch: each.steps[missing.step] for each in branches_of(log) if missing.step in each.steps}
    inherited = next((step.inherited_from for step in containing.values() if step.inherited_from is not None), None)
    if inherited is not None:
        return f"it is inherited from {origin_text(inherited, missing.run_id)}: fork that run instead"
    if missing.branch in containing:
        return "it began after that point"
    if containing:
        return f"it is in {in_branches(list(containing))}"
    known = [step for each in branches_of(log) if each.branch == missing.branch for step in each.steps]
    return did_you_mean(missing.step, known) or "anabranch steps lists the steps"


async def _document(forked: Run, event: Any) -> dict[str, Any]:
    source = Origin(event.source_run_id, event.source_branch, event.source_version)
    return {
        "run_id": forked.run_id,
        "forked_from": plain(source),
        "parameters": sorted(await forked.parameters()),
        "inherited_steps": list(await forked.steps()),
    }


def _print(document: dict[str, Any]) -> None:
    source = Origin(**document["forked_from"])
    steps = document["inherited_steps"]
    named = f": {', '.join(map(visible, steps))}" if steps else ""
    rows: list[tuple[str, Text]] = [
        ("run", cell(document["run_id"], "bold")),
        ("forked from", cell(origin_text(source, document["run_id"]))),
        ("sees", cell(counted(len(document["parameters"]), "parameter"))),
        ("inherits", cell(f"{counted(len(steps), 'step')} that had succeeded{named}")),
    ]
    output().show(facts(rows))
