"""Every error that the engine raises on purpose.

    AnabranchError
    ├── NotFound (also ValueError)
    │   ├── RunNotFound
    │   ├── BranchNotFound
    │   ├── StepNotFound
    │   ├── AttemptNotFound
    │   ├── TaskNotFound
    │   ├── ExternalRunNotFound      a task without an external run
    │   ├── JobNotFound              a run without a job's log
    │   ├── ParameterNotFound        a name under which a branch sees nothing
    │   └── PointNotFound            a stream version or a time that the stream does not reach
    ├── AlreadyExists
    │   ├── RunExists
    │   ├── BranchExists
    │   └── AttemptExists
    ├── InvalidInput (also ValueError)
    │   ├── InvalidName
    │   ├── InvalidValue
    │   ├── EventTooLarge
    │   ├── CheckpointOfAnotherStore
    │   ├── SignatureInvalid         a checkpoint that is not signed as it stands
    │   ├── AmbiguousTask            a task id that is in several places, and nothing says which is meant
    │   └── ReductionImpossible      a rule that cannot fold the values it was given
    ├── Conflict
    │   ├── VersionConflict          expected_version does not hold
    │   ├── IdempotencyConflict      a key used again with other content
    │   ├── HeadsMoved               children wrote, again and again, while a caller's function was at their values
    │   └── ReductionConflict        on_conflict="error", and every conflict by name
    ├── CannotOpen
    │   ├── NotADatabase
    │   ├── ForeignDatabase          a SQLite file that is not anabranch's
    │   ├── CannotMigrate            a state store with rows that cannot become events
    │   ├── UnknownStateSchema       a state store of a version that is not known
    │   ├── NewerDatabase
    │   ├── FolderNotWritable
    │   └── NetworkFileSystem
    ├── StoreUnavailable             nothing was recorded; trying again later is safe
    │   ├── StoreBusy                the write lock was not free within the busy timeout
    │   ├── DiskFull
    │   ├── StoreChanged             another version of anabranch has changed the file; open it again
    │   └── RebuildRunning
    ├── OutcomeUnknown               the connection failed around the commit; retry with the same idempotency key
    ├── ReadFailed                   SQLite could not read the file
    ├── CannotDecode
    │   ├── UnknownEventType
    │   ├── NewerEventVersion
    │   └── MalformedPayload
    ├── RunLocked (also RuntimeError)  somebody else holds the lock of the run's folder
    ├── SigningUnavailable           the extra that signs checkpoints is not installed
    ├── EngineClosed
    ├── WrongProcess                 an engine used in a process forked from the one that opened it
    └── WouldDeadlock                a blocking call made on the very thread that has to answer it

Facts are attributes; messages name the offending value and the limit.
"""

from collections.abc import Sequence
from pathlib import Path

_SHOWN_CHARACTERS_MAX = 80


def shown(value: object) -> str:
    """Return `value` as it may stand in a message: escaped, and cut when it is long."""
    text = ascii(value)
    return text if len(text) <= _SHOWN_CHARACTERS_MAX else f"{text[:_SHOWN_CHARACTERS_MAX]}…"


class AnabranchError(Exception):
    """The root of the tree."""


class NotFound(AnabranchError, ValueError):
    """What was asked for is not there."""


class RunNotFound(NotFound):
    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(f"no run {shown(run_id)}")


class BranchNotFound(NotFound):
    def __init__(self, run_id: str, branch: str) -> None:
        self.run_id, self.branch = run_id, branch
        super().__init__(f"no branch {shown(branch)} in run {shown(run_id)}")


class StepNotFound(NotFound):
    def __init__(self, run_id: str, branch: str, step: str) -> None:
        self.run_id, self.branch, self.step = run_id, branch, step
        super().__init__(f"no step {shown(step)} in branch {shown(branch)} of run {shown(run_id)}")


class AttemptNotFound(NotFound):
    """`run_id` is None where every run was looked through."""

    def __init__(self, run_id: str | None, attempt_id: str) -> None:
        self.run_id, self.attempt_id = run_id, attempt_id
        super().__init__(f"no attempt {shown(attempt_id)}{_in_run(run_id)}")


class TaskNotFound(NotFound):
    """`run_id` is None where every run was looked through."""

    def __init__(self, run_id: str | None, task_id: str) -> None:
        self.run_id, self.task_id = run_id, task_id
        super().__init__(f"no task {shown(task_id)}{_in_run(run_id)}")


class ExternalRunNotFound(NotFound):
    def __init__(self, run_id: str | None, task_id: str) -> None:
        self.run_id, self.task_id = run_id, task_id
        super().__init__(f"no external run for task {shown(task_id)}{_in_run(run_id)}")


