"""The tree over the runs of a store: one root commits to every event of all of them.

It is the Merkle tree of RFC 6962, section 2.1, with SHA-256: a leaf is hashed as `SHA-256(0x00 ‖ data)`, a node as
`SHA-256(0x01 ‖ left ‖ right)`, and the tree over nothing is `SHA-256()`. A leaf's data is canonical MessagePack of a
run's id and the head of each of its streams, in the order in which they were opened; the leaves stand in the order in
which the runs were.
"""

from collections.abc import Iterable
from hashlib import sha256
from typing import Final

from engine.codec import encode_canonical
from engine.model import Head

_LEAF: Final = b"\x00"
_NODE: Final = b"\x01"


def run_leaf(run_id: str, heads: Iterable[Head]) -> bytes:
    """Return the hash of a run's leaf, 32 bytes.

    Args:
        heads: of every stream, in the order in which they were opened.
    """
    data = encode_canonical((run_id, [(head.branch, head.stream_version, head.hash) for head in heads]))
    return sha256(_LEAF + data).digest()


def deleted_leaf(run_id: str, leaf: bytes, deleted_at: int, reason: str) -> bytes:
    """Return the hash of the leaf of a run that was deleted.

    It commits to what the run was, and to when and why it went.

    Args:
        leaf: the run's own, over its heads when it was deleted.
        deleted_at: in microseconds since 1970, UTC.
    """
    return sha256(_LEAF + encode_canonical(("deleted", run_id, leaf, deleted_at, reason))).digest()


class Tree:
    """Grows leaf by leaf, and keeps one hash for each complete subtree: as many as the size has binary digits."""

    def __init__(self) -> None:
        self.size = 0
        self._complete: list[tuple[int, bytes]] = []

    def add(self, leaf: bytes) -> None:
        """Add the hash of the next leaf."""
        self.size += 1
        height, subtree = 0, leaf
        while self._complete and self._complete[-1][0] == height:
            subtree = _node(self._complete.pop()[1], subtree)
            height += 1
        self._complete.append((height, subtree))

    def root(self) -> bytes:
        """Return the root over the leaves so far, 32 bytes."""
        if not self._complete:
            return sha256().digest()
        hashes = [subtree for _, subtree in self._complete]
        root = hashes.pop()
        while hashes:
            root = _node(hashes.pop(), root)
        return root


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(_NODE + left + right).digest()
