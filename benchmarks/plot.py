"""The results as a plot: a panel for each work, and for each participant a bar with the range of its rounds."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.results import Row, WorkResult
from benchmarks.works.work import Column

Panel = tuple[WorkResult, Column]

_COLUMNS: Final = 2
_PANEL_WIDTH_INCHES: Final = 6.5
_BAR_HEIGHT_INCHES: Final = 0.32
_TITLE_HEIGHT_INCHES: Final = 1.1
_OURS: Final = "#1f6f8b"
_OTHERS: Final = "#b8b8b8"
_TICKS_MAX: Final = 5
_LOGARITHMIC_FROM: Final = 20
"""The ratio of the largest median to the smallest from which the axis is logarithmic."""


def draw(path: Path, panels: Sequence[Panel]) -> None:
    """Draw the first figure of each work to a file, whose suffix gives the format."""
    columns = min(_COLUMNS, len(panels))
    lines = math.ceil(len(panels) / columns)
    bars = max(len(result.rows) for result, _ in panels)
    figure = Figure(
        figsize=(_PANEL_WIDTH_INCHES * columns, lines * (bars * _BAR_HEIGHT_INCHES + _TITLE_HEIGHT_INCHES)),
        layout="constrained",
    )
    grid = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes, (result, column) in zip(grid, panels, strict=False):
        _draw_panel(axes, result, column)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "anabranch"}):  # text stays text, and ids are reproducible
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _draw_panel(axes: Any, result: WorkResult, column: Column) -> None:
    rows = [row for row in reversed(result.rows) if column.figure in row.figures]
    spreads = [row.figures[column.figure] for row in rows]
    medians = [spread.median for spread in spreads]
    ends = [
        [spread.median - spread.least for spread in spreads],
        [spread.most - spread.median for spread in spreads],
    ]
    bars = axes.barh([row.participant for row in rows], medians, xerr=ends, color=[_colour(row) for row in rows])
    axes.bar_label(bars, [f"{median:,.{column.digits}f}" for median in medians], padding=4)
    if medians and max(medians) > _LOGARITHMIC_FROM * min(medians):
        axes.set_xscale("log")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(_TICKS_MAX))
    axes.margins(x=0.25)
    axes.set_xlabel(column.heading)
    axes.set_title(f"{result.work}  {result.title}", loc="left")


def _colour(row: Row) -> str:
    return _OURS if row.participant.startswith("anabranch") else _OTHERS
