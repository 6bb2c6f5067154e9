"""Events as lines: for people with position, time, stream, type and a summary, for scripts as JSON."""

from collections.abc import Callable
from datetime import UTC, date
from typing import Final

from rich.text import Text

from engine.cli.document import event_document, print_json
from engine.cli.escapes import visible
from engine.cli.event_text import event_text
from engine.cli.terminal import Terminal, is_cut, output
from engine.cli.text import branch_text, clock_text, shortened_inside
from engine.events import RecordedEvent

_POSITION_CELLS: Final = 6
_STREAM_CELLS_MIN, _STREAM_CELLS_MAX, _RUN_CELLS_MAX = 16, 28, 28


def event_printer(*, as_json: bool, with_runs: bool = False) -> Callable[[RecordedEvent], None]:
    """Return the function that prints an event as a line on standard output; see `EventLines` for `with_runs`."""
    if as_json:
        return lambda recorded: print_json(event_document(recorded), indent=None)
    return EventLines(output(), with_runs=with_runs).print


class EventLines:
    """Prints one line per event, and a line with the date before the first event of each day.

    Args:
        with_runs: each line also names its run.
    """

    def __init__(self, terminal: Terminal, *, with_runs: bool = False) -> None:
        self._terminal = terminal
        self._with_runs = with_runs
        self._day: date | None = None
        self._stream_cells = _STREAM_CELLS_MIN
        self._cells_max = _STREAM_CELLS_MAX + (_RUN_CELLS_MAX if with_runs else 0)

    def print(self, recorded: RecordedEvent) -> None:
        day = recorded.recorded_at.astimezone(UTC).date()
        if day != self._day:
            self._day = day
            self._terminal.print(Text(f"{day} UTC", style="dim"))
        line = self._line(recorded)
        if is_cut(self._terminal):
            line.truncate(self._terminal.width, overflow="ellipsis")
        self._terminal.print(line, no_wrap=True, overflow="ignore", crop=False)

    def _line(self, recorded: RecordedEvent) -> Text:
        line = Text(f"{recorded.position:>{_POSITION_CELLS}}  ", style="")
        line.append(f"{clock_text(recorded.recorded_at)}  ", "dim")
        line.append_text(self._stream(recorded)).append("  ")
        line.append(type(recorded.event).__name__, "bold")
        return line.append(f" {event_text(recorded.event)}")

    def _stream(self, recorded: RecordedEvent) -> Text:
        # The column grows as longer names come: they are not known when the first line is printed.
        branch = branch_text(recorded.branch)
        where = f"{visible(recorded.run_id)}: {branch}" if self._with_runs else branch
        version = f"@{recorded.stream_version}"
        if is_cut(self._terminal):
            where = shortened_inside(where, self._cells_max - len(version))
        stream = Text(f"{where}{version}", style="cyan")
        self._stream_cells = max(self._stream_cells, min(stream.cell_len, self._cells_max))
        stream.pad_right(max(0, self._stream_cells - stream.cell_len))
        return stream
