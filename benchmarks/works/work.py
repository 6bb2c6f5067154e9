"""A work: a name, its participants, how to measure one of them once, and the columns of its table."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct

from benchmarks.results import Measured
from benchmarks.scale import Scale

Measure: TypeAlias = Callable[[str, Path, Scale], Measured]


class Column(Struct, frozen=True):
    """A figure as a column of the table: its name, its heading, and the number of decimals."""

    figure: str
    heading: str
    digits: int = 0


class Work(Struct, frozen=True, kw_only=True):
    """A work to measure.

    `measure` is called with a participant, a folder and the sizes, in a process of its own. The folder is empty, unless
    there is `prepare`, which fills one folder for all rounds before the first. `columns` are the figures in the table;
    ratios are of the first column, to the first participant. `rounds_max` is 1 where every round gives the same result.
    """

    name: str
    title: str
    participants: Callable[[Scale], tuple[str, ...]]
    columns: Callable[[Scale], tuple[Column, ...]]
    measure: Measure
    prepare: Callable[[Path, Scale], None] | None = None
    rounds_max: int | None = None
