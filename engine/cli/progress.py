"""Progress bars for long operations, on standard error; none if that is not a terminal."""

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
    """Return bars that count events. All bars are context managers."""
    return _bars(MofNCompleteColumn(), TextColumn("events"), shown=shown)


def byte_bars() -> Progress:
    """Return bars that count bytes."""
    return _bars(DownloadColumn())


def share_bars() -> Progress:
    """Return bars that show percentages, for work that is counted in varying units."""
    return _bars(TaskProgressColumn())


def _bars(*columns: ProgressColumn, shown: bool = True) -> Progress:
    terminal = errors()
    described = TextColumn("{task.description:<10}", markup=False), BarColumn(), *columns
    return Progress(*described, console=terminal, transient=True, disable=not (shown and terminal.is_terminal))


def reporting(bars: Progress, description: str) -> Report:
    """Add a bar, and return the callback that moves it."""
    task = bars.add_task(description, total=None)
    return lambda done, total: bars.update(task, completed=done, total=total)


def reporting_each(bars: Progress) -> BackupProgress:
    """Return a callback that moves one bar for each kind of work it is called with."""
    tasks: dict[str, TaskID] = {}

    def report(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bars.add_task(what, total=None)
        bars.update(tasks[what], completed=done, total=total)

    return report
