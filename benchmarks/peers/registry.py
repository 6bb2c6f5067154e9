"""Which peers there are, what each needs, and how to get at one without importing the others' packages."""

import importlib
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Final, cast

from msgspec import Struct

from benchmarks.ports import Peer

ANABRANCH: Final = "anabranch"
RELAXED: Final = "anabranch relaxed"
LIMIT: Final = "limit (a): group commit"
PLAIN: Final = "plain aiosqlite"


class PeerEntry(Struct, frozen=True, kw_only=True):
    """A peer by name: `path` is of the module and the class in it, `settings` are the class's arguments.

    `package` must be installed, and `extra` brings it. Where a peer is slow, each of its branches does only one in
    `shortened` of the operations: what grows slower as it grows is the faster for it.
    """

    name: str
    path: str
    settings: tuple[str, ...] = ()
    package: str | None = None
    extra: str = ""
    shortened: int = 1

    @property
    def is_installed(self) -> bool:
        """Whether the package that it needs is there."""
        return self.package is None or find_spec(self.package) is not None


PEERS: Final[Sequence[PeerEntry]] = (
    PeerEntry(name=ANABRANCH, path="benchmarks.peers.anabranch:Anabranch"),
    PeerEntry(name=RELAXED, path="benchmarks.peers.anabranch:Anabranch", settings=("relaxed",)),
    PeerEntry(name=LIMIT, path="benchmarks.peers.limit:Limit"),
    PeerEntry(name=PLAIN, path="benchmarks.peers.plain_aiosqlite:PlainAiosqlite"),
)


def entry(name: str) -> PeerEntry:
    """Return the peer of that name."""
    return next(each for each in PEERS if each.name == name)


def load(name: str) -> Peer:
    """Import a peer's module and return the peer."""
    found = entry(name)
    module, _, attribute = found.path.partition(":")
    return cast("Peer", getattr(importlib.import_module(module), attribute)(*found.settings))
