"""The Merkle tree over the runs of a store: one root hash commits to every event of every run.

It is the tree of RFC 6962, section 2.1, with SHA-256: a leaf is hashed as `SHA-256(0x00 ‖ data)`, a node as
`SHA-256(0x01 ‖ left ‖ right)`, and the empty tree is `SHA-256()`. A leaf's data is canonical MessagePack of a run's id
and its streams' heads, in the order in which the streams were opened; leaves are in the order in which the runs were
opened.
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
        heads: of every stream, in the order in which the streams were opened.
    """
    data = encode_canonical((run_id, [(head.branch, head.stream_version, head.hash) for head in heads]))
    return sha256(_LEAF + data).digest()


def deleted_leaf(run_id: str, leaf: bytes, deleted_at: int, reason: str) -> bytes:
    """Return the hash of a deleted run's leaf, which commits to the run's history and to when and why it was deleted.

    Args:
        leaf: the run's `run_leaf` over its heads at the deletion.
        deleted_at: in microseconds since 1970, UTC.
    """
    return sha256(_LEAF + encode_canonical(("deleted", run_id, leaf, deleted_at, reason))).digest()


class Tree:
    """Grows leaf by leaf; keeps one hash per complete subtree, so memory is logarithmic in the number of leaves."""

    def __init__(self) -> None:
        self.size = 0
        self._complete: list[tuple[int, bytes]] = []

    def add(self, leaf: bytes) -> None:
        """Add the next leaf's hash."""
        self.size += 1
        height, subtree = 0, leaf
        while self._complete and self._complete[-1][0] == height:
            subtree = _node(self._complete.pop()[1], subtree)
            height += 1
        self._complete.append((height, subtree))

    def root(self) -> bytes:
        """Return the root hash over the leaves so far, 32 bytes."""
        if not self._complete:
            return sha256().digest()
        hashes = [subtree for _, subtree in self._complete]
        root = hashes.pop()
        while hashes:
            root = _node(hashes.pop(), root)
        return root


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(_NODE + left + right).digest()
