"""`python -m benchmarks`: anabranch, its alternatives and the limit do the same work."""

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer
from rich.console import Console

from benchmarks import machine, rounds
from benchmarks.goals import judge
from benchmarks.peers import one_transaction
from benchmarks.peers.registry import ANABRANCH, PEERS
from benchmarks.report import STANDARD_OUTPUT, Report, as_json, installed_versions, not_installed
from benchmarks.results import WorkResult
from benchmarks.scale import FULL, NORMAL, SMOKE, Scale
from benchmarks.table import print_goals, print_left_out, print_result
from benchmarks.works.registry import WORKS
from benchmarks.works.work import Work

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

Chosen: TypeAlias = Sequence[tuple[Work, list[str]]]
"""Works, each with its participants."""

_WIDTH_MIN: Final = 170
"""The least width in characters where the output is no terminal, so that tables are not folded."""

Peers = Annotated[
    list[str] | None, typer.Option("--peer", help="Only this peer, or names that contain this; repeatable.")
]
Works = Annotated[list[str] | None, typer.Option("--work", help="Only this work, such as W1; repeatable.")]
Rounds = Annotated[int, typer.Option("--rounds", min=1, help="How often to measure each participant.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write everything to this file; - is standard output.")]
Plot = Annotated[Path | None, typer.Option("--plot", help="Draw a plot to this file, which ends in .svg or .png.")]
Folder = Annotated[Path, typer.Option(exists=True, file_okay=False, help="The folder to write in, on a real disk.")]
Smoke = Annotated[bool, typer.Option("--smoke", help="Only check that results are complete, with tiny sizes.")]
Full = Annotated[bool, typer.Option("--full", help="Let W7 grow to three million events.")]


@app.command()
def main(
    *,
    peer: Peers = None,
    work: Works = None,
    rounds_of_each: Rounds = 5,
    json: Json = None,
    plot: Plot = None,
    folder: Folder = Path(),
    smoke: Smoke = False,
    full: Full = False,
) -> None:
    """Measure in interleaved rounds, print tables of medians, and print which goals are met."""
    scale = SMOKE if smoke else FULL if full else NORMAL
    chosen = _chosen(work or [], peer or [], scale)
    _check_plot(plot)
    console = _console(to_errors=json == STANDARD_OUTPUT)
    report = _measure(chosen, scale, rounds_of_each=rounds_of_each, folder=folder, console=console)
    if json is not None:
        _write(json, as_json(report))
    if plot is not None:
        panels = [(result, each.columns(scale)[0]) for (each, _), result in zip(chosen, report.works, strict=True)]
        # only this needs matplotlib, which an extra installs
        importlib.import_module("benchmarks.plot").draw(plot, panels)
    if smoke and not report.is_whole:
        raise typer.Exit(1)


def _measure(chosen: Chosen, scale: Scale, *, rounds_of_each: int, folder: Path, console: Console) -> Report:
    here = machine.look(folder)
    console.print(here.in_words(), highlight=False)
    if here.is_memory_only:
        console.print("This folder is in memory, where a sync costs nothing, so the figures say little.", style="red")
    results: list[WorkResult] = []
    for work, participants in chosen:
        result = rounds.measure(
            work, participants, scale, rounds=rounds_of_each, folder=folder, progress=Console(stderr=True).print
        )
        print_result(console, work, result, scale)
        results.append(result)
    goals = [] if scale is SMOKE else judge(results)  # tiny sizes say nothing about speed
    print_goals(console, goals)
    print_left_out(console, not_installed())
    return Report(
        machine=here,
        rounds=rounds_of_each,
        scale=scale,
        versions=installed_versions(),
        left_out=not_installed(),
        works=results,
        goals=goals,
    )


def _chosen(names: Sequence[str], parts: Sequence[str], scale: Scale) -> Chosen:
    known = {work.name.lower(): work for work in WORKS}
    unknown = [name for name in names if name.lower() not in known]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(work.name for work in WORKS)}")
    works = [work for name, work in known.items() if not names or name in {each.lower() for each in names}]
    chosen = [(work, _participants(work.participants(scale), parts)) for work in works]
    if not any(participants for _, participants in chosen):
        raise typer.BadParameter(f"no installed participant is called {' or '.join(map(repr, parts))}")
    return [(work, participants) for work, participants in chosen if participants]


def _participants(names: Sequence[str], parts: Sequence[str]) -> list[str]:
    left_out = {each.participant for each in not_installed()}
    return [name for name in names if name not in left_out and _is_wanted(name, parts)]


def _is_wanted(name: str, parts: Sequence[str]) -> bool:
    """Return whether a participant is selected: by the full name of its peer, or by a part of its own name."""
    peers = {peer.name for peer in PEERS}
    asked = {part for part in parts if part in peers}
    if _owner(name) in asked:
        return True
    return not parts or any(part.lower() in name.lower() for part in parts if part not in peers)


def _owner(name: str) -> str:
    """Return the peer that a participant is or uses; a floor or a size belongs to anabranch."""
    peers = sorted((peer.name for peer in PEERS), key=len, reverse=True)
    other = name if name == one_transaction.NAME else ANABRANCH
    return next((peer for peer in peers if name.startswith(peer)), other)


def _check_plot(path: Path | None) -> None:
    if path is not None and path.suffix not in (".svg", ".png"):
        raise typer.BadParameter(f"{path} ends neither in .svg nor in .png")
    if path is not None and importlib.util.find_spec("matplotlib") is None:
        raise typer.BadParameter("a plot needs matplotlib: pip install 'anabranch[bench]'")


def _console(*, to_errors: bool) -> Console:
    console = Console(stderr=to_errors)
    return console if console.is_terminal else Console(stderr=to_errors, width=max(console.width, _WIDTH_MIN))


def _write(path: Path, text: str) -> None:
    if path == STANDARD_OUTPUT:
        typer.echo(text)
    else:
        path.write_text(f"{text}\n", encoding="utf-8")
