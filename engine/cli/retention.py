"""Removing data: `anabranch erase`, `delete`, `gc` and `compact`; and protecting runs: `pin` and `unpin`."""

import sys
from typing import Annotated

import typer

from engine.cli.database import DEFAULT_DATABASE, existing
from engine.cli.document import print_json
from engine.cli.escapes import visible
from engine.cli.failures import FAILED, INTERRUPTED, OK, run
from engine.cli.listing import Listing
from engine.cli.options import AsJson, BranchName, Database, RunId, as_age
from engine.cli.terminal import output
from engine.cli.text import branch_text, cell, counted
from engine.encoding.plain_json import plain
from engine.errors import RunHasForks
from engine.model import TERMINAL_STATUSES, UNENDED_STATUSES
from engine.names import ROOT
from engine.removal import Collected, Compaction, DeletedRun

Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; kept on record.", show_default=False)]
OptionalReason = Annotated[
    str | None, typer.Option("--reason", metavar="TEXT", help="Why; kept on record.", show_default=False)
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation; required without a terminal.")]
KeepSize = Annotated[
    bool,
    typer.Option("--keep-size", help="Do not shrink the file; new events reuse the space."),
]

_MEGABYTE = 1_000_000


def erase(
    run_id: RunId,
    version: Annotated[int, typer.Argument(metavar="VERSION", help="The event's stream version.")],
    *,
    reason: Reason,
    db: Database = DEFAULT_DATABASE,
    branch: BranchName = None,
    by: Annotated[str | None, typer.Option(metavar="NAME", help="Who erases it.", show_default=False)] = None,
    yes: Yes = False,
    json: AsJson = False,
) -> None:
    """Erase the content of one event permanently.

    Its values, texts and documents are removed from every part of the file; its place in the history stays, and every
    hash and checkpoint still verifies. `anabranch events RUN` shows the versions. Copies of the file are not touched.

    Lists other events that may hold the same content: reductions of it, and values carried over to forks of a deleted
    run, which may come from elsewhere. The exit code is 1 if there are any.

    \b
      anabranch erase r1 7 --branch fit.a --reason "holds a person's name"
    """

    async def command() -> int:
        async with existing(db) as engine:
            erasure = await engine.erase(run_id, branch, version, reason, by=by)
        if json:
            print_json(plain(erasure))
            return FAILED if erasure.carried else OK
        where = f"version {version} of {branch_text(branch or ROOT)} in {visible(run_id)}"
        output().print(f"{'erased' if erasure.erased else 'already erased:'} {where}")
        for each in erasure.carried:
            place = f"version {each.stream_version} of {branch_text(each.branch)} in {visible(each.run_id)}"
            said = f"{place} holds the same content: if it comes from the erased event, erase it, too"
            output().print(said, style="red", soft_wrap=True)
        return FAILED if erasure.carried else OK

    if not yes:
        _confirm(f"permanently erase version {version} of {branch_text(branch or ROOT)} in {visible(run_id)}")
    run(command(), as_json=json)


def pin(run_id: RunId, *, db: Database = DEFAULT_DATABASE, reason: OptionalReason = None, json: AsJson = False) -> None:
    """Protect a run from deletion.

    \b
      anabranch pin r1 --reason "the paper's figures"
    """
    _set_pin(run_id, db, reason, pinned=True, as_json=json)


def unpin(
    run_id: RunId, *, db: Database = DEFAULT_DATABASE, reason: OptionalReason = None, json: AsJson = False
) -> None:
    """Allow a pinned run to be deleted again.

    \b
      anabranch unpin r1
    """
    _set_pin(run_id, db, reason, pinned=False, as_json=json)


def _set_pin(run_id: str, db: Database, reason: str | None, *, pinned: bool, as_json: bool) -> None:
    async def command() -> None:
        async with existing(db) as engine:
            recorded = await (engine.pin if pinned else engine.unpin)(run_id, reason)
        if as_json:
            print_json({"run_id": run_id, "pinned": pinned, "changed": bool(recorded.events)})
        else:
            verb = "is" if recorded.events else "was already"
            ignored = "" if reason is None or recorded.events else "; the reason was not recorded"
            output().print(f"{visible(run_id)} {verb} {'pinned' if pinned else 'unpinned'}{ignored}", soft_wrap=True)

    run(command(), as_json=as_json)


def delete(
    run_id: RunId,
    *,
    reason: Reason,
    db: Database = DEFAULT_DATABASE,
    carry_over: Annotated[
        bool, typer.Option("--carry-over", help="First copy into its forks what they inherit from it.")
    ] = False,
    keep_size: KeepSize = False,
    yes: Yes = False,
    json: AsJson = False,
) -> None:
    """Delete a run with its whole history.

    The run's id, the time and the reason stay on record. A pinned run is refused. Without --carry-over, so is a run
    with forks that still read from it.

    \b
      anabranch delete r1 --reason "a test"
    """

    async def command() -> None:
        async with existing(db) as engine:
            try:
                deleted = await engine.delete_run(run_id, reason, carry_over=carry_over)
            except RunHasForks as error:
                error.add_note("add --carry-over")
                raise
            compaction = None if keep_size else await engine.compact()
        if json:
            print_json({**plain(deleted), "compaction": plain(compaction)})
            return
        what = f"{counted(deleted.events, 'event')} in {counted(deleted.branches, 'branch', 'branches')}"
        output().print(f"deleted {visible(run_id)}: {what}{_freed(compaction)}")

    if not yes:
        _confirm(f"delete {visible(run_id)} with its whole history")
    run(command(), as_json=json)


def gc(
    *,
    older_than: Annotated[
        str, typer.Option(metavar="AGE", help="Age of the last event: 30d, 12h, 4w, 90m; or a time.")
    ],
    db: Database = DEFAULT_DATABASE,
    status: Annotated[
        list[str] | None,
        typer.Option(metavar="STATUS", help="Only runs with this status; repeatable.", show_default=False),
    ] = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; kept on record.")] = "expired",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be deleted, and delete nothing.")] = False,
    keep_size: KeepSize = False,
    yes: Yes = False,
    json: AsJson = False,
) -> None:
    """Delete runs that ended long ago.

    A run has ended if its status is a final one, such as COMPLETED or FAILED. Old runs with other statuses are only
    counted; --status selects them. A run that is pinned, that has not ended, or with forks that still read from it is
    never deleted. Ages count from this machine's present clock; a clock that was set back while a run was recorded does
    not make it older.

    \b
      anabranch gc --older-than 30d --dry-run
    """
    statuses, before = status or TERMINAL_STATUSES, as_age(older_than)

    deletable: list[DeletedRun] = []

    async def command(*, dry: bool) -> None:
        async with existing(db) as engine:
            collected = await engine.collect(before, statuses=statuses, reason=reason, dry_run=dry)
            deletable.extend(collected.deleted)
            compaction = None if dry or keep_size or not collected.deleted else await engine.compact()
        if json:
            print_json({**plain(collected), "dry_run": dry, "compaction": plain(compaction)})
        else:
            _print_collected(collected, compaction, dry_run=dry)

    if not (dry_run or yes):
        what = f"delete every run that ended and is older than {visible(older_than)}"
        _check_answerable(what)
        if not json:
            run(command(dry=True), as_json=False)
        if not (json or deletable):
            return
        _confirm(what)
    run(command(dry=dry_run), as_json=json)


