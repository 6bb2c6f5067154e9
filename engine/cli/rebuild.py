"""`anabranch rebuild`: rebuild every view from the events."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from engine.cli.database import DEFAULT_DATABASE, existing
from engine.cli.document import print_json
from engine.cli.failures import FAILED, OK, run
from engine.cli.options import AsJson, Database
from engine.cli.progress import event_bars, reporting
from engine.cli.terminal import output
from engine.cli.text import counted, duration_text
from engine.encoding.plain_json import plain
from engine.errors import AnabranchError, shown
from engine.findings import Problem
from engine.ports import ViewDifference


class HistoryNotWhole(AnabranchError):
    """Events are lost or were changed; the views were not rebuilt."""

    def __init__(self, path: Path, problems: Sequence[Problem]) -> None:
        self.path = path
        self.problems = tuple(problems)
        super().__init__(
            f"nothing was rebuilt: the history of {shown(path)} has {counted(len(problems), 'problem')} (see `anabranch"
            " verify`), and only the views may still hold what was lost; --force rebuilds them anyway"
        )


def rebuild(
    *,
    db: Database = DEFAULT_DATABASE,
    force: Annotated[bool, typer.Option("--force", help="Rebuild even if events are lost or changed.")] = False,
    json: AsJson = False,
) -> None:
    """Rebuild every view from the events, and check the result.

    Others may go on writing meanwhile. Every hash is verified first: if events are lost, only the views may still hold
    what they said, and nothing is rebuilt. Finally the log is folded once more and compared with the views row by row.
    The exit code is 1 if nothing was rebuilt, or if the comparison finds a difference.

    \b
      anabranch rebuild --db runs.db
    """

    async def command() -> int:
        async with existing(db) as engine:
            began = time.perf_counter()
            with event_bars() as bars:
                if not force and (problems := (await engine.verify(progress=reporting(bars, "verifying"))).in_history):
                    raise HistoryNotWhole(db, problems)
                events = await engine.rebuild(reporting(bars, "rebuilding"))
                seconds = time.perf_counter() - began
                differences = await engine.verify_views(reporting(bars, "checking"))
        if json:
            print_json({"events": events, "seconds": seconds, "differences": plain(differences)})
        else:
            _print(events, seconds, differences)
        return FAILED if differences else OK

    run(command(), as_json=json)


def _print(events: int, seconds: float, differences: list[ViewDifference]) -> None:
    terminal = output()
    terminal.print(f"rebuilt every view from {counted(events, 'event')} in {duration_text(seconds)}")
    if not differences:
        terminal.print("checked: the views match the events, row by row", style="green")
    for each in differences:
        terminal.print(f"{each.table}: {each.missing:,} rows missing, {each.unexpected:,} unexpected", style="red")
