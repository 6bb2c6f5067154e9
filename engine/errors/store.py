"""Errors about the store: opening, writing and reading it, and misuse of an engine."""

from pathlib import Path

from engine.errors.root import AnabranchError, shown


class CannotOpen(AnabranchError):
    """The file cannot be used; it was not changed."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"cannot open {shown(path)}: {reason}")


class NotADatabase(CannotOpen):
    """The file is not a SQLite database."""


class ForeignDatabase(CannotOpen):
    """The file is a SQLite database with other tables than anabranch's."""


class CannotMigrate(CannotOpen):
    """A state store has rows that cannot be converted to events."""


class UnknownStateSchema(CannotOpen):
    def __init__(self, path: Path, found: str | None) -> None:
        self.found = found
        what = "without a schema version" if found is None else f"of schema version {shown(found)}"
        super().__init__(path, f"it is a state store {what}; versions 1 to 4 can be migrated")


class NewerDatabase(CannotOpen):
    def __init__(self, path: Path, found: int, supported: int) -> None:
        self.found, self.supported = found, supported
        super().__init__(
            path, f"its log schema has version {found}; this version of anabranch supports versions up to {supported}"
        )


class FolderNotWritable(CannotOpen):
    """The folder, or the file in it, is not writable."""


class NetworkFileSystem(CannotOpen):
    def __init__(self, path: Path, file_system: str) -> None:
        self.file_system = file_system
        super().__init__(
            path,
            f"it is on the network file system {file_system}, whose locks and syncs are unreliable"
            " (allow_network=True opens it anyway)",
        )


class StoreUnavailable(AnabranchError):
    """Nothing was recorded; a later retry is safe."""


class StoreBusy(StoreUnavailable):
    def __init__(self, path: Path, waited_seconds: float) -> None:
        self.path, self.waited_seconds = path, waited_seconds
        super().__init__(f"the write lock of {shown(path)} was not free within {waited_seconds:g} s")


class DiskFull(StoreUnavailable):
    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"the disk is full: {shown(path)}")


class StoreChanged(StoreUnavailable):
    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"another version of anabranch has changed {what} since the engine was opened; open it again")


class StoreReplaced(StoreUnavailable):
    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(
            f"{shown(path)} was removed, or replaced by another file, since the engine was opened; open it again"
        )


class StoreReadOnly(StoreUnavailable):
    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"{shown(path)} was opened read-only")


class SyncFailed(StoreUnavailable):
    """Everything acknowledged before is safe. `cause` is the error of the sync."""

    def __init__(self, path: Path, cause: str) -> None:
        self.path, self.cause = path, cause
        super().__init__(
            f"a sync of {shown(path)} to the disk failed ({cause}): reads continue, but nothing is written until the"
            " store is opened again, which verifies it"
        )


class RebuildRunning(StoreUnavailable):
    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"another rebuild of {shown(path)} is running")


class BackupFailed(AnabranchError):
    """There is no file at `path`, and the store is unchanged."""

    def __init__(self, path: Path, cause: str) -> None:
        self.path, self.cause = path, cause
        super().__init__(f"no backup was made at {shown(path)}: {cause}")


class OutcomeUnknown(AnabranchError):
    """The write may or may not have been recorded; a retry with the same idempotency key is safe."""

    def __init__(self, path: Path, cause: str) -> None:
        self.path, self.cause = path, cause
        super().__init__(f"writing to {shown(path)} failed around the commit: {cause}")


class RowRefused(AnabranchError):
    """Nothing was recorded. The tables hold rows that the engine did not write; a rebuild repairs the views'."""

    def __init__(self, path: Path, cause: str) -> None:
        self.path, self.cause = path, cause
        super().__init__(
            f"SQLite rejects a row for {shown(path)}, and nothing was recorded: {cause}; `anabranch doctor` checks"
            " whether the views match the events"
        )


