"""The lineage of a value: the event that wrote it, what that event combined, and what it overwrote. Plain structs."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final, Literal

from msgspec import Struct, field

from engine.model import Parameter

DEPTH_DEFAULT: Final = 32
DEPTH_MAX: Final = 100
"""Levels of reductions in one lineage: printing, comparing or encoding deeper structs could exceed recursion limits."""

LIMIT_DEFAULT: Final = 1_000
LIMIT_MAX: Final = 100_000


class During(Struct, frozen=True):
    """The attempt that was open on the branch when an event was recorded; `status` is its current one."""

    step: str
    attempt_index: int
    attempt_id: str
    status: str


class ForkPoint(Struct, frozen=True):
    """The point of a branch (of this run or another) from which a branch or a run was forked."""

    run_id: str
    branch: str
    stream_version: int


class ConflictOutcome(Struct, frozen=True):
    """A conflict: the parent and a child had changed the value since the child's fork, to different values.

    `base` is the value at the fork, None if there was none. `taken` says whether the child's value contributed to the
    reduced value; the parent's never does.
    """

    branch: str
    base: Parameter | None
    parent: Parameter
    child: Parameter
    taken: bool


class Written(Struct, frozen=True, kw_only=True):
    """A value and the event that wrote it.

    `how` is `"carried"` if the value came from another run that was deleted since: the event is the one that carried it
    over, and the lineage ends there. It is `"copied"` if a host's store copied the value from another branch.
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
    """A value, the event that wrote it, and the sources of that event.

    `rule` is the reduction's, None if the value was set. `sources` are the child events that the reduced value was made
    from, or the event that wrote a copied value; `passed_over` are the other children's values, which the rule did not
    take; both in the children's order. A reduced value without either came from its caller. `more` counts the
    reduction's children that were not looked into because of the requested depth or limit.

    `overwrote` is the value that the branch saw just before the event, its own or an inherited one. `history`, if
    requested, holds that value and all earlier ones, newest first; it is complete if the last one overwrote nothing.
    `inherited_through` are the forks between the queried branch and the event, nearest first.

    `during` is the attempt that was open on the event's branch at that time, if there was exactly one (not counting
    attempts that have been removed since). Events do not record their cause: another writer may have written to the
    branch while that attempt was open.
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
        """Yield this value, its sources and its history, recursively; each value before its sources."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += [*reversed(node.history), *reversed(node.sources)]


class LineageQuery(Struct, frozen=True):
    """A request for a lineage, with its depth and limit, and whether to include the history."""

    name: str
    history: bool = False
    depth: int = DEPTH_DEFAULT
    limit: int = LIMIT_DEFAULT
