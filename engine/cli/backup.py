"""`anabranch backup`: a verified copy of the whole database, made while others write to it."""

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
from engine.encoding.plain_json import plain


def backup(
    to: Annotated[Path, typer.Argument(metavar="TO", help="The file to create.", dir_okay=False, show_default=False)],
    *,
    db: Database = DEFAULT_DATABASE,
    json: AsJson = False,
) -> None:
    """Copy a consistent snapshot of the whole database into one file, while others go on writing.

    The copy is verified before it gets its name: SQLite checks its pages, every hash is recomputed, and the views are
    compared with the events. Whatever happens, TO is either a complete copy or does not exist; an existing file is
    never overwritten. The copy is synced to disk and readable by its owner only. It may be on a network file system.

    Use a copy like any database: --db TO. To restore it, stop everything that uses the database, move the database and
    the files beside it away, and put the copy in its place. `verify --since` accepts checkpoints of either. Do not back
    up with `cp`: while others write, its copies may be corrupt or lack the last writes.

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
    held = f"{counted(made.events, 'event')} of {counted(made.runs, 'run')}, up to position {made.position:,}"
    rows = [
        ("holds", Text(f"{held}; {made.bytes:,} bytes")),
        ("verified", Text("every page, hash, link and reduction, and the views row by row", "green")),
        ("root", Text(made.root, "dim")),
    ]
    terminal.show(facts(rows))