def _in_run(run_id: str | None) -> str:
    return "" if run_id is None else f" in run {shown(run_id)}"


class JobNotFound(NotFound):
    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(f"no job log in run {shown(run_id)}")


class ParameterNotFound(NotFound):
    def __init__(self, run_id: str, branch: str, name: str) -> None:
        self.run_id, self.branch, self.name = run_id, branch, name
        super().__init__(f"no parameter {shown(name)} in branch {shown(branch)} of run {shown(run_id)}")


class PointNotFound(NotFound):
    def __init__(self, run_id: str, branch: str, point: object, head_version: int) -> None:
        self.run_id, self.branch, self.point, self.head_version = run_id, branch, point, head_version
        where = f"branch {shown(branch)} of run {shown(run_id)}"
        super().__init__(f"{where} has no point {shown(point)}: it has the versions 1 to {head_version}")


class AlreadyExists(AnabranchError):
    """The name is taken."""


class RunExists(AlreadyExists):
    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(f"run {shown(run_id)} exists")


class BranchExists(AlreadyExists):
    def __init__(self, run_id: str, branch: str) -> None:
        self.run_id, self.branch = run_id, branch
        super().__init__(f"branch {shown(branch)} of run {shown(run_id)} exists")


class AttemptExists(AlreadyExists):
    def __init__(self, attempt_id: str) -> None:
        self.attempt_id = attempt_id
        super().__init__(f"attempt {shown(attempt_id)} exists")


class InvalidInput(AnabranchError, ValueError):
    """The input can never be recorded; nothing was."""


class InvalidName(InvalidInput):
    def __init__(self, what: str, value: object, reason: str) -> None:
        self.what, self.value, self.reason = what, value, reason
        super().__init__(f"{what} {shown(value)} {reason}")


class InvalidValue(InvalidInput):
    def __init__(self, where: str, value: object, reason: str) -> None:
        self.where, self.value, self.reason = where, value, reason
        super().__init__(f"{where}: {shown(value)} {reason}")


class EventTooLarge(InvalidInput):
    def __init__(self, event_type: str, size_bytes: int, limit_bytes: int) -> None:
        self.event_type, self.size_bytes, self.limit_bytes = event_type, size_bytes, limit_bytes
        super().__init__(f"{event_type} is {size_bytes} bytes encoded; the limit is {limit_bytes} bytes")


class CheckpointOfAnotherStore(InvalidInput):
    def __init__(self, checkpoint_store: str, store: str) -> None:
        self.checkpoint_store, self.store = checkpoint_store, store
        super().__init__(f"the checkpoint is of store {shown(checkpoint_store)}, and this is store {shown(store)}")


class SignatureInvalid(InvalidInput):
    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the checkpoint cannot be trusted: {reason}")


class AmbiguousTask(InvalidInput):
    """`places` are the run and the branch of each task of that id."""

    def __init__(self, task_id: str, places: Sequence[tuple[str, str]]) -> None:
        self.task_id, self.places = task_id, tuple(places)
        found = " and ".join(
            f"run {shown(run_id)}{f', branch {shown(branch)}' if branch else ''}" for run_id, branch in self.places[:2]
        )
        more = f" and {len(self.places) - 2} more" if len(self.places) > 2 else ""  # noqa: PLR2004 - two are named
        super().__init__(f"task {shown(task_id)} is in {found}{more}: say which is meant")


class ReductionImpossible(InvalidInput):
    def __init__(self, name: str, rule: str, reason: str) -> None:
        self.name, self.rule, self.reason = name, rule, reason
        super().__init__(f"cannot reduce {shown(name)} by rule {shown(rule)}: {reason}")


class Conflict(AnabranchError):
    """The state is not what the caller relied on; nothing was recorded."""


class VersionConflict(Conflict):
    def __init__(self, run_id: str, branch: str, expected: object, actual: int) -> None:
        self.run_id, self.branch, self.expected, self.actual = run_id, branch, expected, actual
        where = f"branch {shown(branch)} of run {shown(run_id)}"
        super().__init__(f"{where}: expected version {expected}, actual version {actual}")


class IdempotencyConflict(Conflict):
    def __init__(self, run_id: str, idempotency_key: str) -> None:
        self.run_id, self.idempotency_key = run_id, idempotency_key
        super().__init__(
            f"idempotency key {shown(idempotency_key)} of run {shown(run_id)} was used before with other content"
        )