def compact(*, db: Database = DEFAULT_DATABASE, json: AsJson = False) -> None:
    """Rewrite the file without its unused space.

    Needs disk space for a second copy. Writers wait meanwhile.

    \b
      anabranch compact --db runs.db
    """

    async def command() -> None:
        async with existing(db) as engine:
            compaction = await engine.compact()
        if json:
            print_json(plain(compaction))
        else:
            output().print(f"the file is {_size(compaction.bytes_after)}{_freed(compaction)}")

    run(command(), as_json=json)


def _print_collected(collected: Collected, compaction: Compaction | None, *, dry_run: bool) -> None:
    terminal = output()
    if collected.deleted:
        rows = [(cell(each.run_id), cell(each.branches), cell(each.events)) for each in collected.deleted]
        terminal.show(Listing(("RUN", "BRANCHES", "EVENTS"), rows, flexible=("RUN",), right=("BRANCHES", "EVENTS")))
    verb = "would delete" if dry_run else "deleted"
    terminal.print(f"{verb} {counted(len(collected.deleted), 'run')}{_freed(compaction)}")
    unfinished = UNENDED_STATUSES & collected.others.keys()
    for what, statuses in (
        ("with other statuses (--status)", collected.others.keys() - unfinished),
        ("but not finished", unfinished),
    ):
        if statuses:
            named = ", ".join(f"{visible(status)} {collected.others[status]:,}" for status in sorted(statuses))
            terminal.print(f"equally old, {what}: {named}", style="dim", soft_wrap=True)
    for run_id, why in collected.kept.items():
        terminal.print(f"kept {visible(run_id)}: {visible(why)}", style="yellow")


def _freed(compaction: Compaction | None) -> str:
    if compaction is None:
        return ""
    freed = f"; {_size(max(0, compaction.bytes_before - compaction.bytes_after))} freed"
    return freed if compaction.complete else f"{freed}, the rest once the current readers are done"


def _size(size: int) -> str:
    return f"{size / _MEGABYTE:,.1f} MB" if size >= _MEGABYTE else f"{size / 1_000:,.0f} kB"


def _check_answerable(what: str) -> None:
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"--yes is needed to {what}, because there is no terminal to confirm it on")


def _confirm(what: str) -> None:
    """Ask for confirmation; exit unless the answer is yes."""
    _check_answerable(what)
    try:
        agreed = typer.confirm(f"{what[0].upper()}{what[1:]}?", err=True)
    except typer.Abort as error:  # Ctrl-C, or end of input
        raise typer.Exit(INTERRUPTED) from error
    if not agreed:
        typer.echo("nothing was done", err=True)
        raise typer.Exit(FAILED)
