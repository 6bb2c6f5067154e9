"""What a work is: a name, its participants, how to measure one of them once, and how its table reads."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct

from benchmarks.results import Measured
from benchmarks.scale import Scale

Measure: TypeAlias = Callable[[str, Path, Scale], Measured]


class Column(Struct, frozen=True):
    """A figure as a column of the table: its name, its heading, and how many digits stand behind the point."""

    figure: str
    heading: str
    digits: int = 0


class Work(Struct, frozen=True, kw_only=True):
    """A work to be measured.

    `measure` is called with a participant, an empty folder and the sizes, in a process of its own. `columns` are the
    figures in the table, the first of them the one that ratios are of: to the first participant's.
    """

    name: str
    title: str
    participants: tuple[str, ...]
    measure: Measure
    columns: Callable[[Scale], tuple[Column, ...]]
    more_is_better: bool = True
