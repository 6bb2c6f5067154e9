"""What a peer is: something that can do the logical work of `benchmarks.operations` and say what it has kept."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from benchmarks.operations import BranchWriter, Found


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
