"""Output to terminals: colours and cut lines only on a terminal, and tables without frames.

`NO_COLOR` and `FORCE_COLOR` are respected, and `COLUMNS` sets the width. Lines written to a file or a pipe are not cut.
"""

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Literal

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text
from typing_extensions import override

_UNCUT_COLUMNS = 100_000
_BETWEEN = "  "


class Terminal(Console):
    """A console that lets the caller handle a closed pipe."""

    @override
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError

    def show(self, *parts: RenderableType) -> None:
        """Print parts below each other; into a file or a pipe, without the padding of a table's last column."""
        if self.is_terminal:
            self.print(*parts, sep="\n")
            return
        for part in parts:
            lines = part.plain(self.width) if isinstance(part, Listing) else None
            if lines is None:
                with self.capture() as captured:
                    self.print(part)
                lines = captured.get().removesuffix("\n").split("\n")
            self.out("\n".join(line.rstrip() for line in lines), highlight=False)


def output() -> Terminal:
    """Return the console of standard output."""
    terminal = Terminal(file=sys.stdout, markup=False, highlight=False, emoji=False)
    if not terminal.is_terminal and "COLUMNS" not in os.environ:
        terminal.width = _UNCUT_COLUMNS
    return terminal


def errors() -> Terminal:
    """Return the console of standard error, for progress and notices."""
    return Terminal(file=sys.stderr, markup=False, highlight=False, emoji=False)


def is_cut(terminal: Console) -> bool:
    """Return whether lines are cut at the terminal's width."""
    return terminal.width < _UNCUT_COLUMNS


class Listing:
    """A table of one-line cells with two spaces between its columns, made by `table`."""

    def __init__(
        self, headers: Sequence[str], rows: Iterable[Sequence[Text]], flexible: Sequence[str], right: Sequence[str]
    ) -> None:
        self._headers = headers
        self._rows = list(rows)
        self._flexible = flexible
        self._right = right

    def __rich__(self) -> Table:
        made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for header in self._headers:
            justify: Literal["left", "right"] = "right" if header in self._right else "left"
            made.add_column(
                Text(header, no_wrap=True, overflow="ellipsis"), justify=justify, no_wrap=header not in self._flexible
            )
        for row in self._rows:
            made.add_row(*row)
        return made

    def plain(self, width: int) -> list[str] | None:
        """Return the lines as rich draws them without colours, in a tenth of its time; None if they have to be cut."""
        rows = [self._headers, *([cell.plain for cell in row] for row in self._rows)]
        widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
        if sum(widths) + len(_BETWEEN) * (len(widths) - 1) > width:
            return None
        at_right = [header in self._right for header in self._headers]
        columns = list(zip(widths, at_right, strict=True))
        return [
            _BETWEEN.join(_padded(text, at, right=right) for text, (at, right) in zip(row, columns, strict=True))
            for row in rows
        ]


def table(
    headers: Sequence[str], rows: Iterable[Sequence[Text]], *, flexible: Sequence[str], right: Sequence[str] = ()
) -> Listing:
    """Return a listing.

    Args:
        flexible: the headers of the columns to cut if the terminal is too narrow.
        right: the headers of the columns to align to the right.
    """
    return Listing(headers, rows, flexible, right)


def _padded(text: str, width: int, *, right: bool) -> str:
    padding = " " * (width - cell_len(text))
    return padding + text if right else text + padding


def facts(rows: Iterable[tuple[str, Text]]) -> Table:
    """Return a table of names and values, one pair per line."""
    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for name, text in rows:
        made.add_row(Text(name, style="dim"), text)
    return made
