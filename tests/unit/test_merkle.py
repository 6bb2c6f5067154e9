"""The Merkle tree over a store's runs follows RFC 6962; a leaf covers a run's id and its heads."""

from hashlib import sha256

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.model import Head
from engine.proof.merkle import Tree, run_leaf

# The common test vectors for RFC 6962: inputs, and the roots over the first 0 to 8 of them.
INPUTS = [bytes.fromhex(each) for each in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def leaf(data: bytes) -> bytes:
    return sha256(b"\x00" + data).digest()


def tree_hash(data: list[bytes]) -> bytes:
    """The recursive definition of section 2.1 of RFC 6962."""
    if not data:
        return sha256().digest()
    if len(data) == 1:
        return leaf(data[0])
    split = 1
    while split * 2 < len(data):
        split *= 2
    return sha256(b"\x01" + tree_hash(data[:split]) + tree_hash(data[split:])).digest()


def grown(data: list[bytes]) -> Tree:
    tree = Tree()
    for each in data:
        tree.add(leaf(each))
    return tree


@pytest.mark.parametrize("size", range(9))
def test_known_roots(size: int) -> None:
    """The roots of the first 0 to 8 test inputs are the published ones."""
    assert grown(INPUTS[:size]).root().hex() == ROOTS[size]
    assert tree_hash(INPUTS[:size]).hex() == ROOTS[size]


@given(st.lists(st.binary(max_size=4), max_size=70))
def test_the_root_is_that_of_the_recursive_definition(data: list[bytes]) -> None:
    """At every size, the root equals the recursive definition, and reading it does not change the tree."""
    tree = Tree()
    for size, each in enumerate(data, start=1):
        tree.add(leaf(each))
        assert tree.root() == tree.root() == tree_hash(data[:size])
    assert tree.size == len(data)


def test_a_tree_keeps_few_hashes() -> None:
    """A tree keeps one hash for each set bit of its size."""
    tree = grown([b""] * 1000)
    assert len(tree._complete) == (1000).bit_count()


def test_what_a_leaf_holds() -> None:
    """A leaf hashes the run's id and the branch, version and hash of each head, in the order given."""
    heads = [Head("", 3, bytes(32)), Head("a", 1, b"\x01" * 32)]
    data = msgspec.msgpack.encode(["r", [["", 3, bytes(32)], ["a", 1, b"\x01" * 32]]])
    assert run_leaf("r", heads) == leaf(data)


@pytest.mark.parametrize(
    ("run_id", "heads"),
    [
        ("s", [Head("", 3, b"h"), Head("a", 1, b"i")]),
        ("r", [Head("", 4, b"h"), Head("a", 1, b"i")]),
        ("r", [Head("", 3, b"x"), Head("a", 1, b"i")]),
        ("r", [Head("", 3, b"h"), Head("b", 1, b"i")]),
        ("r", [Head("a", 1, b"i"), Head("", 3, b"h")]),
        ("r", [Head("", 3, b"h")]),
    ],
)
def test_every_part_of_a_leaf_counts(run_id: str, heads: list[Head]) -> None:
    """A leaf changes with the run's id, with any head and with the order of the heads."""
    assert run_leaf(run_id, heads) != run_leaf("r", [Head("", 3, b"h"), Head("a", 1, b"i")])
