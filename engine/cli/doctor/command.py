"""`anabranch doctor`: check the health of a database, and say how to repair it."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from engine import Engine, open_engine
from engine.cli.database import DEFAULT_DATABASE, check_ours, check_there
from engine.cli.doctor.checks import (
    RESTORE,
    Check,
    check_attempts,
    check_file,
    check_history,
    check_pages,
    check_schema,
    check_views,
    checked,
    message_of,
)
from engine.cli.doctor.file_checks import (
    check_disk,
    check_file_system,
    check_log_size,
    check_permissions,
    check_sqlite,
    check_syncs,
)
from engine.cli.doctor.lock_checks import check_leftovers, check_run_lock, check_write_lock
from engine.cli.document import print_json
from engine.cli.escapes import visible
from engine.cli.failures import FAILED, OK, run
from engine.cli.options import AsJson, Database
from engine.cli.progress import event_bars, reporting
from engine.cli.terminal import output
from engine.cli.text import counted
from engine.encoding.plain_json import plain
from engine.errors import AnabranchError, CannotDecode, CannotOpen, EventOutOfPlace, NotADatabase, ReadFailed
from engine.logs.file_system import resolved
from engine.logs.sync_failures import SyncFailureMark
from engine.reports.standing import ORPHANED_SECONDS

_BUSY_SECONDS: Final = 1.0
_TIMEOUT_SECONDS_MAX: Final = 1e12
_UNREADABLE: Final = NotADatabase, CannotDecode, EventOutOfPlace, ReadFailed
"""Errors that opening a damaged store raises."""

_STYLES: Final = {"ok": "green", "found": "red", "fixed": "yellow"}


def doctor(
    *,
    db: Database = DEFAULT_DATABASE,
    fix: Annotated[bool, typer.Option("--fix", help="Repair what can be repaired safely.")] = False,
    timeout: Annotated[
        float,
        typer.Option(
            min=0, max=_TIMEOUT_SECONDS_MAX, metavar="SECONDS", help="Age at which an unsubmitted attempt is orphaned."
        ),
    ] = ORPHANED_SECONDS,
    json: AsJson = False,
) -> None:
    """Check a database for problems, and say what to do.

    Checks the file, every hash in it, its permissions, its file system, the free disk space, failed syncs, the
    write-ahead log, the locks, leftovers of killed rebuilds, comparisons, backups and imports, whether the views match
    the events, and whether any run has attempts that were created and never submitted.

    --fix restricts the files to their owner, removes leftovers that cannot be in use, rebuilds the views, and marks
    orphaned attempts FAILED_INIT. It never changes recorded events, nor the views of a log that has lost events.

    Others may go on writing meanwhile, and it waits for no lock. The exit code is 1 if a problem remains.

    \b
      anabranch doctor --db runs.db
      anabranch doctor --fix --timeout 86400
    """

    async def command() -> int:
        check_there(db)
        path = resolved(db)
        had_failed = SyncFailureMark(path).is_set()  # opening may clear the mark
        try:
            # A network file system is a finding, not an error.
            await asyncio.to_thread(check_ours, path, allow_network=True)
            async with open_engine(path, busy_timeout=_BUSY_SECONDS, allow_network=True) as engine:
                with event_bars() as bars:
                    checks = await _examine(engine, bars, timeout, fix=fix, sync_had_failed=had_failed)
        except _UNREADABLE as error:
            checks = await _examine_unreadable(path, error)
        remaining = sum(check.state == "found" for check in checks)
        if json:
            print_json({"database": str(path), "healthy": not remaining, "checks": plain(checks)})
        else:
            _print(checks, path)
        return FAILED if remaining else OK

    run(command(), as_json=json)


async def _examine(
    engine: Engine, bars: Progress, orphaned_seconds: float, *, fix: bool, sync_had_failed: bool
) -> list[Check]:
    path = engine.path
    file = await checked("file", check_file(engine))
    write_lock = await checked("write lock", asyncio.to_thread(check_write_lock, path))
    progress = partial(reporting, bars)
    history = await checked("history", check_history(engine, progress))
    # Otherwise a fix would wait for the lock, or write to a damaged file that should be kept as it is.
    writing = fix and file.state == history.state == write_lock.state == "ok"
    return [
        file,
        history,
        check_sqlite(),
        await checked("permissions", asyncio.to_thread(check_permissions, path, fix=fix)),
        await checked("file system", asyncio.to_thread(check_file_system, path)),
        await checked("disk", asyncio.to_thread(check_disk, path)),
        check_syncs(path, had_failed=sync_had_failed),
        await checked("write-ahead log", asyncio.to_thread(check_log_size, path)),
        write_lock,
        await checked("run lock", asyncio.to_thread(check_run_lock, path)),
        await checked("leftovers", asyncio.to_thread(check_leftovers, path, fix=fix)),
        await checked("views", check_views(engine, progress, fix=writing)),
        await checked("pages", check_pages(engine)),
        await checked("schema", check_schema(engine)),
        await checked("attempts", check_attempts(engine, orphaned_seconds, fix=writing)),
    ]


async def _examine_unreadable(path: Path, error: AnabranchError) -> list[Check]:
    """Check the surroundings of a file that cannot be opened as a store."""
    text = message_of(error) if isinstance(error, CannotOpen) else f"cannot be opened: {message_of(error)}"
    return [
        Check(name="file", state="found", text=text, advice=f"if --db names the right file, {RESTORE}"),
        await checked("file system", asyncio.to_thread(check_file_system, path)),
        await checked("disk", asyncio.to_thread(check_disk, path)),
    ]


def _print(checks: list[Check], path: Path) -> None:
    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(no_wrap=True)
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for check in checks:
        made.add_row(Text(check.state, _STYLES[check.state]), Text(check.name, "bold"), Text(visible(check.text)))
        if check.advice:
            made.add_row(Text(), Text(), Text(f"→ {visible(check.advice)}", "dim"))
    terminal = output()
    terminal.show(made)
    terminal.print(_verdict(checks, path), soft_wrap=False)


def _verdict(checks: list[Check], path: Path) -> Text:
    found = sum(check.state == "found" for check in checks)
    fixed = sum(check.state == "fixed" for check in checks)
    name = visible(path.name)
    if found:
        return Text(f"{name}: {counted(found, 'problem')} found", "red")
    repaired = f"; {counted(fixed, 'problem')} {'was' if fixed == 1 else 'were'} fixed" if fixed else ""
    return Text(f"{name} is healthy{repaired}", "green")
