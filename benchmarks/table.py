"""The results as tables for people."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.results import LeftOut, Row, WorkResult
from benchmarks.scale import Scale
from benchmarks.works.work import Column, Work


def print_result(console: Console, work: Work, result: WorkResult, scale: Scale) -> None:
    """Print one work's table: medians, the least and most of the rounds, and ratios to the first participant."""
    columns = work.columns(scale)
    table = Table(title=f"{result.work}  {result.title}", title_justify="left", box=None, pad_edge=False)
    table.add_column("", overflow="fold")
    for column in columns:
        table.add_column(column.heading, justify="right")
    table.add_column("ratio", justify="right")
    table.add_column("missing", justify="right")
    table.add_column("errors", justify="right")
    table.add_column("durability", overflow="fold")
    reference = result.rows[0] if result.rows else None
    for row in result.rows:
        cells = [_cell(row, column) for column in columns]
        faults = (_count(row.missing), _count(sum(row.errors.values())))
        table.add_row(row.participant, *cells, _ratio(row, reference, columns[0]), *faults, row.durability)
    console.print(table)
    _print_errors(console, result.rows)
    console.print()


def print_left_out(console: Console, left_out: Sequence[LeftOut]) -> None:
    """Say which peers are not installed, and what brings them."""
    for each in left_out:
        bring = f"pip install 'anabranch[{each.extra}]'"
        console.print(f"left out: {each.participant}, which is not installed: {bring}", markup=False)


def _print_errors(console: Console, rows: Sequence[Row]) -> None:
    for row in rows:
        for message, count in row.errors.items():
            console.print(f"{row.participant}: {count:,} times: {message}", style="red", markup=False)


def _cell(row: Row, column: Column) -> str:
    found = row.figures.get(column.figure)
    if found is None:
        return ""
    digits = column.digits
    return f"{found.median:,.{digits}f} ({found.least:,.{digits}f} to {found.most:,.{digits}f})"


def _count(number: int) -> str:
    return f"[red]{number:,}[/red]" if number else "0"


def _ratio(row: Row, reference: Row | None, column: Column) -> str:
    base = None if reference is None else reference.median(column.figure)
    own = row.median(column.figure)
    return "" if not base or own is None else f"{own / base:.2f}"
