"""The protocols of a peer: it does the logical work of `benchmarks.operations`, and reports what it has stored."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol, runtime_checkable

from benchmarks.operations import BranchWriter, Found, Values


class Store(Protocol):
    """One peer's open store, which holds one run."""

    async def branch(self, name: str) -> BranchWriter:
        """Open a new branch of the run; this is not measured."""
        ...

    async def found(self) -> dict[str, Found]:
        """Return what the store holds of each branch, read back from the store itself."""
        ...

    async def durability(self) -> str:
        """Return what a write that has returned survives, read from the store's settings where possible."""
        ...


@runtime_checkable
class ReadableStore(Store, Protocol):
    """A store that can read the parameters of single branches."""

    async def latest(self, branches: Sequence[str]) -> list[Values]:
        """Return the current parameters of each branch, with as few reads as the peer allows."""
        ...


@runtime_checkable
class ReducingStore(ReadableStore, Protocol):
    """A store that can reduce children itself."""

    async def reduce(self, branches: Sequence[str]) -> None:
        """Fold the parameters of some branches into the root, durably, like `benchmarks.operations.folded`."""
        ...


class Peer(Protocol):
    """A way to store runs."""

    async def create(self, folder: Path) -> None:
        """Create the store and the run in an empty folder, once, before any process opens it."""
        ...

    def open(self, folder: Path, *, shared: bool) -> AbstractAsyncContextManager[Store]:
        """Open the store in a folder; several processes may have it open.

        Args:
            shared: whether other processes write to it as well.
        """
        ...
