"""`anabranch events`: the history of a run, as it was recorded and as it is being recorded."""

import contextlib
from collections.abc import AsyncGenerator
from datetime import UTC, date
from typing import Annotated, Final

import typer
from rich.text import Text

from engine import Engine
from engine.cli.database import DEFAULT_DATABASE, existing
from engine.cli.document import event_document, print_json
from engine.cli.event_text import event_text
from engine.cli.failures import run
from engine.cli.options import AsJson, BranchName, Database, RunId
from engine.cli.terminal import Terminal, is_cut, output
from engine.cli.text import branch_text, clock_text
from engine.events import RecordedEvent

_POSITION_CELLS: Final = 6
_STREAM_CELLS_MIN, _STREAM_CELLS_MAX = 16, 28


def events(
    run_id: RunId,
    *,
    db: Database = DEFAULT_DATABASE,
    branch: BranchName = None,
    descendants: Annotated[bool, typer.Option("--descendants", help="Also those of the branches below.")] = False,
    types: Annotated[
        list[str] | None, typer.Option("--type", metavar="TYPE", help="Only of this type, such as ParametersSet.")
    ] = None,
    after: Annotated[int, typer.Option(min=0, metavar="POSITION", help="Only those after this position.")] = 0,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as events come, until interrupted.")] = False,
    json: AsJson = False,
) -> None:
    """Print a run's events in the order of recording.

    Each line has the event's position in the file, its time, its stream (branch@version), its type, and what it says.
    With --json each line is one JSON object with all of it.

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
) -> AsyncGenerator[RecordedEvent, None]:
    read = engine.subscribe if follow else engine.events
    return read(run_id=run_id, branch=branch, descendants=descendants, types=types or None, after=after)


async def _print_json(found: AsyncGenerator[RecordedEvent, None]) -> None:
    async for recorded in found:
        print_json(event_document(recorded), indent=None)


async def _print(found: AsyncGenerator[RecordedEvent, None]) -> None:
    lines = _Lines(output())
    async for recorded in found:
        lines.print(recorded)


class _Lines:
    """Prints events under each other; a line with the date comes before the first of each day."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._day: date | None = None
        self._stream_cells = _STREAM_CELLS_MIN

    def print(self, recorded: RecordedEvent) -> None:
        day = recorded.recorded_at.astimezone(UTC).date()
        if day != self._day:
            self._day = day
            self._terminal.print(Text(f"{day} UTC", style="dim"))
        line = self._line(recorded)
        if is_cut(self._terminal):
            line.truncate(self._terminal.width, overflow="ellipsis")
        self._terminal.print(line, no_wrap=True, overflow="ignore", crop=False)

    def _line(self, recorded: RecordedEvent) -> Text:
        line = Text(f"{recorded.position:>{_POSITION_CELLS}}  ", style="")
        line.append(f"{clock_text(recorded.recorded_at)}  ", "dim")
        line.append_text(self._stream(recorded)).append("  ")
        line.append(type(recorded.event).__name__, "bold")
        return line.append(f" {event_text(recorded.event)}")

    def _stream(self, recorded: RecordedEvent) -> Text:
        # The column grows with the branches that are met: what comes is not known when the first line is printed.
        stream = Text(f"{branch_text(recorded.branch)}@{recorded.stream_version}", style="cyan")
        self._stream_cells = max(self._stream_cells, min(stream.cell_len, _STREAM_CELLS_MAX))
        stream.truncate(self._stream_cells, overflow="ellipsis", pad=True)
        return stream
