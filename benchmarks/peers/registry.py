"""The peers, what each needs, and how to load one without importing the packages of the others."""

import contextlib
import importlib
import io
from collections.abc import Sequence
from importlib import metadata
from typing import Final, cast

from msgspec import Struct

from benchmarks.ports import Peer

ANABRANCH: Final = "anabranch"
RELAXED: Final = "anabranch relaxed"
LIMIT: Final = "limit (a): group commit"
PLAIN: Final = "plain aiosqlite"
EVENTSOURCING: Final = "eventsourcing recorder"


class PeerEntry(Struct, frozen=True, kw_only=True):
    """A peer: `path` names its module and class, `settings` are the class's arguments.

    `distribution` must be installed, and `extra` installs it. On a slow peer, each branch does only one in `shortened`
    of the operations; this favours peers that slow down as they grow.
    """

    name: str
    path: str
    settings: tuple[str, ...] = ()
    distribution: str = "anabranch"
    extra: str = ""
    shortened: int = 1

    @property
    def version(self) -> str | None:
        """The installed version, or None."""
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return None


PEERS: Final[Sequence[PeerEntry]] = (
    PeerEntry(name=ANABRANCH, path="benchmarks.peers.anabranch:Anabranch"),
    PeerEntry(name=RELAXED, path="benchmarks.peers.anabranch:Anabranch", settings=("relaxed",)),
    PeerEntry(name=LIMIT, path="benchmarks.peers.limit:Limit"),
    PeerEntry(name=PLAIN, path="benchmarks.peers.plain_aiosqlite:PlainAiosqlite", distribution="aiosqlite"),
    PeerEntry(
        name=EVENTSOURCING,
        path="benchmarks.peers.eventsourcing_recorder:EventsourcingRecorder",
        distribution="eventsourcing",
        extra="bench",
    ),
    PeerEntry(
        name="langgraph saver",
        path="benchmarks.peers.langgraph_saver:LanggraphSaver",
        distribution="langgraph-checkpoint-sqlite",
        extra="bench",
    ),
    PeerEntry(
        name="runnable chunked-fs",
        path="benchmarks.peers.runnable_chunked:RunnableChunked",
        distribution="runnable",
        extra="runnable",
        shortened=5,
    ),
    PeerEntry(
        name="dagster event log",
        path="benchmarks.peers.dagster_event_log:DagsterEventLog",
        distribution="dagster",
        extra="bench",
        shortened=10,
    ),
)


def entry(name: str) -> PeerEntry:
    """Return the peer of that name."""
    return next(each for each in PEERS if each.name == name)


def load(name: str) -> Peer:
    """Import a peer's module and return the peer."""
    found = entry(name)
    module, _, attribute = found.path.partition(":")
    with contextlib.redirect_stdout(io.StringIO()):  # some print when imported
        imported = importlib.import_module(module)
    return cast("Peer", getattr(imported, attribute)(*found.settings))
