"""What a verification says."""

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
"""What is wrong.

`payload`, `header`: that part of the event is not what was hashed; `content`: one of the two, and it cannot be told
which. `hash`: the stored hash was changed. `order`: an event stands where another belongs. `missing event`, `missing
stream`: the log has lost it. `head`: the stream's row disagrees with its last event. `link`: a parent, a child or a
source is not as the event says. `reduction`: the values do not follow from the children's events. `checkpoint`: the
log does not hold what the checkpoint saw. `deleted`: a run that the checkpoint saw was deleted since, as the store
says. `unreadable`: SQLite cannot read the pages of the file where the rest of the run is. `checksum`: an idempotency
key, or what is kept of a run that was deleted, is not what was written.

No hash commits to the order of events in streams that no link ties to each other: that they changed places is not
found. Nor are the views checked: they are no history.
"""


class Problem(Struct, frozen=True, kw_only=True):
    """The first thing that is wrong with a stream; fields are None where they do not apply.

    Of a missing event, `stream_version` is its own and `position` that of the event that stands in its place.
    """

    kind: ProblemKind
    message: str
    run_id: str | None = None
    branch: str | None = None
    stream_version: int | None = None
    position: int | None = None


class Verification(Struct, frozen=True, kw_only=True):
    """What was checked and what is wrong with it: nothing, when `problems` is empty.

    `position` is that of the last event when the check began; `root` is the root of the tree over the runs as they
    stood there (`engine.proof.merkle`), 64 hexadecimal digits: for one run, that of a tree with its leaf alone.
    `deleted` are the ids of runs that the store says were deleted, of those that the checkpoint saw, if there is one.
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
        """The problems of the history itself: none of what is kept beside it, such as idempotency keys."""
        return [each for each in self.problems if each.kind != "checksum"]
