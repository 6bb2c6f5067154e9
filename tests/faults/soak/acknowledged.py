"""Everything that the workers of a soak were acknowledged; each move must have recorded its events exactly once."""

import heapq
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

from msgspec import Struct, field

from tests.faults.soak.journal import Asked, Done, Move, Noted, Refused, read_journal
from tests.faults.soak.model import Model
from tests.faults.soak.moves import CreateRun, ForkRun
from tests.faults.soak.upkeep import Collect, DeleteRun, Erase, Verify

_Applied: TypeAlias = tuple[int, str, Move | None, list[Noted]]
_CHECKPOINTS_KEPT: Final = 8


class Acknowledged(Struct):
    """The sum of all journals.

    `marks` holds, for each acknowledged position, the first 8 bytes of its event's hash as a number, and `events` the
    number of events of each run. `sources` are the runs that runs were forked from. `removals` are the moves that may
    have deleted runs, by key, with the run if it names one. `lost` are the runs of moves that were repeated and
    refused: they may have been recorded before, and deleted with the run. `checkpoints` were taken on the way.
    """

    marks: "array[int]"  # not generic before Python 3.12
    events: Counter[str] = field(default_factory=Counter)
    moves: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    again: int = 0
    longest_seconds: dict[str, float] = field(default_factory=dict)
    created: set[str] = field(default_factory=set)
    sources: dict[str, str] = field(default_factory=dict)
    removals: dict[str, str | None] = field(default_factory=dict)
    lost: set[str | None] = field(default_factory=set)
    checkpoints: list[str] = field(default_factory=list)

    def note(self, key: str, asked: Asked, answer: Done | Refused) -> None:
        """Add one move of one journal."""
        name = type(asked.move).__name__
        self.again += answer.again
        if isinstance(asked.move, DeleteRun | Collect):  # refused ones, too: they may have been done before a kill
            self.removals[key] = getattr(asked.move, "run_id", None)
        if isinstance(answer, Done):
            self.moves[name] += 1
            self.longest_seconds[name] = max(answer.seconds, self.longest_seconds.get(name, 0))
            self._take(asked.move)
            self._mark(key, asked.move, answer.events)
        else:
            self.refused[f"{name}: {answer.error}"] += 1
            if answer.again:
                self.lost.add(getattr(asked.move, "run_id", None))

    def _take(self, move: Move) -> None:
        if isinstance(move, CreateRun | ForkRun):
            self.created.add(move.run_id)
        if isinstance(move, ForkRun):
            self.sources[move.run_id] = move.source
        if isinstance(move, Verify) and len(self.checkpoints) < _CHECKPOINTS_KEPT:
            self.checkpoints.append(move.since)

    def _mark(self, key: str, move: Move, events: Iterable[Noted]) -> None:
        types = Counter(each.event_type for each in events)
        once = {name: types[name] for name in move.recorded_once}
        assert once == dict.fromkeys(move.recorded_once, 1), f"{key}, {move}, has recorded {types}"
        for each in events:
            assert self.marks[each.position] == 0, f"{key} and another move were both acknowledged {each}"
            self.marks[each.position] = each.mark
            self.events[each.run_id] += 1


def read_acknowledged(folder: Path, last_position: int) -> Acknowledged:
    """Return the sum of the journals in a folder."""
    acknowledged = Acknowledged(marks=array("Q", bytes(8 * (last_position + 1))))
    for path in sorted(folder.glob("*.journal")):
        for asked, answer in read_journal(path):
            acknowledged.note(f"{path.stem} {asked.number}", asked, answer)
    return acknowledged


def replay(folder: Path, runs: set[str], carried_over: Iterable[Noted]) -> Model:
    """Return the model of some runs, after their moves and after the deletion of their sources."""
    model = Model()
    by_the_store: Iterator[_Applied] = ((each.position, "", None, [each]) for each in carried_over)
    journals = map(_applied, sorted(folder.glob("*.journal")))
    for _, key, move, events in heapq.merge(by_the_store, *journals, key=lambda each: each[0]):
        if events[0].run_id not in runs:
            continue
        if move is None:
            model.carry_over(events[0].run_id)
        elif isinstance(move, Erase):
            (erasure,) = events
            model.erase((erasure.run_id, erasure.branch), erasure.erased)
        else:
            model.apply(key, move, events)
    return model


def _applied(path: Path) -> Iterator[_Applied]:
    """Yield what a journal's moves recorded, in order, each erasure of an event by itself."""
    for asked, answer in read_journal(path):
        if isinstance(answer, Done) and answer.events:
            for events in [[each] for each in answer.events] if isinstance(asked.move, Erase) else [answer.events]:
                yield events[0].position, f"{path.stem} {asked.number}", asked.move, events
