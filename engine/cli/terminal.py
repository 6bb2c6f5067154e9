"""Output to terminals: colours and cut lines only on a terminal, and tables without frames.

`NO_COLOR` and `FORCE_COLOR` are respected, and `COLUMNS` sets the width. Lines written to a file or a pipe are not cut.
"""

import os
import sys
from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from engine.cli.listing import Listing

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


def facts(rows: Iterable[tuple[str, Text]]) -> Table:
    """Return a table of names and values, one pair per line."""
    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for name, text in rows:
        made.add_row(Text(name, style="dim"), text)
    return made
