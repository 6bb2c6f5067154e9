"""The Merkle trees over the runs of a SQLite log, and their comparison with an earlier checkpoint. Pure."""

from collections.abc import Mapping, Sequence

from msgspec import Struct, field

from engine.checkpoint import Checkpoint
from engine.findings import Problem
from engine.logs.sqlite_ledger import Tombstone
from engine.model import Head
from engine.proof.merkle import Tree, run_leaf
from engine.times import from_microseconds


class _TreeAt(Struct):
    """The Merkle tree over the runs as of a position."""

    position: int
    tree: Tree = field(default_factory=Tree)


class Trees:
    """The tree at the end of a log and, to be compared, the one at an earlier checkpoint. Filled in the runs' order.

    `deleted` are the ids of the deleted runs that the earlier tree covers.

    Args:
        last: the log's last position.
        deletions_until: the time of the last deletion that the checkpoint covers.
    """

    def __init__(self, last: int, since: Checkpoint | None = None, *, deletions_until: int = -1) -> None:
        self.deleted: list[str] = []
        self._since = since
        self._deletions_until = deletions_until
        self._now = _TreeAt(last)
        self._first = self._now if since is None else _TreeAt(since.position)
        self._all = [self._now] if since is None else [self._first, self._now]
        self._unprovable = False

    @property
    def positions(self) -> list[int]:
        """The positions of the trees."""
        return [each.position for each in self._all]

    @property
    def root(self) -> str:
        """The root of the tree at the end of the log, 64 hexadecimal digits."""
        return self._now.tree.root().hex()

    def add(self, run_id: str, heads: Mapping[int, Sequence[Head]]) -> None:
        """Add a run's leaf to each tree, by its heads as of the tree's position; it has none before it began."""
        for each in self._all:
            if heads.get(each.position):
                each.tree.add(run_leaf(run_id, heads[each.position]))

    def add_deleted(self, run: Tombstone) -> list[Problem]:
        """Add a deleted run's leaf in place of the run's; return what was lost since the checkpoint."""
        first = self._first.position
        if run.first_position <= first:
            self.deleted.append(run.run_id)
        later = self._since is not None and run.deleted_at > self._deletions_until
        for each in self._all:
            if run.first_position <= each.position:
                # The checkpoint covers either the run or its deletion, which comparing the roots confirms. Its time
                # cannot tell which: a deletion may have begun before the checkpoint and been committed after it.
                each.tree.add(run.leaf if later and each is self._first else run.leaf_now())
        when = from_microseconds(run.deleted_at).isoformat(timespec="seconds")
        if later and run.last_position <= first:
            message = f"the run was deleted after the checkpoint, at {when} according to the store: {run.reason}"
            return [Problem(kind="deleted", message=message, run_id=run.run_id)]
        if self._since is not None and run.first_position <= first < run.last_position:
            message = (
                f"the run continued after the checkpoint and was deleted at {when}, according to the store:"
                f" {run.reason}; its state at the checkpoint cannot be proven"
            )
            self._unprovable = True
            return [Problem(kind="checkpoint", message=message, run_id=run.run_id, position=first)]
        return []

    def differences(self, *, unreadable: bool) -> list[Problem]:
        """Return how the log differs from the checkpoint.

        Args:
            unreadable: the heads of some runs are unknown.
        """
        since, first, last = self._since, self._first.tree, self._now.position
        if since is None:
            return []
        if last < since.position:
            message = f"the checkpoint is at position {since.position}, but the log ends at position {last}"
        elif unreadable:
            return []
        elif first.size != since.runs:
            covered = f"the checkpoint covers {since.runs} runs up to position {since.position}"
            message = f"{covered}, but the log has {first.size}"
        elif first.root().hex() != since.root and not self._unprovable:
            message = f"the history up to position {since.position} does not match the checkpoint"
        else:
            return []
        return [Problem(kind="checkpoint", message=message, position=since.position)]
