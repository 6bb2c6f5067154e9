"""`anabranch import`: runs from a file, with their ids, times and hashes."""

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from engine import Engine, open_engine
from engine.cli.database import DEFAULT_DATABASE
from engine.cli.document import print_json
from engine.cli.failures import run
from engine.cli.new_database import MadeMeanwhile, is_free, new_database
from engine.cli.options import AsJson, Database
from engine.cli.progress import byte_bars, reporting
from engine.cli.terminal import output
from engine.cli.text import counted
from engine.codec import EVENT_BYTES_MAX
from engine.composition import EVENT_BYTES_RANGE
from engine.encoding.plain_json import plain
from engine.transfer import Imported, NotAnExport
from engine.transfer.lines import format_version


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The export, or - for standard input.")],
    *,
    db: Database = DEFAULT_DATABASE,
    event_bytes_max: Annotated[
        int,
        typer.Option(
            "--event-bytes-max",
            min=EVENT_BYTES_RANGE[0],
            max=EVENT_BYTES_RANGE[1],
            metavar="BYTES",
            help="The largest event to accept.",
        ),
    ] = EVENT_BYTES_MAX,
    json: AsJson = False,
) -> None:
    """Import an export, creating the database if it does not exist.

    Every hash, link and reduction is checked. Either all runs of the file are imported or none: if a line is missing,
    moved or edited, if a run exists with a different history, or if the import is interrupted, the database is left
    unchanged, and is not created. A run that already exists with an identical history is left as it is.

    Runs keep their ids, which are part of every hash and so cannot be changed. Their events get new positions, and
    idempotency keys are not imported. Other writers wait meanwhile.

    \b
      anabranch import runs.jsonl --db archive.db
      ssh host anabranch export --all | anabranch import -
    """

    async def command() -> None:
        with _opened(file) as opened:
            if format_version(opened.readline(_HEADER_BYTES_MAX)) is None:
                raise NotAnExport(1, "it is not the header of an export")
            imported = await _imported(opened, db, event_bytes_max)
        _print(imported, as_json=json)

    run(command(), as_json=json)


_HEADER_BYTES_MAX = 4096


async def _imported(file: BinaryIO, db: Path, event_bytes_max: int) -> Imported:
    if is_free(db):
        with contextlib.suppress(MadeMeanwhile):
            return await _imported_into(new_database(db, event_bytes_max=event_bytes_max), file)
    return await _imported_into(open_engine(db, event_bytes_max=event_bytes_max), file)


async def _imported_into(opening: AbstractAsyncContextManager[Engine], file: BinaryIO) -> Imported:
    file.seek(0)
    async with opening as engine:
        with byte_bars() as bars:
            return await engine.import_runs(file, progress=reporting(bars, "importing"))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file; a pipe's content is first copied to a file, so that no writer waits for the pipe."""
    is_input = str(path) == "-"
    with contextlib.nullcontext(sys.stdin.buffer) if is_input else path.open("rb") as given:
        if not is_input and path.is_file():
            yield given
            return
        with tempfile.TemporaryFile() as kept:
            shutil.copyfileobj(given, kept)
            kept.seek(0)
            yield kept


def _print(imported: Imported, *, as_json: bool) -> None:
    if as_json:
        print_json({"runs": plain(imported.runs), "events": imported.events})
        return
    new = sum(not each.existed for each in imported.runs)
    known = len(imported.runs) - new
    output().print(f"imported {counted(new, 'run')} with {counted(imported.events, 'event')}, every hash checked")
    if known:
        was = "was" if known == 1 else "were"
        output().print(f"{counted(known, 'run')} of the file {was} already there, identical in every byte")
