"""The protocol of a log that exports and imports runs, and its results."""

from collections.abc import AsyncGenerator, Sequence
from typing import BinaryIO, Protocol

from msgspec import Struct

from engine.ports import Progress


class ImportedRun(Struct, frozen=True, kw_only=True):
    """A run of the export, now in the store; `existed` if it was there before, byte for byte the same."""

    run_id: str
    branches: int
    events: int
    existed: bool


class Imported(Struct, frozen=True):
    """The runs of an imported export, in the file's order."""

    runs: tuple[ImportedRun, ...]

    @property
    def events(self) -> int:
        """The number of events that the import recorded."""
        return sum(run.events for run in self.runs if not run.existed)


class Transfer(Protocol):
    """Exports runs as lines and imports them."""

    def export_runs(
        self, run_ids: Sequence[str] | None, *, with_sources: bool, readable: bool, progress: Progress | None
    ) -> AsyncGenerator[bytes, None]: ...

    async def import_runs(self, file: BinaryIO, progress: Progress | None) -> Imported: ...
