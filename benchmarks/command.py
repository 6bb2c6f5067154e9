"""`python -m benchmarks`: anabranch beside what users would pick instead, and beside the limit, on the same work."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from benchmarks import rounds as interleaved
from benchmarks.peers.registry import PEERS
from benchmarks.results import LeftOut
from benchmarks.scale import FULL, NORMAL, SMOKE
from benchmarks.table import print_left_out, print_result
from benchmarks.works.registry import WORKS
from benchmarks.works.work import Work

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

_LEFT_OUT: Final = {peer.name: peer.extra for peer in PEERS if peer.version is None}


@app.command()
def main(
    peer: Annotated[list[str] | None, typer.Option(help="Only those with this in their name; repeatable.")] = None,
    work: Annotated[list[str] | None, typer.Option(help="Only this work, such as W1; repeatable.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often each participant is measured.")] = 5,
    folder: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Where to write: a real disk.")] = Path(),
    *,
    smoke: Annotated[bool, typer.Option("--smoke", help="Tiny sizes: is every result whole?")] = False,
    full: Annotated[bool, typer.Option("--full", help="Let W7 grow to three million events.")] = False,
) -> None:
    """Measure, and print tables of medians."""
    scale = SMOKE if smoke else FULL if full else NORMAL
    console = Console(stderr=False, width=200)
    progress = Console(stderr=True)
    for each in _chosen_works(work or []):
        result = interleaved.measure(
            each,
            _chosen_participants(each.participants(scale), peer or []),
            scale,
            rounds=rounds,
            folder=folder,
            progress=lambda told: progress.print(told, style="dim", highlight=False),
        )
        print_result(console, each, result, scale)
    print_left_out(console, [LeftOut(name, extra) for name, extra in _LEFT_OUT.items()])


def _chosen_works(names: list[str]) -> list[Work]:
    return [work for work in WORKS if not names or work.name.lower() in {name.lower() for name in names}]


def _chosen_participants(names: Sequence[str], parts: list[str]) -> list[str]:
    installed = [name for name in names if name not in _LEFT_OUT]
    return [name for name in installed if not parts or any(part in name for part in parts)]
