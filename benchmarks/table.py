"""The results as printed tables."""

from collections.abc import Mapping, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table

from benchmarks.goals import Goal
from benchmarks.results import LeftOut, Row, WorkResult
from benchmarks.scale import Scale
from benchmarks.works.work import Column, Work

_VERDICTS: Final[Mapping[bool | None, str]] = {
    True: "[green]met[/green]",
    False: "[red]not met[/red]",
    None: "not measured",
}


def print_result(console: Console, work: Work, result: WorkResult, scale: Scale) -> None:
    """Print a work's table: medians, the range of the rounds, and ratios to the first participant."""
    first, *others = work.columns(scale)
    table = Table(title=f"{result.work}  {result.title}", title_justify="left", box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading in (first.heading, "least to most", "ratio", *(column.heading for column in others)):
        table.add_column(heading, justify="right")
    table.add_column("missing", justify="right")
    table.add_column("errors", justify="right")
    table.add_column("durability")
    reference = result.rows[0] if result.rows else None
    for row in result.rows:
        cells = (_median(row, first), _ends(row, first), _ratio(row, reference, first))
        faults = (_count(row.missing), _count(sum(row.errors.values())))
        table.add_row(row.participant, *cells, *(_median(row, each) for each in others), *faults, row.durability)
    console.print(table)
    _print_errors(console, result.rows)
    console.print()


def print_left_out(console: Console, left_out: Sequence[LeftOut]) -> None:
    """Print which peers are not installed, and how to install them."""
    for each in left_out:
        install = f"pip install 'anabranch[{each.extra}]'"
        console.print(f"left out: {each.participant} (not installed): {install}", markup=False)


def _print_errors(console: Console, rows: Sequence[Row]) -> None:
    for row in rows:
        for message, count in row.errors.items():
            console.print(f"{row.participant}: {count:,} times: {message}", style="red", markup=False)


def _median(row: Row, column: Column) -> str:
    found = row.median(column.figure)
    return "" if found is None else f"{found:,.{column.digits}f}"


def _ends(row: Row, column: Column) -> str:
    found = row.figures.get(column.figure)
    digits = column.digits
    return "" if found is None else f"{found.least:,.{digits}f} to {found.most:,.{digits}f}"


def _count(number: int) -> str:
    return f"[red]{number:,}[/red]" if number else "0"


def _ratio(row: Row, reference: Row | None, column: Column) -> str:
    base = None if reference is None else reference.median(column.figure)
    own = row.median(column.figure)
    return "" if not base or own is None else f"{own / base:.2f}"


def print_goals(console: Console, goals: Sequence[Goal]) -> None:
    """Print the goals, and whether each is met."""
    if not goals:
        return
    table = Table(title="Goals", title_justify="left", box=None, pad_edge=False)
    for heading in ("work", "goal", "measured", ""):
        table.add_column(heading)
    for each in goals:
        table.add_row(each.work, each.goal, each.measured, _VERDICTS[each.met])
    console.print(table)
    console.print()
