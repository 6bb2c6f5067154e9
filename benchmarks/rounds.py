"""Rounds: in each, every participant is measured once, and the order changes from round to round."""

import contextlib
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias, TypeVar

from benchmarks.isolation import in_fresh_process, in_this_process
from benchmarks.results import Measured, WorkResult, summed_up
from benchmarks.scale import SMOKE, Scale
from benchmarks.works.work import Work

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress: TypeAlias = Callable[[str], None]


def measure(
    work: Work, participants: Sequence[str], scale: Scale, *, rounds: int, folder: Path, progress: Progress
) -> WorkResult:
    """Measure a work in interleaved rounds, so that changes in the machine's pace affect all participants alike.

    Args:
        folder: on the disk to write to; everything made below it is removed again.
        progress: called with a text before each measurement.
    """
    measured: dict[str, list[Measured]] = {participant: [] for participant in participants}
    rounds = min(rounds, work.rounds_max or rounds)
    with _prepared(work, scale, folder, progress) as prepared:
        for number in range(rounds):
            for participant in rotated(participants, number):
                progress(f"{work.name} round {number + 1} of {rounds}: {participant}")
                measured[participant].append(_once(work, participant, scale, folder, prepared))
    rows = [summed_up(participant, each) for participant, each in measured.items()]
    return WorkResult(work=work.name, title=work.title, rows=rows)


def rotated(items: Sequence[Item], places: int) -> Iterator[Item]:
    """Yield all items, starting that many places further on."""
    for index in range(len(items)):
        yield items[(index + places) % len(items)]


@contextlib.contextmanager
def _prepared(work: Work, scale: Scale, folder: Path, progress: Progress) -> Iterator[Path | None]:
    if work.prepare is None:
        yield None
        return
    progress(f"{work.name}: preparing")
    with _temporary(folder) as prepared:
        _run(scale, work.prepare, prepared, scale)
        yield prepared


def _once(work: Work, participant: str, scale: Scale, folder: Path, prepared: Path | None) -> Measured:
    with contextlib.nullcontext(prepared) if prepared is not None else _temporary(folder) as own:
        try:
            return _run(scale, work.measure, participant, own, scale)
        except Exception as error:  # noqa: BLE001 - a participant's failure is a result: it is shown, the others go on
            return Measured(errors={_in_one_line(error): 1})


def _run(scale: Scale, job: Callable[..., Result], *arguments: Any) -> Result:
    # A smoke run measures no times, and would spend most of its own on starting processes.
    return in_this_process(job, *arguments) if scale is SMOKE else in_fresh_process(job, *arguments)


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    with TemporaryDirectory(dir=folder, prefix=".benchmark-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def _in_one_line(error: Exception) -> str:
    return " ".join(" ".join(traceback.format_exception_only(error)).split())
