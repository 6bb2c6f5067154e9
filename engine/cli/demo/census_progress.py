"""Progress bars for the census: one for all top-level entries, and one for each entry being counted."""

from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from engine.cli.terminal import Terminal

_BARS_MAX = 8
_NAME_CELLS = 20


class CensusProgress:
    """A `census.Watcher` that draws on a terminal and is silent elsewhere. A context manager."""

    def __init__(self, terminal: Terminal) -> None:
        self._bars = Progress(
            TextColumn(f"{{task.description:<{_NAME_CELLS}}}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}", markup=False),
            TimeElapsedColumn(),
            console=terminal,
            transient=True,
            disable=not terminal.is_terminal,
        )
        self._all: TaskID | None = None
        self._entries: dict[str, TaskID] = {}
        self._files: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def begun(self, entries: list[str]) -> None:
        self._all = self._bars.add_task("entries", total=len(entries), unit="done")

    def found(self, entry: str, files: int) -> None:
        self._files[entry] = self._files.get(entry, 0) + files
        if files and entry not in self._entries and len(self._entries) < _BARS_MAX:
            self._entries[entry] = self._bars.add_task(entry[:_NAME_CELLS], total=None, unit="files read")
        if entry in self._entries:
            self._bars.update(self._entries[entry], total=self._files[entry])

    def read(self, entry: str, files: int) -> None:
        if entry in self._entries:
            self._bars.advance(self._entries[entry], files)

    def done(self, entry: str) -> None:
        if self._all is not None:
            self._bars.advance(self._all)
        if entry in self._entries:
            self._bars.remove_task(self._entries.pop(entry))
