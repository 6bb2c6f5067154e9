"""`anabranch events`: the history of a run, optionally followed as it grows."""

import contextlib
from typing import Annotated

import typer

from engine.cli.database import DEFAULT_DATABASE, existing
from engine.cli.event_lines import event_printer
from engine.cli.event_match import EventMatch
from engine.cli.failures import run
from engine.cli.options import (
    AsJson,
    BranchName,
    Database,
    EventStatus,
    EventStep,
    EventTypes,
    RunId,
    as_time_or_ago,
)
from engine.cli.terminal import errors
from engine.cli.text import none_found


def events(
    run_id: RunId,
    *,
    db: Database = DEFAULT_DATABASE,
    branch: BranchName = None,
    descendants: Annotated[bool, typer.Option("--descendants", help="Include the branches below --branch.")] = False,
    types: EventTypes = None,
    step: EventStep = None,
    status: EventStatus = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only events recorded since a time, or an age (1d).", show_default=False),
    ] = None,
    after: Annotated[int, typer.Option(min=0, metavar="POSITION", help="Only events after this position.")] = 0,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for new events until interrupted.")] = False,
    json: AsJson = False,
) -> None:
    """Print a run's events in the order they were recorded.

    Each line has the event's position in the log, its time, its stream (branch@version), its type and a summary. With
    --json, each line is a JSON object with the whole event.

    \b
      anabranch events r1 --branch fit.a --follow
      anabranch events r1 --type ParametersReduced --json
      anabranch events r1 --step train --since 2h
    """
    match = EventMatch(step, status, None if since is None else as_time_or_ago(since))

    async def command() -> None:
        async with existing(db) as engine:
            await (await engine.run(run_id)).branch(branch)
            read = engine.subscribe if follow else engine.events
            found = read(run_id=run_id, branch=branch, descendants=descendants, types=types or None, after=after)
            show, is_empty = event_printer(as_json=json), True
            async with contextlib.aclosing(found):
                async for recorded in found:
                    if match.admits(recorded):
                        show(recorded)
                        is_empty = False
        if is_empty and not json:
            errors().out(none_found("no events", step=step, status=status, branch=branch), highlight=False)

    run(command(), as_json=json)
