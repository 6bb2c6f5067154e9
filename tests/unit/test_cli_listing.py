"""Listings as the command line prints them into files and pipes."""

import io
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Group

from engine.cli.listing import Listing
from engine.cli.terminal import Terminal
from engine.cli.text import cell

HEADERS = ("BRANCH", "#", "REASON")
ROWS = st.lists(st.tuples(*[st.text(max_size=12)] * len(HEADERS)), min_size=1, max_size=6)


def drawn(rows: Sequence[tuple[str, ...]], *, width: int, by_rich: bool = False) -> str:
    file = io.StringIO()
    terminal = Terminal(file=file, width=width, markup=False, highlight=False, emoji=False)
    cells = ([cell(text.strip()) for text in row] for row in rows)
    listing = Listing(HEADERS, cells, flexible=("REASON",), right=("#",), spare=("BRANCH",))
    terminal.show(Group(listing) if by_rich else listing)
    return file.getvalue()


@given(ROWS, st.sampled_from([12, 30, 1_000]))
def test_a_listing_in_a_file_has_the_lines_that_rich_draws(rows: list[tuple[str, ...]], width: int) -> None:
    """Any cells give the same lines as rich's own table, whether they fit, are cut, or a column is left out."""
    assert drawn(rows, width=width) == drawn(rows, width=width, by_rich=True)


@pytest.mark.parametrize("count", [10, 1_000])
def test_a_row_costs_no_more_than_a_few_calls(count: int) -> None:
    """A listing of any length takes fewer than 200 function calls for each row."""
    rows = [(f"branch{number}", f"{number}", "a reason") for number in range(count)]
    calls = 0

    def called(_frame: object, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(called)
    try:
        drawn(rows, width=1_000)
    finally:
        sys.setprofile(None)
    assert calls < 2_000 + 200 * count
