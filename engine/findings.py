"""The result of a verification."""

from typing import Literal, TypeAlias

from msgspec import Struct

ProblemKind: TypeAlias = Literal[
    "payload",
    "header",
    "content",
    "hash",
    "order",
    "missing event",
    "missing stream",
    "head",
    "link",
    "reduction",
    "checkpoint",
    "deleted",
    "unreadable",
    "checksum",
]
"""The kind of a problem.

`payload`, `header`: that part of the event differs from what was hashed; `content`: one of the two does, and it cannot
be told which. `hash`: the stored hash was changed. `order`: an event is in the wrong place. `missing event`, `missing
stream`: the log has lost it. `head`: the stream's row disagrees with its last event. `link`: a parent, child or source
is not as the event says. `reduction`: the values do not follow from the children's events. `checkpoint`: the log lacks
something that the checkpoint commits to. `deleted`: the store records that a run in the checkpoint was deleted since.
`unreadable`: SQLite cannot read the pages that hold the rest of the run. `checksum`: an idempotency key, or the record
of a deleted run, was changed.

No hash commits to the relative order of events in streams that no link connects, so swapping those is not detected. The
views are not checked: they are not history.
"""


class Problem(Struct, frozen=True, kw_only=True):
    """The first problem of a stream; fields that do not apply are None.

    For a missing event, `stream_version` is its own and `position` that of the event found in its place.
    """

    kind: ProblemKind
    message: str
    run_id: str | None = None
    branch: str | None = None
    stream_version: int | None = None
    position: int | None = None


class Verification(Struct, frozen=True, kw_only=True):
    """What was checked, and the problems found.

    `position` is that of the last event when the check began; `root` is the root of the tree over the runs as of then
    (`engine.proof.merkle`), 64 hexadecimal digits; for a single run, of a tree with only its leaf. `deleted` are the
    ids of the runs that the store records as deleted; with a checkpoint, only those that were in it.
    """

    store_id: str
    position: int
    runs: int
    streams: int
    events: int
    root: str
    problems: list[Problem]
    deleted: list[str]

    @property
    def in_history(self) -> list[Problem]:
        """The problems of the history itself, without those of accompanying data such as idempotency keys."""
        return [each for each in self.problems if each.kind != "checksum"]
