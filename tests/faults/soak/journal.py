"""What a worker was acknowledged, line by line in a file: each move before it is made, and its outcome.

A line is one write to the page cache, which survives `kill -9`. A line that a kill cut off was never written: the next
to open the journal removes it, and repeats the move that has no outcome.
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
    """The part of an event that is noted: enough to find it again and to know that it is the same.

    `hash` is its first 16 hexadecimal digits; `erased` is the stream version that a `PayloadErased` event erased.
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
        """`hash` as a number."""
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
    """A move about to be made; what it records comes after the position `after`."""

    number: int
    after: int
    move: Move


class Done(Struct, frozen=True, tag=True):
    """The move was acknowledged after that many seconds; `again` if it was repeated after a kill."""

    number: int
    after: int
    events: list[Noted]
    seconds: float
    again: bool


class Refused(Struct, frozen=True, tag=True):
    """The move was refused and recorded nothing. If `again`, it may have been recorded before, and deleted since."""

    number: int
    after: int
    error: str
    again: bool


Answer: TypeAlias = Done | Refused
_LINES: Final = msgspec.json.Decoder(Asked | Done | Refused)


class Lines:
    """A file of lines that survive `kill -9`; opened again, it continues after the last whole line."""

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

    `unanswered` is the move that a kill interrupted, if there is one.
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
        """Note the outcome of a move."""
        self.after = answer.after
        self._lines.append(msgspec.json.encode(answer))

    def close(self) -> None:
        self._lines.close()


def read_journal(path: Path) -> Iterator[tuple[Asked, Answer]]:
    """Yield every move with its outcome; assert that each has one."""
    with path.open("rb") as file:
        for line in file:
            asked, answer = _LINES.decode(line), _LINES.decode(next(file))
            assert isinstance(asked, Asked)
            assert not isinstance(answer, Asked)
            assert asked.number == answer.number
            yield asked, answer
