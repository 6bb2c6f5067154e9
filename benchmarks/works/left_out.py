"""W11: where the parallel writes of W1 spend their time: the same work with one part of the engine left out.

A part costs as much time as the work saves without it. The result is then no valid store, and is not checked. As a
complement, all of the engine's statements are run again without the engine.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from benchmarks.operations import PAIR, seconds_of
from benchmarks.peers.registry import ANABRANCH, LIMIT, RELAXED, load
from benchmarks.results import Measured
from benchmarks.scale import WARM_UP, Scale
from benchmarks.works.statements_alone import repeat
from benchmarks.works.work import Column, Work
from benchmarks.writing import two_sets_of_branches
from engine.commands import Command, Request, StartAttempt
from engine.events import AttemptCreated, RecordedEvent
from engine.logs.sqlite import SqliteEventLog
from engine.logs.sqlite_append import Appender
from engine.logs.sqlite_heads import CachedHeads
from engine.ports import Answer, Recorded
from projections.partitions import Partitions
from projections.table import Table

US_PER_PAIR: Final = Column("us_per_pair", "µs a pair", 1)
"""The time of a pair of operations: setting parameters, and logging a step with an attempt and finishing it."""

_APPEND: Final = "engine.logs.sqlite_append"


def _no_hashes() -> AbstractContextManager[Any]:
    return patch.multiple(_APPEND, link=lambda *_: bytes(32), payload_digest=lambda _: b"")


def _no_event_rows() -> AbstractContextManager[Any]:
    return patch.object(Appender, "_insert_events", _letting_go_of("_rows"))


def _no_heads() -> AbstractContextManager[Any]:
    return patch.object(CachedHeads, "flush", _letting_go_of("_changed"))


def _no_view_rows() -> AbstractContextManager[Any]:
    left_out = ExitStack()
    for owner, method, buffered in (
        (Table, "_write", "_unwritten"),
        (Partitions, "flush_parameters", "_parameters"),
    ):
        left_out.enter_context(patch.object(owner, method, _letting_go_of(buffered)))
    return left_out


def _letting_go_of(buffered: str) -> Callable[[Any], None]:
    return lambda holder: getattr(holder, buffered).clear()


def _no_recording() -> AbstractContextManager[Any]:
    return patch.object(SqliteEventLog, "append", _answered_at_once)


def _answered_at_once(_log: SqliteEventLog, requests: Sequence[Request]) -> asyncio.Future[list[Answer]]:
    answered = asyncio.get_running_loop().create_future()
    answered.set_result([Recorded(tuple(map(_started, request.commands)), 1) for request in requests])
    return answered


def _started(command: Command) -> RecordedEvent:
    """Return the event that the engine looks for in the answer to a start; it reads no other answer."""
    attempt_id = command.attempt_id if isinstance(command, StartAttempt) else ""
    event = AttemptCreated(branch=command.branch, step="step", attempt_id=attempt_id, attempt_index=1)
    return RecordedEvent(1, "", command.branch, 1, "", datetime.now(UTC), b"", event)


WHOLE: Final = ANABRANCH
STATEMENTS: Final = "its statements alone"
PARTS: Final[dict[str, Callable[[], AbstractContextManager[Any]]]] = {
    "without hashes": _no_hashes,
    "without rows of events": _no_event_rows,
    "without rows of views": _no_view_rows,
    "without stream heads on disk": _no_heads,
    "without recording at all": _no_recording,
}


def measure(participant: str, folder: Path, scale: Scale) -> Measured:
    """Do the work once."""
    return asyncio.run(_measure(participant, folder, scale))


async def _measure(participant: str, folder: Path, scale: Scale) -> Measured:
    if participant == STATEMENTS:
        seconds, durability = await repeat(folder, scale)
        return _measured(seconds, scale, durability)
    peer = load(WHOLE if participant in PARTS else participant)
    await peer.create(folder)
    async with peer.open(folder, shared=False) as store:
        warm_up, writers = await two_sets_of_branches(store, scale.branches)
        with PARTS.get(participant, nullcontext)():
            await seconds_of(warm_up, min(WARM_UP.operations, scale.operations))
            seconds = await seconds_of(writers, scale.operations)
        return _measured(seconds, scale, await store.durability())


def _measured(seconds: float, scale: Scale, durability: str) -> Measured:
    pairs = scale.branches * scale.operations // PAIR
    return Measured(figures={US_PER_PAIR.figure: seconds / pairs * 1e6}, durability=durability)


WORK: Final = Work(
    name="W11",
    title="what W1 spends its time on",
    participants=lambda _: (WHOLE, *PARTS, STATEMENTS, RELAXED, LIMIT),
    columns=lambda _: (US_PER_PAIR,),
    measure=measure,
)
