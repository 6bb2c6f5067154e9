"""`anabranch backup`: a copy of the whole database, made while others write to it, and proven."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from engine.backup import BackedUp
from engine.cli.database import DEFAULT_DATABASE, existing
from engine.cli.document import print_json
from engine.cli.escapes import visible
from engine.cli.failures import run
from engine.cli.options import AsJson, Database
from engine.cli.progress import reporting_each, share_bars
from engine.cli.terminal import facts, output
from engine.cli.text import counted, duration_text
from engine.plain_json import plain


def backup(
    to: Annotated[Path, typer.Argument(metavar="TO", help="The file to make.", dir_okay=False, show_default=False)],
    *,
    db: Database = DEFAULT_DATABASE,
    json: AsJson = False,
) -> None:
    """Copy the whole database into one file, as it stands at one moment, while others go on writing.

    The copy is proven before it gets its name: SQLite looks its pages through, every hash is computed anew, and the
    views are compared with the events. However this ends, TO is a whole copy or is not there; a file that is there is
    never overwritten. It is synced to the disk, and nobody but its owner can read it. A network file system will do.

    A copy is used like any database: --db TO. To restore it, stop everything that uses the database, move that and the
    files beside it away, and put the copy in its place. `verify --since` takes checkpoints of either. `cp` is no
    backup: of a file that is written to it makes broken copies, and copies that lack the last writes.

    \b
      anabranch backup /mnt/backups/monday.db --db runs.db
    """

    async def command() -> None:
        async with existing(db) as engine:
            began = time.perf_counter()
            with share_bars() as bars:
                made = await engine.backup(to, reporting_each(bars))
            seconds = time.perf_counter() - began
            name = engine.path.name
        if json:
            print_json({**plain(made), "path": str(made.path), "seconds": seconds})
        else:
            _print(made, name, seconds)

    run(command(), as_json=json)


def _print(made: BackedUp, name: str, seconds: float) -> None:
    terminal = output()
    terminal.print(
        f"backed up {visible(name)} to {visible(str(made.path))} in {duration_text(seconds)}", soft_wrap=True
    )
    held = f"{counted(made.events, 'event')} of {counted(made.runs, 'run')}, the last at position {made.position:,}"
    rows = [
        ("holds", Text(f"{held}; {made.bytes:,} bytes")),
        ("proven", Text("every page, hash, link and reduction, and the views row by row", "green")),
        ("root", Text(made.root, "dim")),
    ]
    terminal.show(facts(rows))
