"""Errors about the store: opening it, writing to it, reading it, and using an engine that cannot be used."""

from pathlib import Path

from engine.errors.root import AnabranchError, shown


class CannotOpen(AnabranchError):
    """The file cannot be used; it was left as it was."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"cannot open {shown(path)}: {reason}")


class NotADatabase(CannotOpen):
    """The file is not a SQLite database."""


class ForeignDatabase(CannotOpen):
    """The file is a SQLite database with other tables than ours."""


class CannotMigrate(CannotOpen):
    """A state store's rows that cannot become events."""


class UnknownStateSchema(CannotOpen):
    def __init__(self, path: Path, found: str | None) -> None:
        self.found = found
        what = "says no schema version" if found is None else f"is of schema version {shown(found)}"
        super().__init__(path, f"it is a state store that {what}; versions 1 to 4 can be migrated")


class NewerDatabase(CannotOpen):
    def __init__(self, path: Path, found: int, supported: int) -> None:
        self.found, self.supported = found, supported
        super().__init__(path, f"its log schema is version {found}; this anabranch reads up to version {supported}")


class FolderNotWritable(CannotOpen):
    """The folder, or the file in it, cannot be written."""


class NetworkFileSystem(CannotOpen):
    def __init__(self, path: Path, file_system: str) -> None:
        self.file_system = file_system
        super().__init__(
            path,
            f"it is on the network file system {file_system}, whose locks and syncs cannot be relied on"
            " (allow_network=True opens it all the same)",
        )


class StoreUnavailable(AnabranchError):
    """Nothing was recorded; trying again later is safe."""


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
        super().__init__(f"{shown(path)} was opened to be read only")


class SyncFailed(StoreUnavailable):
    """What was acknowledged before is safe. `cause` is what failed."""

    def __init__(self, path: Path, cause: str) -> None:
        self.path, self.cause = path, cause
        super().__init__(
            f"a sync of {shown(path)} to the disk failed ({cause}): nothing is written until the store is opened"
            " again, which verifies it; reads go on"
        )


class RebuildRunning(StoreUnavailable):
    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"another rebuild of {shown(path)} is running")


class BackupFailed(AnabranchError):
    """There is no file of that name, and the store is as it was."""

    def __init__(self, path: Path, cause: str) -> None:
        self.path, self.cause = path, cause
        super().__init__(f"no backup was made at {shown(path)}: {cause}")


class OutcomeUnknown(AnabranchError):
    """The write may or may not have been recorded; a retry with the same idempotency key is safe."""

    def __init__(self, path: Path, cause: str) -> None:
        self.path, self.cause = path, cause
        super().__init__(f"writing to {shown(path)} failed around the commit: {cause}")


class RowRefused(AnabranchError):
    """Nothing was recorded. The tables hold what the engine did not write: a rebuild of the views puts those right."""

    def __init__(self, path: Path, cause: str) -> None:
        self.path, self.cause = path, cause
        super().__init__(
            f"SQLite refuses a row of {shown(path)}, and nothing was recorded: {cause}; `anabranch doctor` says"
            " whether its views are what the events say"
        )


class RowDamaged(AnabranchError):
    """Nothing was recorded. A row holds what the engine did not write: a rebuild of the views puts theirs right."""

    def __init__(self, path: Path, cause: str) -> None:
        self.path, self.cause = path, cause
        super().__init__(
            f"a row of {shown(path)} is damaged, and nothing was recorded: {cause}; `anabranch doctor` says which"
        )


class ReadFailed(AnabranchError):
    """SQLite could not read the file."""

    def __init__(self, path: Path, cause: str, advice: str = "") -> None:
        self.path, self.cause, self.advice = path, cause, advice
        super().__init__(f"reading {shown(path)} failed: {cause}{advice and f'; {advice}'}")


class ReadOvertaken(ReadFailed):
    """Reading again is safe; `seconds` is how long it took until it was ended."""

    def __init__(self, path: Path, seconds: float, wal_bytes_max: int) -> None:
        self.seconds, self.wal_bytes_max = seconds, wal_bytes_max
        super().__init__(
            path,
            f"it was ended after {seconds:.1f} s, in which so much was written that the write-ahead log reached its"
            f" limit of {wal_bytes_max:,} bytes; read again when less is written, or raise wal_bytes_max",
        )


class TracesLeft(AnabranchError):
    """What was erased is gone from the views and the log, and may still be found in the file until it is compacted."""

    def __init__(self, run_id: str, branch: str, stream_version: int) -> None:
        self.run_id, self.branch, self.stream_version = run_id, branch, stream_version
        super().__init__(
            f"version {stream_version} of branch {shown(branch)} of run {shown(run_id)} is erased, but somebody reads"
            " an older state of the file, which keeps its bytes there: compact the file when they are done"
        )


class CannotDecode(AnabranchError):
    """A recorded event that this version cannot read. `position` is None outside a log."""

    def __init__(self, event_type: str, schema_version: int, reason: str, position: int | None = None) -> None:
        self.event_type, self.schema_version = event_type, schema_version
        self.reason, self.position = reason, position
        where = "" if position is None else f" at position {position}"
        super().__init__(f"event {shown(event_type)} version {schema_version}{where}: {reason}")


class UnknownEventType(CannotDecode):
    """No event of this type is known."""


class NewerEventVersion(CannotDecode):
    """The event was written by a newer anabranch."""


class MalformedPayload(CannotDecode):
    """The payload's bytes do not say an event of this type."""


class EventOutOfPlace(AnabranchError):
    """Nothing was recorded, or folded. Events before it are lost, or rows of the views: `anabranch verify` tells."""

    def __init__(self, event_type: str, position: int, missing: str) -> None:
        self.event_type, self.position, self.missing = event_type, position, missing
        super().__init__(f"event {shown(event_type)} at position {position} is about {missing} that is not there")


class RunLocked(AnabranchError, RuntimeError):
    """`holder` is the id of the process that took the lock, None where it is not known."""

    def __init__(self, path: Path, holder: int | None) -> None:
        self.path, self.holder = path, holder
        who = "another process" if holder is None else f"process {holder}"
        super().__init__(f"the lock {shown(path)} is held by {who}")


class SigningUnavailable(AnabranchError):
    def __init__(self) -> None:
        super().__init__("signatures need the package cryptography: install anabranch[signing]")


class EngineClosed(AnabranchError):
    def __init__(self) -> None:
        super().__init__("the engine is closed")


class AlreadyEntered(AnabranchError):
    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"{what} was entered before; make one for each use")


class WrongProcess(AnabranchError):
    def __init__(self, opened_in: int, used_in: int) -> None:
        self.opened_in, self.used_in = opened_in, used_in
        super().__init__(
            f"the engine was opened in process {opened_in} and used in process {used_in}; open one in each process"
        )


class WrongEventLoop(AnabranchError):
    def __init__(self) -> None:
        super().__init__(
            "the engine was opened on another event loop; open one on each event loop,"
            " or call engine.blocking.BlockingEngine from any thread"
        )


class WouldDeadlock(AnabranchError):
    def __init__(self) -> None:
        super().__init__(
            "a blocking call on the engine's own thread would wait for itself; await the async engine there"
        )
