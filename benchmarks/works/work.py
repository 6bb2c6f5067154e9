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

    `measure` is called with a participant, a folder and the sizes, in a process of its own. The folder is empty, unless
    there is `prepare`: then it is one folder for all rounds, made ready by that before the first. `columns` are the
    figures in the table; ratios are of the first of them, to the first participant's. `rounds_max` is 1 for what is the
    same in each round.
    """

    name: str
    title: str
    participants: Callable[[Scale], tuple[str, ...]]
    columns: Callable[[Scale], tuple[Column, ...]]
    measure: Measure
    prepare: Callable[[Path, Scale], None] | None = None
    rounds_max: int | None = None
