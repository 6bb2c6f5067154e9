"""The errors of the engine; those of imports and exports are in `engine.transfer`, those of evidence in
`engine.reports.evidence`.

    AnabranchError
    ├── NotFound (also ValueError)
    │   ├── RunNotFound
    │   ├── BranchNotFound
    │   ├── StepNotFound
    │   ├── AttemptNotFound
    │   ├── TaskNotFound
    │   ├── ExternalRunNotFound      a task without an external run
    │   ├── JobNotFound              a run without a job log
    │   ├── ParameterNotFound        a name that a branch has no parameter for
    │   └── PointNotFound            a version, time or position outside the stream's history
    ├── AlreadyExists
    │   ├── RunExists
    │   ├── BranchExists
    │   ├── AttemptExists
    │   └── BackupExists             a file in the way of a backup
    ├── InvalidInput (also ValueError)
    │   ├── InvalidName
    │   ├── InvalidValue
    │   ├── EventTooLarge
    │   ├── NotErasable              an event that holds nothing to erase
    │   ├── CheckpointOfAnotherStore
    │   ├── SignatureInvalid         a checkpoint without a valid signature
    │   ├── AmbiguousTask            a task id that exists in several places
    │   └── ReductionImpossible      a rule that cannot fold the values
    ├── Conflict
    │   ├── VersionConflict          expected_version does not hold
    │   ├── IdempotencyConflict      a key reused with different content
    │   ├── RunKept                  a run that cannot be deleted
    │   │   ├── RunIsPinned
    │   │   ├── RunNotExpired        the run has continued
    │   │   └── RunHasForks          other runs were forked from it and read through it
    │   ├── HeadsMoved               children kept writing while the caller's functions computed
    │   ├── SourceReplaced           the source was deleted and recreated while it was being forked
    │   └── ReductionConflict        on_conflict="error": names every conflict
    ├── CannotOpen
    │   ├── NotADatabase
    │   ├── ForeignDatabase          a SQLite file with other tables than anabranch's
    │   ├── CannotMigrate            a state store with rows that cannot be converted to events
    │   ├── UnknownStateSchema       a state store of an unknown version
    │   ├── NewerDatabase
    │   ├── FolderNotWritable
    │   └── NetworkFileSystem
    ├── StoreUnavailable             nothing was recorded; a later retry is safe
    │   ├── StoreBusy                the write lock was not free within the busy timeout
    │   ├── DiskFull
    │   ├── StoreReadOnly            the engine was opened with read_only=True
    │   ├── SyncFailed               a sync to the disk failed; nothing is written until the store is opened again
    │   ├── StoreChanged             another version of anabranch has changed the file; open it again
    │   ├── StoreReplaced            the file was removed or replaced by another one; open it again
    │   └── RebuildRunning
    ├── BackupFailed                 no backup was made; the store is as it was
    ├── OutcomeUnknown               the connection failed around the commit; retry with the same idempotency key
    ├── RowDamaged                   a row holds data that the engine did not write; nothing was recorded
    ├── RowRefused                   a row that the engine did not write is in the way; nothing was recorded
    ├── ReadFailed                   SQLite could not read the file
    │   └── ReadOvertaken            during a long read, other writers filled the write-ahead log to its limit
    ├── TracesLeft                   erased, but a reader of an older snapshot keeps the bytes in the file
    ├── CannotDecode
    │   ├── UnknownEventType
    │   ├── NewerEventVersion
    │   └── MalformedPayload
    ├── EventOutOfPlace              an event about something that the earlier log, or the views, have lost
    ├── RunLocked (also RuntimeError)  another process holds the lock of the run's folder
    ├── SigningUnavailable           the extra that signs checkpoints is not installed
    ├── EngineClosed
    ├── AlreadyEntered               a second `async with` on a single-use object
    ├── WrongProcess                 an engine used in a process forked from the one that opened it
    ├── WrongEventLoop               an engine used on another event loop than the one that opened it
    └── WouldDeadlock                a blocking call on the thread that would have to answer it

Facts are attributes; messages name the offending value and the limit.
"""

