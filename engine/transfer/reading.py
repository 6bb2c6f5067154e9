"""Reading an export line by line, in bounded memory, with the checks that need no store: the order of the lines.

Positions inside a run and versions inside a stream are 1, 2, 3 …; the heads and counts after a run match its events;
the last line counts the runs. This detects a truncated, reordered or spliced file before any hash is checked.
"""

from collections.abc import Iterator
from typing import BinaryIO, Final

from msgspec import UNSET

from engine.errors import InvalidInput, shown
from engine.names import ROOT, check_branch, check_name
from engine.transfer.lines import (
    FORMAT_VERSION,
    End,
    EventLine,
    Header,
    HeadLine,
    Line,
    RunEnd,
    RunLine,
    decode_line,
    format_version,
)
from engine.transfer.refusals import ExportCutShort, LineOutOfPlace, MalformedLine, NewerExport, NotAnExport

_ENVELOPE_BYTES_MAX: Final = 64 * 1024
_LINE_PER_PAYLOAD: Final = 8  # base64 takes 4/3 bytes per byte; the readable form may escape each byte as six


class ExportReader:
    """An export's lines, in order. `line` is the number of the last line read, `bytes_read` the bytes read so far.

    Args:
        file: open for reading bytes; read on the caller's thread.
        event_bytes_max: the largest payload that is expected, in bytes; the longest accepted line follows from it.
    """

    def __init__(self, file: BinaryIO, event_bytes_max: int) -> None:
        self.line = 0
        self.bytes_read = 0
        self._file = file
        self._line_bytes_max = event_bytes_max * _LINE_PER_PAYLOAD + _ENVELOPE_BYTES_MAX
        self._readable = False

    def runs(self) -> Iterator[tuple[RunLine, Iterator[EventLine]]]:
        """Yield each run with its events, which must be exhausted before the next run is requested.

        Raises:
            ImportRefused
        """
        self._read_header()
        runs = events = 0
        seen = set[str]()
        while not isinstance(opened := self._next(), End):
            if not isinstance(opened, RunLine):
                raise self._out_of_place(opened, "a run or the end of the export")
            self._check_run(opened.run, seen)
            found = RunEvents(self, opened)
            yield opened, iter(found)
            runs, events = runs + 1, events + found.count
        if (opened.runs, opened.events) != (runs, events):
            counts = f"{opened.runs} runs with {opened.events} events"
            raise LineOutOfPlace(self.line, f"it states {counts}, but the export holds {runs} with {events}")
        if self._read():
            raise LineOutOfPlace(self.line, "the export ended on the previous line")

    def next_in(self, run: RunLine) -> EventLine | HeadLine | RunEnd:
        """Return the next line inside a run.

        Raises:
            ImportRefused
        """
        line = self._next()
        if not isinstance(line, EventLine | HeadLine | RunEnd):
            raise self._out_of_place(line, f"a line of run {shown(run.run)}")
        if line.run != run.run:
            raise LineOutOfPlace(self.line, f"it belongs to run {shown(line.run)}, but is inside run {shown(run.run)}")
        if isinstance(line, EventLine) and (line.event is UNSET) is self._readable:
            which = "every" if self._readable else "no"
            raise MalformedLine(self.line, f"the header states that {which} event is readable")
        return line

    def _read_header(self) -> None:
        encoded = self._read()
        version = format_version(encoded)
        if version is None:
            raise NotAnExport(self.line, "it is not the header of an export")
        if version > FORMAT_VERSION:
            raise NewerExport(self.line, version, FORMAT_VERSION)
        header = self._decoded(encoded)
        if not isinstance(header, Header) or header.version != FORMAT_VERSION:
            raise NotAnExport(self.line, f"format version {version} does not exist")
        self._readable = header.readable

    def _next(self) -> Line:
        encoded = self._read()
        if not encoded:
            raise ExportCutShort(self.line, "the file ends here, before the end of the export")
        if not encoded.endswith(b"\n") and len(encoded) <= self._line_bytes_max:
            raise ExportCutShort(self.line, "the file ends inside this line")
        return self._decoded(encoded)

    def _read(self) -> bytes:
        self.line += 1
        encoded = self._file.readline(self._line_bytes_max + 1)
        self.bytes_read += len(encoded)
        return encoded

    def _decoded(self, encoded: bytes) -> Line:
        if len(encoded) > self._line_bytes_max:
            raise MalformedLine(self.line, f"it is longer than {self._line_bytes_max} bytes")
        try:
            return decode_line(encoded)
        except ValueError as error:
            raise MalformedLine(self.line, str(error)) from error

    def _check_run(self, run_id: str, seen: set[str]) -> None:
        if run_id in seen:
            raise LineOutOfPlace(self.line, f"run {shown(run_id)} occurs twice in the file")
        seen.add(run_id)
        try:
            check_name(run_id, "run id")
        except InvalidInput as error:
            raise MalformedLine(self.line, str(error)) from error

    def _out_of_place(self, line: Line, wanted: str) -> LineOutOfPlace:
        found = line.__struct_config__.tag
        return LineOutOfPlace(self.line, f"expected {wanted}, not a line of kind {shown(found)}")


class RunEvents:
    """Iterates over the events of one run, checking their order, then the heads. `count` is the events so far."""

    def __init__(self, reader: ExportReader, run: RunLine) -> None:
        self.count = 0
        self._reader = reader
        self._run = run
        self._heads: dict[str, tuple[int, str]] = {}

    def __iter__(self) -> Iterator[EventLine]:
        line = self._reader.next_in(self._run)
        while isinstance(line, EventLine):
            self._check(line)
            yield line
            line = self._reader.next_in(self._run)
        if not self.count:
            raise self._out_of_order(f"run {shown(self._run.run)} has no events")
        for branch, (version, hash_) in self._heads.items():
            wanted = HeadLine(run=self._run.run, branch=branch, stream_version=version, hash=hash_)
            if line != wanted:
                raise self._out_of_order(f"expected the head of branch {shown(branch)}, as of its last event")
            line = self._reader.next_in(self._run)
        if line != RunEnd(run=self._run.run, branches=len(self._heads), events=self.count):
            counts = f"{len(self._heads)} branches and {self.count} events"
            raise self._out_of_order(f"expected the end of run {shown(self._run.run)}, with {counts}")

    def _check(self, line: EventLine) -> None:
        self.count += 1
        if line.position != self.count:
            raise self._out_of_order(f"expected event {self.count} of its run, not event {line.position}")
        version, _ = self._heads.get(line.branch, (0, ""))
        if line.stream_version != version + 1:
            where = f"of branch {shown(line.branch)}"
            raise self._out_of_order(f"expected version {version + 1} {where}, not version {line.stream_version}")
        if version == 0:
            self._check_opened(line)
        self._heads[line.branch] = line.stream_version, line.hash

    def _check_opened(self, line: EventLine) -> None:
        if (line.branch == ROOT) is not (self.count == 1):
            raise self._out_of_order("the first event of a run, and only that, opens its root branch")
        try:
            check_branch(line.branch)
        except InvalidInput as error:
            raise MalformedLine(self._reader.line, str(error)) from error

    def _out_of_order(self, reason: str) -> LineOutOfPlace:
        return LineOutOfPlace(self._reader.line, reason)
