"""Listings: tables of one-line cells, as most commands print them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.table import Table
from rich.text import Text

_GAP: Final = "  "
_LEGIBLE_CELLS: Final = 8


class Listing:
    """A table of one-line cells with two spaces between its columns.

    Args:
        flexible: the headers of the columns to cut if the terminal is too narrow.
        right: the headers of the columns to align to the right.
        spare: the headers of the columns to leave out, one after the other, rather than cut others to illegibility.
    """

    def __init__(
        self,
        headers: Sequence[str],
        rows: Iterable[Sequence[Text]],
        *,
        flexible: Sequence[str],
        right: Sequence[str] = (),
        spare: Sequence[str] = (),
    ) -> None:
        lines = list(rows)
        self._columns = [
            _Column(header, [line[at] for line in lines], is_flexible=header in flexible, is_right=header in right)
            for at, header in enumerate(headers)
        ]
        self._spare = spare

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> Iterator[Table]:
        made = Table(box=None, pad_edge=False, padding=(0, len(_GAP), 0, 0), header_style="bold")
        columns = self._shown(options.max_width)
        for column in columns:
            justify: Literal["left", "right"] = "right" if column.is_right else "left"
            title = Text(column.header, no_wrap=True, overflow="ellipsis")
            made.add_column(title, justify=justify, no_wrap=not column.is_flexible)
        for row in zip(*(column.cells for column in columns), strict=True):
            made.add_row(*row)
        yield made

    def plain(self, width: int) -> list[str] | None:
        """Return the lines without styles, or None if cells have to be cut.

        They are the ones that rich draws, in a tenth of its time: into a file, there may be 100,000 of them.
        """
        columns = self._shown(width)
        if _together(column.width for column in columns) > width:
            return None
        return [_GAP.join(row) for row in zip(*(column.padded() for column in columns), strict=True)]

    def _shown(self, width: int) -> list["_Column"]:
        """Return the columns to show in that width."""
        shown = self._columns
        for header in self._spare:
            if _together(column.legible_width for column in shown) > width:
                shown = [column for column in shown if column.header != header]
        return shown


class _Column:
    """A column of a listing; `width` is that of its widest cell, `legible_width` the one to which it may be cut."""

    def __init__(self, header: str, cells: list[Text], *, is_flexible: bool, is_right: bool) -> None:
        self.header = header
        self.cells = cells
        self.is_flexible = is_flexible
        self.is_right = is_right
        self._texts = [header, *(cell.plain for cell in cells)]
        self.width = max(map(cell_len, self._texts))
        self.legible_width = min(self.width, _LEGIBLE_CELLS) if is_flexible else self.width

    def padded(self) -> list[str]:
        """Return the header and the cells at full width."""
        padded = ((text, " " * (self.width - cell_len(text))) for text in self._texts)
        return [padding + text if self.is_right else text + padding for text, padding in padded]


def _together(widths: Iterable[int]) -> int:
    """Return the width of columns beside each other."""
    each = list(widths)
    return sum(each) + len(_GAP) * (len(each) - 1)
