"""Output to terminals: colours and cut lines only on a terminal, and tables without frames.

`NO_COLOR` and `FORCE_COLOR` are respected, and `COLUMNS` sets the width. Lines written to a file or a pipe are not cut.
"""

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Literal

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text
from typing_extensions import override

_UNCUT_COLUMNS = 100_000


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
        with self.capture() as captured:
            self.print(*parts, sep="\n")
        self.out("\n".join(line.rstrip() for line in captured.get().split("\n")), end="", highlight=False)


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


def table(
    headers: Sequence[str], rows: Iterable[Sequence[Text]], *, flexible: Sequence[str], right: Sequence[str] = ()
) -> Table:
    """Return a table of one-line cells with two spaces between its columns.

    Args:
        flexible: the headers of the columns to cut if the terminal is too narrow.
        right: the headers of the columns to align to the right.
    """
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for header in headers:
        justify: Literal["left", "right"] = "right" if header in right else "left"
        made.add_column(
            Text(header, no_wrap=True, overflow="ellipsis"), justify=justify, no_wrap=header not in flexible
        )
    for row in rows:
        made.add_row(*row)
    return made


def facts(rows: Iterable[tuple[str, Text]]) -> Table:
    """Return a table of names and values, one pair per line."""
    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for name, text in rows:
        made.add_row(Text(name, style="dim"), text)
    return made
