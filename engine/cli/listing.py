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
        self._columns = {header: [line[index] for line in lines] for index, header in enumerate(headers)}
        self._widths = {
            header: max(map(cell_len, (header, *(cell.plain for cell in cells))))
            for header, cells in self._columns.items()
        }
        self._flexible = flexible
        self._right = right
        self._spare = spare

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> Iterator[Table]:
        made = Table(box=None, pad_edge=False, padding=(0, len(_GAP), 0, 0), header_style="bold")
        headers = self._shown(options.max_width)
        for header in headers:
            justify: Literal["left", "right"] = "right" if header in self._right else "left"
            title = Text(header, no_wrap=True, overflow="ellipsis")
            made.add_column(title, justify=justify, no_wrap=header not in self._flexible)
        for row in zip(*(self._columns[header] for header in headers), strict=True):
            made.add_row(*row)
        yield made

    def plain(self, width: int) -> list[str] | None:
        """Return the lines without styles, or None if cells have to be cut.

        They are the ones that rich draws, in a tenth of its time: into a file, there may be 100,000 of them.
        """
        headers = self._shown(width)
        if _together([self._widths[header] for header in headers]) > width:
            return None
        columns = [self._padded(header) for header in headers]
        return [_GAP.join(row) for row in zip(*columns, strict=True)]

    def _shown(self, width: int) -> list[str]:
        """Return the headers of the columns to show in that width."""
        shown = list(self._columns)
        for header in self._spare:
            if _together([self._least(each) for each in shown]) > width:
                shown.remove(header)
        return shown

    def _least(self, header: str) -> int:
        width = self._widths[header]
        return min(width, _LEGIBLE_CELLS) if header in self._flexible else width

    def _padded(self, header: str) -> list[str]:
        width, right = self._widths[header], header in self._right
        texts = (header, *(cell.plain for cell in self._columns[header]))
        padded = ((text, " " * (width - cell_len(text))) for text in texts)
        return [padding + text if right else text + padding for text, padding in padded]


def _together(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)