from engine.errors.asked import (
    AlreadyExists,
    AmbiguousTask,
    AttemptExists,
    AttemptNotFound,
    BackupExists,
    BranchExists,
    BranchNotFound,
    CheckpointOfAnotherStore,
    Conflict,
    EventTooLarge,
    ExternalRunNotFound,
    HeadsMoved,
    IdempotencyConflict,
    InvalidInput,
    InvalidName,
    InvalidValue,
    JobNotFound,
    NotErasable,
    NotFound,
    ParameterNotFound,
    PointNotFound,
    ReductionConflict,
    ReductionImpossible,
    RunExists,
    RunHasForks,
    RunIsPinned,
    RunKept,
    RunNotExpired,
    RunNotFound,
    SignatureInvalid,
    SourceReplaced,
    StepNotFound,
    TaskNotFound,
    VersionConflict,
)
from engine.errors.root import AnabranchError, shown
from engine.errors.store import (
    AlreadyEntered,
    BackupFailed,
    CannotDecode,
    CannotMigrate,
    CannotOpen,
    DiskFull,
    EngineClosed,
    EventOutOfPlace,
    FolderNotWritable,
    ForeignDatabase,
    MalformedPayload,
    NetworkFileSystem,
    NewerDatabase,
    NewerEventVersion,
    NotADatabase,
    OutcomeUnknown,
    ReadFailed,
    ReadOvertaken,
    RebuildRunning,
    RowDamaged,
    RowRefused,
    RunLocked,
    SigningUnavailable,
    StoreBusy,
    StoreChanged,
    StoreReadOnly,
    StoreReplaced,
    StoreUnavailable,
    SyncFailed,
    TracesLeft,
    UnknownEventType,
    UnknownStateSchema,
    WouldDeadlock,
    WrongEventLoop,
    WrongProcess,
)

__all__ = [
    "AlreadyEntered",
    "AlreadyExists",
    "AmbiguousTask",
    "AnabranchError",
    "AttemptExists",
    "AttemptNotFound",
    "BackupExists",
    "BackupFailed",
    "BranchExists",
    "BranchNotFound",
    "CannotDecode",
    "CannotMigrate",
    "CannotOpen",
    "CheckpointOfAnotherStore",
    "Conflict",
    "DiskFull",
    "EngineClosed",
    "EventOutOfPlace",
    "EventTooLarge",
    "ExternalRunNotFound",
    "FolderNotWritable",
    "ForeignDatabase",
    "HeadsMoved",
    "IdempotencyConflict",
    "InvalidInput",
    "InvalidName",
    "InvalidValue",
    "JobNotFound",
    "MalformedPayload",
    "NetworkFileSystem",
    "NewerDatabase",
    "NewerEventVersion",
    "NotADatabase",
    "NotErasable",
    "NotFound",
    "OutcomeUnknown",
    "ParameterNotFound",
    "PointNotFound",
    "ReadFailed",
    "ReadOvertaken",
    "RebuildRunning",
    "ReductionConflict",
    "ReductionImpossible",
    "RowDamaged",
    "RowRefused",
    "RunExists",
    "RunHasForks",
    "RunIsPinned",
    "RunKept",
    "RunLocked",
    "RunNotExpired",
    "RunNotFound",
    "SignatureInvalid",
    "SigningUnavailable",
    "SourceReplaced",
    "StepNotFound",
    "StoreBusy",
    "StoreChanged",
    "StoreReadOnly",
    "StoreReplaced",
    "StoreUnavailable",
    "SyncFailed",
    "TaskNotFound",
    "TracesLeft",
    "UnknownEventType",
    "UnknownStateSchema",
    "VersionConflict",
    "WouldDeadlock",
    "WrongEventLoop",
    "WrongProcess",
    "shown",
]
