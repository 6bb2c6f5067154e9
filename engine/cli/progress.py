"""Progress bars for what takes long, on the standard error output; none where that is no terminal."""

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
)

from engine.backup import BackupProgress
from engine.cli.terminal import errors
from engine.ports import Progress as Report


def event_bars(*, shown: bool = True) -> Progress:
    """Return bars that count events. A context manager, like all of these."""
    return _bars(MofNCompleteColumn(), TextColumn("events"), shown=shown)


def byte_bars() -> Progress:
    """Return bars that count bytes."""
    return _bars(DownloadColumn())


def share_bars() -> Progress:
    """Return bars that say which part is done, of work that is counted now in this, now in that."""
    return _bars(TaskProgressColumn())


def _bars(*columns: ProgressColumn, shown: bool = True) -> Progress:
    terminal = errors()
    described = TextColumn("{task.description:<10}", markup=False), BarColumn(), *columns
    return Progress(*described, console=terminal, transient=True, disable=not (shown and terminal.is_terminal))


def reporting(bars: Progress, description: str) -> Report:
    """Return what moves a new bar when the engine calls it."""
    task = bars.add_task(description, total=None)
    return lambda done, total: bars.update(task, completed=done, total=total)


def reporting_each(bars: Progress) -> BackupProgress:
    """Return what moves a bar for each kind of work that the engine names when it calls it."""
    tasks: dict[str, TaskID] = {}

    def report(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bars.add_task(what, total=None)
        bars.update(tasks[what], completed=done, total=total)

    return report
