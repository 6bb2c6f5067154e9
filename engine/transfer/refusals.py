"""The errors of an import and of an export.

    AnabranchError
    ├── InvalidInput
    │   ├── ImportRefused            `line` is the number of the line, from 1
    │   │   ├── NotAnExport
    │   │   ├── NewerExport          the format version is newer than this code
    │   │   ├── MalformedLine        a line that no export contains
    │   │   ├── ExportCutShort       the file ends before the export does
    │   │   ├── LineOutOfPlace       a line where another one is expected
    │   │   ├── HistoryBroken        a hash, a link or a reduction does not verify
    │   │   └── SourceMissing        a forked run whose source is not in the store
    │   └── EventTooLarge
    │       └── ImportedEventTooLarge
    ├── AlreadyExists
    │   ├── RunExists
    │   │   └── DifferentRunExists
    │   └── AttemptExists
    │       └── ImportedAttemptExists
    └── Conflict
        └── ExportOvertaken          a payload was erased, or the run deleted, during the export

An event of an unknown type or a newer version raises a subclass of `CannotDecode`, whose reason names the line.
After any of these errors, nothing of the file is in the store.
"""

from engine.errors import AttemptExists, Conflict, EventTooLarge, InvalidInput, RunExists, shown


class ImportRefused(InvalidInput):
    def __init__(self, line: int, reason: str) -> None:
        self.line, self.reason = line, reason
        super().__init__(f"line {line}: {reason}")


class NotAnExport(ImportRefused):
    pass


class NewerExport(ImportRefused):
    def __init__(self, line: int, version: int, known: int) -> None:
        self.version, self.known = version, known
        super().__init__(line, f"the export has format version {version}; this version of anabranch reads {known}")


class MalformedLine(ImportRefused):
    pass


class ExportCutShort(ImportRefused):
    """`line` is where the next line was expected."""


class LineOutOfPlace(ImportRefused):
    pass


class HistoryBroken(ImportRefused):
    """`problem` is the verification's kind of problem, such as `hash`, `link` or `reduction` (`engine.findings`)."""

    def __init__(self, line: int, problem: str, reason: str) -> None:
        self.problem = problem
        super().__init__(line, f"{problem}: {reason}")


class SourceMissing(ImportRefused):
    def __init__(self, line: int, run_id: str, source: tuple[str, str, int]) -> None:
        self.run_id, (self.source_run_id, self.source_branch, self.source_version) = run_id, source
        branch = f", branch {shown(self.source_branch)}" if self.source_branch else ""
        super().__init__(
            line,
            f"run {shown(run_id)} was forked from version {self.source_version} of run"
            f" {shown(self.source_run_id)}{branch}, which the store does not have with that hash: import the"
            " source first, or export with sources",
        )


class ImportedEventTooLarge(EventTooLarge):
    def __init__(self, event_type: str, size_bytes: int, limit_bytes: int, line: int) -> None:
        super().__init__(event_type, size_bytes, limit_bytes)
        self.line = line
        self.args = (f"line {line}: {self}",)


class DifferentRunExists(RunExists):
    """The run exists with another history than in the file; imports never merge."""

    def __init__(self, run_id: str, line: int) -> None:
        super().__init__(run_id)
        self.line = line
        self.args = (f"line {line}: run {shown(run_id)} exists, and its history differs from this line on",)


class ImportedAttemptExists(AttemptExists):
    """The attempt id exists in another run of the store, or twice in the file."""

    def __init__(self, attempt_id: str, line: int) -> None:
        super().__init__(attempt_id)
        self.line = line
        self.args = (f"line {line}: attempt {shown(attempt_id)} already exists",)


class ExportOvertaken(Conflict):
    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(
            f"run {shown(run_id)} was not exported: some of its events were erased or deleted during the export, or"
            " are missing; export it again, or verify the store"
        )
