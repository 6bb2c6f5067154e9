"""Rounds: every participant once, then every participant again, each time in another order."""

import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias, TypeVar

from benchmarks.isolation import in_fresh_process
from benchmarks.results import Measured, WorkResult, summed_up
from benchmarks.scale import Scale
from benchmarks.works.work import Work

Item = TypeVar("Item")
Progress: TypeAlias = Callable[[Work, int, str], None]


def measure(
    work: Work, participants: Sequence[str], scale: Scale, *, rounds: int, folder: Path, progress: Progress
) -> WorkResult:
    """Measure a work in interleaved rounds: a change of the machine's pace falls on all participants alike."""
    measured: dict[str, list[Measured]] = {participant: [] for participant in participants}
    for number in range(rounds):
        for participant in rotated(participants, number):
            progress(work, number, participant)
            measured[participant].append(_once(work, participant, scale, folder))
    rows = [summed_up(participant, each) for participant, each in measured.items()]
    return WorkResult(work=work.name, title=work.title, rows=rows)


def rotated(items: Sequence[Item], places: int) -> Iterator[Item]:
    """Yield all items, beginning that many places further on."""
    for index in range(len(items)):
        yield items[(index + places) % len(items)]


def _once(work: Work, participant: str, scale: Scale, folder: Path) -> Measured:
    with TemporaryDirectory(dir=folder, prefix=".benchmark-", ignore_cleanup_errors=True) as name:
        try:
            return in_fresh_process(work.measure, participant, Path(name), scale)
        except Exception as error:  # noqa: BLE001 - a participant that fails is a result: it is shown, the others go on
            return Measured(errors={_in_one_line(error): 1})


def _in_one_line(error: Exception) -> str:
    return " ".join(traceback.format_exception_only(error)).strip().replace("\n", " ")