class HeadsMoved(Conflict):
    """Children have written since a caller's function saw their values; reduce when they rest."""

    def __init__(self, run_id: str, branch: str) -> None:
        self.run_id, self.branch = run_id, branch
        where = f"branch {shown(branch)} of run {shown(run_id)}"
        super().__init__(f"the children of {where} have written since their values were read")


class ReductionConflict(Conflict):
    """`conflicts` lists each as a `model.ParameterConflict`."""

    def __init__(self, run_id: str, branch: str, conflicts: Sequence[object]) -> None:
        self.run_id, self.branch, self.conflicts = run_id, branch, tuple(conflicts)
        names = ", ".join(sorted({shown(getattr(conflict, "name", conflict)) for conflict in conflicts}))
        super().__init__(f"reduction into branch {shown(branch)} of run {shown(run_id)} conflicts on {names}")


class CannotOpen(AnabranchError):
    """The file cannot be used; it was left as it was."""

    def __init__(self, path: Path | str, reason: str) -> None:
        self.path, self.reason = Path(path), reason
        super().__init__(f"cannot open {shown(str(path))}: {reason}")


class NotADatabase(CannotOpen):
    """The file is not a SQLite database."""


class ForeignDatabase(CannotOpen):
    """The file is a SQLite database with other tables than ours."""


class CannotMigrate(CannotOpen):
    """A state store's rows that cannot become events."""


class UnknownStateSchema(CannotOpen):
    def __init__(self, path: Path | str, found: str | None) -> None:
        self.found = found
        what = "says no schema version" if found is None else f"is of schema version {shown(found)}"
        super().__init__(path, f"it is a state store that {what}; versions 1 to 4 can be migrated")


class NewerDatabase(CannotOpen):
    def __init__(self, path: Path | str, found: int, supported: int) -> None:
        self.found, self.supported = found, supported
        super().__init__(path, f"its log schema is version {found}; this anabranch reads up to version {supported}")


class FolderNotWritable(CannotOpen):
    """The folder, or the file in it, cannot be written."""


class NetworkFileSystem(CannotOpen):
    def __init__(self, path: Path | str, file_system: str) -> None:
        self.file_system = file_system
        super().__init__(
            path,
            f"it is on the network file system {file_system}, whose locks and syncs cannot be relied on"
            " (allow_network=True opens it all the same)",
        )


class StoreUnavailable(AnabranchError):
    """Nothing was recorded; trying again later is safe."""


class StoreBusy(StoreUnavailable):
    def __init__(self, path: Path | str, waited_seconds: float) -> None:
        self.path, self.waited_seconds = Path(path), waited_seconds
        super().__init__(f"the write lock of {shown(str(path))} was not free within {waited_seconds:g} s")


class DiskFull(StoreUnavailable):
    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        super().__init__(f"the disk is full: {shown(str(path))}")


class StoreChanged(StoreUnavailable):
    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"another version of anabranch has changed {what} since the engine was opened; open it again")


class RebuildRunning(StoreUnavailable):
    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        super().__init__(f"another rebuild of {shown(str(path))} is running")


class OutcomeUnknown(AnabranchError):
    """The write may or may not have been recorded; a retry with the same idempotency key is safe."""

    def __init__(self, path: Path | str, cause: str) -> None:
        self.path, self.cause = Path(path), cause
        super().__init__(f"writing to {shown(str(path))} failed around the commit: {cause}")


class ReadFailed(AnabranchError):
    """SQLite could not read the file."""

    def __init__(self, path: Path | str, cause: str) -> None:
        self.path, self.cause = Path(path), cause
        super().__init__(f"reading {shown(str(path))} failed: {cause}")


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


class RunLocked(AnabranchError, RuntimeError):
    """`holder` is the id of the process that took the lock, None where it is not known."""

    def __init__(self, path: Path | str, holder: int | None) -> None:
        self.path, self.holder = Path(path), holder
        who = "another process" if holder is None else f"process {holder}"
        super().__init__(f"the lock {shown(str(path))} is held by {who}")


class SigningUnavailable(AnabranchError):
    def __init__(self) -> None:
        super().__init__("signatures need the package cryptography: install anabranch[signing]")


class EngineClosed(AnabranchError):
    def __init__(self) -> None:
        super().__init__("the engine is closed")


class WrongProcess(AnabranchError):
    def __init__(self, opened_in: int, used_in: int) -> None:
        self.opened_in, self.used_in = opened_in, used_in
        super().__init__(
            f"the engine was opened in process {opened_in} and used in process {used_in}; open one in each process"
        )


class WouldDeadlock(AnabranchError):
    def __init__(self) -> None:
        super().__init__(
            "a blocking call on the engine's own thread would wait for itself; await the async engine there"
        )
