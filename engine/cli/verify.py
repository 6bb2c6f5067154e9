"""`anabranch verify` and `anabranch checkpoint`: prove that the history is unchanged."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from engine.checkpoint import Checkpoint, check_signature, sign
from engine.cli.database import DEFAULT_DATABASE, existing
from engine.cli.document import print_json
from engine.cli.escapes import visible
from engine.cli.failures import FAILED, OK, run
from engine.cli.options import AsJson, Database
from engine.cli.progress import event_bars, reporting
from engine.cli.terminal import output
from engine.cli.text import counted, place_of, shortened
from engine.encoding.plain_json import plain
from engine.findings import Problem, Verification


def verify(
    run_id: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Only this run; by default all runs.", show_default=False)
    ] = None,
    *,
    db: Database = DEFAULT_DATABASE,
    since: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Prove that nothing changed since this checkpoint.", show_default=False),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The public key (PEM) to check its signature with.", show_default=False),
    ] = None,
    json: AsJson = False,
) -> None:
    """Verify the history: recompute every hash and reduction, and follow every link.

    Shows the first bad event of each broken branch; the exit code is 1 if there are any. Does not check the views,
    which other commands read: `anabranch doctor` compares them with the events.

    Without a checkpoint that was kept elsewhere, this finds accidents and simple edits, but not a file rewritten with
    new hashes, nor a run whose last events were removed skilfully. The order of events in unrelated branches is not
    hashed.

    \b
      anabranch verify --since monday.json
    """
    if key is not None and since is None:
        raise typer.BadParameter("--key checks the signature of a checkpoint, and needs --since")

    async def command() -> int:
        checkpoint = None if since is None else _trusted(since, key)
        async with existing(db) as engine:
            with event_bars() as bars:
                found = await engine.verify(run_id, checkpoint, reporting(bars, "verifying"))
        if json:
            print_json(plain(found))
        else:
            _print(found, checkpoint, key)
        return FAILED if found.problems else OK

    run(command(), as_json=json)


def checkpoint(
    *,
    db: Database = DEFAULT_DATABASE,
    private_key: Annotated[
        Path | None,
        typer.Option("--sign", metavar="FILE", help="Sign it with this Ed25519 key (PEM).", show_default=False),
    ] = None,
    json: AsJson = False,
) -> None:
    """Print a checkpoint of the whole history.

    It is one line of JSON, with or without --json, that commits to everything in the file. Keep it where the file's
    owner cannot write: `anabranch verify --since` proves later that nothing has changed. A checkpoint of a damaged
    history commits to the damage, so run `anabranch verify` first.

    \b
      anabranch checkpoint > monday.json
    """

    async def command() -> None:
        async with existing(db) as engine:
            made = await engine.checkpoint()
        output().out((made if private_key is None else sign(made, private_key)).to_json(), highlight=False)

    run(command(), as_json=json)


def _trusted(path: Path, key: Path | None) -> Checkpoint:
    checkpoint = Checkpoint.from_json(path.read_bytes())
    if key is not None or checkpoint.signature is not None:
        check_signature(checkpoint, key)
    return checkpoint


def _print(found: Verification, checkpoint: Checkpoint | None, key: Path | None) -> None:
    terminal = output()
    what = f"{counted(found.events, 'event')} in {counted(found.streams, 'branch', 'branches')}"
    terminal.print(f"checked {what} of {counted(found.runs, 'run')}")
    if found.deleted:
        names = shortened(", ".join(map(visible, found.deleted)))
        gone = f"{counted(len(found.deleted), 'run was', 'runs were')} deleted, according to the store: {names}"
        terminal.print(gone, style="yellow")
    if not found.problems:
        terminal.print("intact: every hash, link and reduction verifies", style="green")
        terminal.print(f"root {found.root}", style="dim")
        terminal.print("anabranch doctor checks whether the views match", style="dim")
        if checkpoint is not None:
            terminal.print(f"unchanged since the checkpoint at position {checkpoint.position:,}", style="green")
            _warn(checkpoint, key)
        return
    deleted = sum(problem.kind == "deleted" for problem in found.problems)
    if broken := len(found.problems) - deleted:
        terminal.print(f"{counted(broken, 'problem')}, the first of each broken branch", style="red")
    if deleted:
        terminal.print(f"{counted(deleted, 'run')} deleted since the checkpoint", style="red")
    for problem in found.problems:
        terminal.show(_described(problem))


def _warn(checkpoint: Checkpoint, key: Path | None) -> None:
    if checkpoint.signature is not None and key is None:
        output().print(
            "its signature was checked with the key that it names itself; --key says which key to trust", style="yellow"
        )


def _described(problem: Problem) -> Text:
    """Return a problem in two lines: what it is and where, and why."""
    return Text.assemble((problem.kind, "red"), f"  {place_of(problem)}\n    {visible(problem.message)}")
