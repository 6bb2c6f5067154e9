"""What a worker was acknowledged, line by line in a file: each move before it is made, and what came of it.

A line is one write to the page cache, which outlives `kill -9`. A line that a kill cut off was never written: whoever
opens the journal next cuts it away and makes the move again that has no answer.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
from msgspec import Struct

from engine import RecordedEvent
from engine.events import PayloadErased
from tests.faults.soak.moves import (
    CreateRun,
    EndAttempt,
    EndRun,
    Fork,
    ForkRun,
    LogStep,
    PinRun,
    Reduce,
    SetParameters,
    StartAttempt,
)
from tests.faults.soak.upkeep import Collect, Compact, DeleteRun, Erase, Open, Rebuild, Verify, VerifyViews

Move: TypeAlias = (
    CreateRun
    | PinRun
    | ForkRun
    | Fork
    | SetParameters
    | Reduce
    | StartAttempt
    | EndAttempt
    | LogStep
    | EndRun
    | Erase
    | DeleteRun
    | Collect
    | Rebuild
    | VerifyViews
    | Compact
    | Verify
    | Open
)

_TAIL_BYTES: Final = 1 << 20


class Noted(Struct, frozen=True, array_like=True):
    """An event as far as it is noted: enough to find it again and to know that it is the same.

    `hash` is the first half of it; `erased` the version of its stream that it erased.
    """

    position: int
    run_id: str
    branch: str
    version: int
    event_type: str
    hash: str
    erased: int = 0

    @property
    def mark(self) -> int:
        """The hash as a number."""
        return int(self.hash, 16)


def noted(recorded: RecordedEvent) -> Noted:
    return Noted(
        recorded.position,
        recorded.run_id,
        recorded.branch,
        recorded.stream_version,
        type(recorded.event).__name__,
        recorded.hash.hex()[:16],
        recorded.event.stream_version if isinstance(recorded.event, PayloadErased) else 0,
    )


class Asked(Struct, frozen=True, tag=True):
    """A move about to be made; what it records stands behind the position `after`."""

    number: int
    after: int
    move: Move


class Done(Struct, frozen=True, tag=True):
    """The move was acknowledged, after that many seconds; `again` when a kill had broken it off before."""

    number: int
    after: int
    events: list[Noted]
    seconds: float
    again: bool


class Refused(Struct, frozen=True, tag=True):
    """The move was refused: nothing is recorded. If it was made `again`, it may have been, and be gone with its run."""

    number: int
    after: int
    error: str
    again: bool


Answer: TypeAlias = Done | Refused
_LINES: Final = msgspec.json.Decoder(Asked | Done | Refused)


class Lines:
    """A file of lines that survive `kill -9`; opened again, it goes on after the last whole one."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        size = os.fstat(self._descriptor).st_size
        tail = os.pread(self._descriptor, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        whole, end, _ = tail.rpartition(b"\n")
        os.ftruncate(self._descriptor, size - len(tail) + len(whole) + len(end))
        self.last = whole.split(b"\n") if whole else []

    def append(self, line: bytes) -> None:
        os.write(self._descriptor, line + b"\n")

    def close(self) -> None:
        os.close(self._descriptor)


class Journal:
    """The journal of one hand: the number of its last move, and the last position that it was acknowledged.

    `unanswered` is the move that a kill broke off, if there is one.
    """

    def __init__(self, path: Path) -> None:
        self._lines = Lines(path)
        last = _LINES.decode(self._lines.last[-1]) if self._lines.last else None
        self.number = 0 if last is None else last.number
        self.after = 0 if last is None else last.after
        self.unanswered = last if isinstance(last, Asked) else None

    def ask(self, move: Move) -> Asked:
        """Note a move that is about to be made."""
        self.number += 1
        asked = Asked(number=self.number, after=self.after, move=move)
        self._lines.append(msgspec.json.encode(asked))
        return asked

    def answer(self, answer: Answer) -> None:
        """Note what came of it."""
        self.after = answer.after
        self._lines.append(msgspec.json.encode(answer))

    def close(self) -> None:
        self._lines.close()


def read_journal(path: Path) -> Iterator[tuple[Asked, Answer]]:
    """Yield every move with what came of it; all must have been answered."""
    with path.open("rb") as file:
        for line in file:
            asked, answer = _LINES.decode(line), _LINES.decode(next(file))
            assert isinstance(asked, Asked)
            assert not isinstance(answer, Asked)
            assert asked.number == answer.number
            yield asked, answer
