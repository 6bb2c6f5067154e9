"""`anabranch tail`: events of one run or of all runs as they are recorded, by whichever process."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Annotated, Final

import typer
from msgspec import Struct

from engine import Engine
from engine.cli.database import DEFAULT_DATABASE, existing
from engine.cli.document import json_text
from engine.cli.escapes import visible
from engine.cli.event_lines import event_printer
from engine.cli.event_match import EventMatch
from engine.cli.failures import run
from engine.cli.options import AsJson, BranchName, Database, EventStatus, EventStep, EventTypes
from engine.cli.terminal import errors
from engine.errors import BranchNotFound, NotFound, ReadFailed, RunNotFound, StoreUnavailable
from engine.events import RecordedEvent

_LINES: Final = 10
_WINDOW_EVENTS: Final = 1000
_PAUSE_SECONDS: Final = 0.5


class _Wanted(Struct, frozen=True):
    """The events to show; None stands for all."""

    run_id: str | None
    branch: str | None
    types: list[str] | None
    match: EventMatch

    def passes(self, recorded: RecordedEvent) -> bool:
        """Return whether an event is shown; the engine has already filtered by type."""
        is_there = self.run_id in (None, recorded.run_id) and self.branch in (None, recorded.branch)
        return is_there and self.match.admits(recorded)


def tail(
    run_id: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Only this run; by default all runs.", show_default=False)
    ] = None,
    *,
    db: Database = DEFAULT_DATABASE,
    branch: BranchName = None,
    types: EventTypes = None,
    step: EventStep = None,
    status: EventStatus = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Start with this many past events.")] = _LINES,
    after: Annotated[
        int | None, typer.Option(min=0, metavar="POSITION", help="Start after this position.", show_default=False)
    ] = None,
    json: AsJson = False,
) -> None:
    """Print events as they are recorded by any process, until interrupted.

    Waits for a run or a branch that does not exist yet. When interrupted, the last line on standard error says where to
    resume, so that nothing is missed between two calls.

    \b
      anabranch tail
      anabranch tail r1 --type AttemptUpdated --status FAILED
      anabranch tail r1 --after 42 --json
    """
    if branch is not None and run_id is None:
        raise typer.BadParameter("--branch needs RUN")
    wanted = _Wanted(run_id, branch, types or None, EventMatch(step, status))

    async def command() -> None:
        async with existing(db) as engine:
            start = await _start(engine, wanted, lines) if after is None else after
            if not json and (missing := await _missing(engine, wanted)) is not None:
                errors().out(f"{visible(str(missing))}; waiting for it", highlight=False)
            shown = _Shown(start, event_printer(as_json=json, with_runs=run_id is None))
            try:
                await _follow(engine, wanted, shown)
            except asyncio.CancelledError:
                shown.print_resume_point(as_json=json)
                raise

    run(command(), as_json=json)


class _Shown:
    """Prints events, and keeps the position to resume after."""

    def __init__(self, after: int, print_event: Callable[[RecordedEvent], None]) -> None:
        self.after = after
        self._print = print_event

    def show(self, recorded: RecordedEvent) -> None:
        self._print(recorded)
        self.after = recorded.position

    def print_resume_point(self, *, as_json: bool) -> None:
        text = json_text({"after": self.after}, indent=None) if as_json else f"resume with --after {self.after}"
        errors().out(text, highlight=False)


async def _follow(engine: Engine, wanted: _Wanted, shown: _Shown) -> None:
    """Show events as they come; when the file cannot be read, retry from the last event shown."""
    while True:
        try:
            async with contextlib.aclosing(_live(engine, wanted, shown.after)) as found:
                async for recorded in found:
                    if wanted.passes(recorded):
                        shown.show(recorded)
        except (ReadFailed, StoreUnavailable) as error:
            errors().print(visible(f"{type(error).__name__}: {error}; retrying"), soft_wrap=True)
        await asyncio.sleep(_PAUSE_SECONDS)


async def _live(engine: Engine, wanted: _Wanted, after: int) -> AsyncGenerator[RecordedEvent, None]:
    # A run that does not exist yet cannot be subscribed to: wait for it among the events of all runs.
    run_id = None if isinstance(await _missing(engine, wanted), RunNotFound) else wanted.run_id
    async with contextlib.aclosing(engine.subscribe(run_id=run_id, types=wanted.types, after=after)) as found:
        async for recorded in found:
            yield recorded


async def _missing(engine: Engine, wanted: _Wanted) -> NotFound | None:
    """Return the error for the named run or branch if it does not exist yet."""
    try:
        if wanted.run_id is not None:
            await (await engine.run(wanted.run_id)).branch(wanted.branch)
    except (RunNotFound, BranchNotFound) as error:
        return error
    return None


async def _start(engine: Engine, wanted: _Wanted, lines: int) -> int:
    """Return the position after which the last `lines` wanted events are, searching back in growing windows."""
    last = await engine.last_position()
    if not lines or await _missing(engine, wanted) is not None:
        return last
    window, found = _WINDOW_EVENTS, list[int]()
    while len(found) < lines and window < 2 * last + _WINDOW_EVENTS:
        begin = max(last - window, 0)
        events = engine.events(run_id=wanted.run_id, types=wanted.types, after=begin, until=last)
        found = [recorded.position async for recorded in events if wanted.passes(recorded)]
        window *= 2
    return found[-lines:][0] - 1 if found else last
