"""Where a value came from: the event that wrote it, what that event combined, and what it overwrote. Plain structs."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final, Literal

from msgspec import Struct, field

from engine.model import Parameter

DEPTH_DEFAULT: Final = 32
DEPTH_MAX: Final = 100
"""Levels of reductions in one answer: what prints, compares or encodes nested structs goes no deeper than that."""

LIMIT_DEFAULT: Final = 1_000
LIMIT_MAX: Final = 100_000


class During(Struct, frozen=True):
    """The attempt that was open on the branch when an event was recorded; `status` is how it stands now."""

    step: str
    attempt_index: int
    attempt_id: str
    status: str


class ForkPoint(Struct, frozen=True):
    """The point of a branch, of this run or another, at which a branch or a run was forked from it."""

    run_id: str
    branch: str
    stream_version: int


class ConflictOutcome(Struct, frozen=True):
    """Both the parent and a child had changed the value since the child's fork, to different values.

    `base` is the value at the fork, None where there was none. `taken` says whether the child's value went into the
    reduced one; the parent's did not, or no value would have been reduced.
    """

    branch: str
    base: Parameter | None
    parent: Parameter
    child: Parameter
    taken: bool


class Written(Struct, frozen=True, kw_only=True):
    """A value and the event that wrote it.

    `how` is `"carried"` where the value came from another run that was deleted since: the event is the one that kept
    it, and the trail ends there. It is `"copied"` where a host's store copied it from another branch.
    """

    value: Parameter
    run_id: str
    branch: str
    stream_version: int
    position: int
    recorded_at: datetime
    event_id: str
    hash: bytes
    how: Literal["set", "reduced", "carried", "copied"]


class Lineage(Written, frozen=True, kw_only=True):
    """A value, the event that wrote it, and where that event had it from.

    `rule` is the reduction's, None where the value was set. `sources` are the child events that the reduced value was
    made of, or the one event that wrote what was copied; `passed_over` are the values of other children that the rule
    saw and did not take: all in the children's order. A reduced value without either came from its caller. `more`
    counts the reduction's children that were not looked into, because of the depth or the limit that was asked for.

    `overwrote` is what the branch saw under that name just before the event: its own value or an inherited one.
    `history`, where it was asked for, holds that and all before it, newest first; it is complete when its last one
    overwrote nothing. `inherited_through` are the forks between the branch that was asked and the event, nearest first.

    `during` is the attempt of the event's branch that was open then, where exactly one was of those that have not been
    removed since. An event does not say who caused it: another writer may have written to the branch while that attempt
    was open.
    """

    rule: str | None = None
    during: During | None = None
    inherited_through: list[ForkPoint] = field(default_factory=list)
    sources: "list[Lineage]" = field(default_factory=list)
    passed_over: list[Written] = field(default_factory=list)
    more: int = 0
    conflicts: list[ConflictOutcome] = field(default_factory=list)
    overwrote: Written | None = None
    history: "list[Lineage]" = field(default_factory=list)

    def walk(self) -> "Iterator[Lineage]":
        """Yield this value, those that it came from, and those of its history, each before its sources."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += [*reversed(node.history), *reversed(node.sources)]


class LineageWanted(Struct, frozen=True):
    """How much of a lineage is asked for: how deep, how much, and whether with what was overwritten."""

    name: str
    history: bool = False
    depth: int = DEPTH_DEFAULT
    limit: int = LIMIT_DEFAULT
