"""The protocol of a log that gives runs away and takes them in, and what it answers."""

from collections.abc import AsyncGenerator, Sequence
from typing import BinaryIO, Protocol

from msgspec import Struct

from engine.ports import Progress


class ImportedRun(Struct, frozen=True, kw_only=True):
    """A run that is in the store now; `existed` when it was there before, the same in every byte."""

    run_id: str
    branches: int
    events: int
    existed: bool


class Imported(Struct, frozen=True):
    """What an export held, in its order."""

    runs: tuple[ImportedRun, ...]

    @property
    def events(self) -> int:
        """How many events were recorded."""
        return sum(run.events for run in self.runs if not run.existed)


class Transfer(Protocol):
    """Gives runs away as lines, and takes them in."""

    def export_runs(
        self, run_ids: Sequence[str] | None, *, with_sources: bool, readable: bool, progress: Progress | None
    ) -> AsyncGenerator[bytes, None]: ...

    async def import_runs(self, file: BinaryIO, progress: Progress | None) -> Imported: ...
