"""`anabranch runs`: the list of runs."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

import typer
from rich.text import Text

from engine.cli.database import DEFAULT_DATABASE, existing
from engine.cli.document import print_json
from engine.cli.failures import run
from engine.cli.listing import Listing
from engine.cli.options import AsJson, Database, Statuses, as_time_or_ago
from engine.cli.terminal import Terminal, is_cut, output
from engine.cli.text import cell, elapsed_text, none_found, shortened_inside, so_far_text, status, time_text
from engine.encoding.plain_json import plain
from engine.model import ACTIVE_STATUSES, RunInfo, RunPage, has_ended
from engine.removal import Deletion

_RUN_CELLS_MAX: Final = 40


def runs(
    *,
    db: Database = DEFAULT_DATABASE,
    with_status: Statuses = None,
    tag: Annotated[str | None, typer.Option(metavar="TAG", help="Only runs with this tag.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Created at this time or later; a time, or an age (1d).")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Created at this time or earlier.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="Show at most N runs.")] = 20,
    cursor: Annotated[str | None, typer.Option(metavar="CURSOR", help="Continue after the previous page.")] = None,
    deleted: Annotated[
        bool, typer.Option("--deleted", help="List deleted runs and why; times are those of deletion.")
    ] = False,
    json: AsJson = False,
) -> None:
    """List runs, the last recorded first; or deleted runs, the last deleted first.

    CREATED, --since and --until refer to the time of creation, which may be long before the time of recording: an
    import keeps it. Times are ISO 8601, in UTC if they have no zone, or ages (90m, 12h, 30d, 4w). If there are more
    runs than the limit, the cursor of the next page is printed.

    \b
      anabranch runs --status FAILED --since 2026-01-31
      anabranch runs --deleted
    """
    if deleted and (with_status or tag or cursor):
        raise typer.BadParameter("--deleted cannot be combined with --status, --tag or --cursor")
    first, last = as_time_or_ago(since) if since else None, as_time_or_ago(until) if until else None

    async def command() -> None:
        async with existing(db) as engine:
            if deleted:
                found = [each for each in await engine.deletions() if _is_between(each.deleted_at, first, last)]
                print_json({"deleted": plain(found[:limit])}) if json else _print_deleted(found, limit)
                return
            page = await engine.runs(
                status=with_status, tag=tag, created_from=first, created_until=last, limit=limit, cursor=cursor
            )
        none = none_found("no runs", status=with_status, tag=tag)
        print_json(plain(page)) if json else _print(page, none)

    run(command(), as_json=json)


def _is_between(moment: datetime, first: datetime | None, last: datetime | None) -> bool:
    return (first is None or first <= moment) and (last is None or moment <= last)


def _print_deleted(found: Sequence[Deletion], limit: int) -> None:
    terminal = output()
    if not found:
        terminal.print("no runs were deleted", soft_wrap=True)
        return
    cells_max = _run_cells_max(terminal)
    rows = (
        (
            cell(shortened_inside(each.run_id, cells_max)),
            cell(time_text(each.deleted_at)),
            cell(f"{each.events:,}"),
            cell(each.reason),
        )
        for each in found[:limit]
    )
    terminal.show(Listing(("RUN", "DELETED (UTC)", "EVENTS", "REASON"), rows, flexible=("REASON",), right=("EVENTS",)))
    if len(found) > limit:
        terminal.print(f"{len(found) - limit:,} more: use --limit, or --until for earlier ones", style="dim")


def _print(page: RunPage, none: str) -> None:
    terminal = output()
    if not page.runs:
        terminal.print(none, soft_wrap=True)
        return
    headers = "RUN", "STATUS", "CREATED (UTC)", "TOOK", "TAG", "ABOUT"
    cells_max = _run_cells_max(terminal)
    rows = (_row(each, cells_max) for each in page.runs)
    terminal.show(Listing(headers, rows, flexible=("TAG", "ABOUT"), right=("TOOK",), spare=("TOOK", "TAG", "ABOUT")))
    if page.cursor is not None:
        terminal.print(f"more: add --cursor {page.cursor}", style="dim")


def _run_cells_max(terminal: Terminal) -> int:
    # On a terminal, a longer id must leave room for the other columns.
    return _RUN_CELLS_MAX if is_cut(terminal) else sys.maxsize


def _row(info: RunInfo, cells_max: int) -> tuple[Text, ...]:
    about, run_id = info.status_reason or info.description or "", shortened_inside(info.run_id, cells_max)
    return (
        cell(run_id),
        status(info.status),
        cell(time_text(info.created_at)),
        cell(_took(info)),
        cell(info.tag),
        cell(about),
    )


def _took(info: RunInfo) -> str:
    """Return how long a run took from its creation to its end, or, while it is active, until now."""
    if info.status in ACTIVE_STATUSES:
        return so_far_text(info.created_at, datetime.now(UTC))
    if info.status_changed_at is None or not has_ended(info.status, info.status_changed_at):
        return ""
    return elapsed_text(info.created_at, info.status_changed_at)
