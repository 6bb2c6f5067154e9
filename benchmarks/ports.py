"""What a peer is: something that can do the logical work of `benchmarks.operations` and say what it has kept."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol, runtime_checkable

from benchmarks.operations import BranchWriter, Found, Values


class Store(Protocol):
    """One peer's open store, holding one run."""

    async def branch(self, name: str) -> BranchWriter:
        """Open a new branch of the run. It is not part of what is measured."""
        ...

    async def found(self) -> dict[str, Found]:
        """Return what the store itself holds of each branch, read back from it."""
        ...

    async def durability(self) -> str:
        """Return what a write that has returned survives, asked of the store where that is possible."""
        ...


@runtime_checkable
class ReadableStore(Store, Protocol):
    """A store whose parameters can be read back one branch at a time."""

    async def latest(self, branches: Sequence[str]) -> list[Values]:
        """Return the parameters of each branch as they stand, with as few reads as the peer has a way for."""
        ...


@runtime_checkable
class ReducingStore(ReadableStore, Protocol):
    """A store that can fold children itself."""

    async def reduce(self, branches: Sequence[str]) -> None:
        """Fold the parameters of some branches into the root, durably, as `benchmarks.operations.folded` does."""
        ...


class Peer(Protocol):
    """A way to store runs."""

    async def create(self, folder: Path) -> None:
        """Make the store and the run in an empty folder, once, before any process opens it."""
        ...

    def open(self, folder: Path, *, shared: bool) -> AbstractAsyncContextManager[Store]:
        """Open the store in a folder, in any number of processes.

        Args:
            shared: other processes write to it as well.
        """
        ...