class RowDamaged(AnabranchError):
    """Nothing was recorded. A row holds data that the engine did not write; a rebuild repairs rows of the views."""

    def __init__(self, path: Path, cause: str) -> None:
        self.path, self.cause = path, cause
        super().__init__(
            f"a row of {shown(path)} is damaged, and nothing was recorded: {cause}; `anabranch doctor` names the row"
        )


class ReadFailed(AnabranchError):
    """SQLite could not read the file."""

    def __init__(self, path: Path, cause: str, advice: str = "") -> None:
        self.path, self.cause, self.advice = path, cause, advice
        super().__init__(f"reading {shown(path)} failed: {cause}{advice and f'; {advice}'}")


class ReadOvertaken(ReadFailed):
    """A retry is safe; `seconds` is how long the read had taken when it was interrupted."""

    def __init__(self, path: Path, seconds: float, wal_bytes_max: int) -> None:
        self.seconds, self.wal_bytes_max = seconds, wal_bytes_max
        super().__init__(
            path,
            f"it was interrupted after {seconds:.1f} s, because the write-ahead log had reached its limit of"
            f" {wal_bytes_max:,} bytes; read again when less is written, or raise wal_bytes_max",
        )


class TracesLeft(AnabranchError):
    """The data is erased from the views and the log, but its bytes may remain in the file until it is compacted."""

    def __init__(self, run_id: str, branch: str, stream_version: int) -> None:
        self.run_id, self.branch, self.stream_version = run_id, branch, stream_version
        super().__init__(
            f"version {stream_version} of branch {shown(branch)} of run {shown(run_id)} is erased, but a reader of an"
            " older snapshot keeps its bytes in the file; compact the file when that reader is done"
        )


class CannotDecode(AnabranchError):
    """A recorded event cannot be decoded by this version. `position` is None outside a log."""

    def __init__(self, event_type: str, schema_version: int, reason: str, position: int | None = None) -> None:
        self.event_type, self.schema_version = event_type, schema_version
        self.reason, self.position = reason, position
        where = "" if position is None else f" at position {position}"
        super().__init__(f"event {shown(event_type)} version {schema_version}{where}: {reason}")


class UnknownEventType(CannotDecode):
    """The event type is unknown."""


class NewerEventVersion(CannotDecode):
    """The event was written by a newer anabranch."""


class MalformedPayload(CannotDecode):
    """The payload does not encode an event of this type."""


class EventOutOfPlace(AnabranchError):
    """Nothing was recorded or folded. Earlier events or rows of the views are lost; `anabranch verify` names them."""

    def __init__(self, event_type: str, position: int, missing: str) -> None:
        self.event_type, self.position, self.missing = event_type, position, missing
        super().__init__(f"event {shown(event_type)} at position {position} is about {missing} that does not exist")


class RunLocked(AnabranchError, RuntimeError):
    """`holder` is the id of the process that took the lock, None if unknown."""

    def __init__(self, path: Path, holder: int | None) -> None:
        self.path, self.holder = path, holder
        who = "another process" if holder is None else f"process {holder}"
        super().__init__(f"the lock {shown(path)} is held by {who}")


class SigningUnavailable(AnabranchError):
    def __init__(self) -> None:
        super().__init__("signatures need the package cryptography; install anabranch[signing]")


class EngineClosed(AnabranchError):
    def __init__(self) -> None:
        super().__init__("the engine is closed")


class AlreadyEntered(AnabranchError):
    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"{what} was already entered; create a new one for each use")


class WrongProcess(AnabranchError):
    def __init__(self, opened_in: int, used_in: int) -> None:
        self.opened_in, self.used_in = opened_in, used_in
        super().__init__(
            f"the engine was opened in process {opened_in} but used in process {used_in}; open one in each process"
        )


class WrongEventLoop(AnabranchError):
    def __init__(self) -> None:
        super().__init__(
            "the engine was opened on another event loop; open one on each event loop,"
            " or call engine.blocking.BlockingEngine from any thread"
        )


class WouldDeadlock(AnabranchError):
    def __init__(self) -> None:
        super().__init__("a blocking call on the engine's own thread would deadlock; await the async engine there")
