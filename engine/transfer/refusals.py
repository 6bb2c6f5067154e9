"""Why an export cannot be taken in, or not be made.

    AnabranchError
    ├── InvalidInput
    │   ├── ImportRefused            `line` is the number of the line, from 1
    │   │   ├── NotAnExport
    │   │   ├── NewerExport          an export of a later format
    │   │   ├── MalformedLine        a line that no export writes so
    │   │   ├── ExportCutShort       the file ends before the export does
    │   │   ├── LineOutOfPlace       a line that stands where another belongs
    │   │   ├── HistoryBroken        a hash, a link or a reduction that is not as it was recorded
    │   │   └── SourceMissing        a run forked from what is not in the store
    │   └── EventTooLarge
    │       └── ImportedEventTooLarge
    ├── AlreadyExists
    │   ├── RunExists
    │   │   └── DifferentRunExists
    │   └── AttemptExists
    │       └── ImportedAttemptExists
    └── Conflict
        └── ExportOvertaken          payloads were erased, or a run deleted, while it was exported

An event of an unknown type or a newer version is refused by the errors of `CannotDecode`, whose reason names the line.
Whatever is raised, nothing of the file is in the store.
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
        super().__init__(line, f"the export is of format version {version}; this anabranch reads version {known}")


class MalformedLine(ImportRefused):
    pass


class ExportCutShort(ImportRefused):
    """`line` is where the next line should be."""


class LineOutOfPlace(ImportRefused):
    pass


class HistoryBroken(ImportRefused):
    """`problem` is what the verification says of it, such as `hash`, `link` or `reduction` (`engine.findings`)."""

    def __init__(self, line: int, problem: str, reason: str) -> None:
        self.problem = problem
        super().__init__(line, f"{problem}: {reason}")


class SourceMissing(ImportRefused):
    def __init__(self, line: int, run_id: str, source: tuple[str, str, int]) -> None:
        self.run_id, (self.source_run_id, self.source_branch, self.source_version) = run_id, source
        branch = f", branch {shown(self.source_branch)}," if self.source_branch else ""
        super().__init__(
            line,
            f"run {shown(run_id)} was forked from version {self.source_version} of run"
            f" {shown(self.source_run_id)}{branch} which is not in the store with that hash: import the source first,"
            " or export with its sources",
        )


class ImportedEventTooLarge(EventTooLarge):
    def __init__(self, event_type: str, size_bytes: int, limit_bytes: int, line: int) -> None:
        super().__init__(event_type, size_bytes, limit_bytes)
        self.line = line
        self.args = (f"line {line}: {self}",)


class DifferentRunExists(RunExists):
    """The run exists, and its history is not the one in the file: nothing is merged."""

    def __init__(self, run_id: str, line: int) -> None:
        super().__init__(run_id)
        self.line = line
        self.args = (f"line {line}: run {shown(run_id)} exists, and its history differs from here on",)


class ImportedAttemptExists(AttemptExists):
    """The attempt exists in another run of the store, or twice in the file."""

    def __init__(self, attempt_id: str, line: int) -> None:
        super().__init__(attempt_id)
        self.line = line
        self.args = (f"line {line}: attempt {shown(attempt_id)} exists already",)


class ExportOvertaken(Conflict):
    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(
            f"run {shown(run_id)} was not exported: events of it were erased or deleted meanwhile, or are missing;"
            " export it again, or verify the store"
        )
