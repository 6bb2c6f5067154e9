"""`anabranch events`: the history of a run, optionally followed as it grows."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated

import typer

from engine import Engine, Subscription
from engine.cli.database import DEFAULT_DATABASE, existing
from engine.cli.document import event_document, print_json
from engine.cli.event_lines import EventLines
from engine.cli.failures import run
from engine.cli.options import AsJson, BranchName, Database, RunId
from engine.cli.terminal import output
from engine.events import RecordedEvent


def events(
    run_id: RunId,
    *,
    db: Database = DEFAULT_DATABASE,
    branch: BranchName = None,
    descendants: Annotated[bool, typer.Option("--descendants", help="Include the branches below --branch.")] = False,
    types: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="TYPE", help="Only this event type (ParametersSet); repeatable."),
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
    """

    async def command() -> None:
        async with existing(db) as engine:
            await (await engine.run(run_id)).branch(branch)
            found = _chosen(engine, run_id, branch, types, after, follow=follow, descendants=descendants)
            async with contextlib.aclosing(found):
                await _print_json(found) if json else await _print(found)

    run(command(), as_json=json)


def _chosen(
    engine: Engine,
    run_id: str,
    branch: str | None,
    types: list[str] | None,
    after: int,
    *,
    follow: bool,
    descendants: bool,
) -> AsyncGenerator[RecordedEvent, None] | Subscription:
    read = engine.subscribe if follow else engine.events
    return read(run_id=run_id, branch=branch, descendants=descendants, types=types or None, after=after)


async def _print_json(found: AsyncIterator[RecordedEvent]) -> None:
    async for recorded in found:
        print_json(event_document(recorded), indent=None)


async def _print(found: AsyncIterator[RecordedEvent]) -> None:
    lines = EventLines(output())
    async for recorded in found:
        lines.print(recorded)
