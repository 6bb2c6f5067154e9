"""The errors that the engine raises on purpose; of imports and exports they are in `engine.transfer`, of evidence in
`engine.reports.evidence`.

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
    │   ├── AttemptExists
    │   └── BackupExists             a file where a backup is to be
    ├── InvalidInput (also ValueError)
    │   ├── InvalidName
    │   ├── InvalidValue
    │   ├── EventTooLarge
    │   ├── NotErasable              an event that holds nothing to erase
    │   ├── CheckpointOfAnotherStore
    │   ├── SignatureInvalid         a checkpoint that is not signed as it stands
    │   ├── AmbiguousTask            a task id that is in several places, and nothing says which is meant
    │   └── ReductionImpossible      a rule that cannot fold the values it was given
    ├── Conflict
    │   ├── VersionConflict          expected_version does not hold
    │   ├── IdempotencyConflict      a key used again with other content
    │   ├── RunKept                  a run that cannot be deleted
    │   │   ├── RunIsPinned
    │   │   ├── RunNotExpired        a run that goes on
    │   │   └── RunHasForks          other runs were forked from it and read through it
    │   ├── HeadsMoved               children wrote, again and again, while a caller's function was at their values
    │   ├── SourceReplaced           a run that was made anew while it was forked from one of its points
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
    │   ├── StoreReadOnly            the engine was opened with read_only=True
    │   ├── SyncFailed               the disk did not take a sync; nothing is written until the store is opened again
    │   ├── StoreChanged             another version of anabranch has changed the file; open it again
    │   ├── StoreReplaced            by the name of the file there is another one, or none; open it again
    │   └── RebuildRunning
    ├── BackupFailed                 no backup was made; the store is as it was
    ├── OutcomeUnknown               the connection failed around the commit; retry with the same idempotency key
    ├── RowDamaged                   a row holds what the engine did not write; nothing was recorded
    ├── RowRefused                   a row that the engine did not write is in the way; nothing was recorded
    ├── ReadFailed                   SQLite could not read the file
    │   └── ReadOvertaken            others wrote so much meanwhile that the write-ahead log reached its limit
    ├── TracesLeft                   erased, and a reader of an older state keeps the bytes in the file
    ├── CannotDecode
    │   ├── UnknownEventType
    │   ├── NewerEventVersion
    │   └── MalformedPayload
    ├── EventOutOfPlace              an event about something that the log before it, or the views, have lost
    ├── RunLocked (also RuntimeError)  somebody else holds the lock of the run's folder
    ├── SigningUnavailable           the extra that signs checkpoints is not installed
    ├── EngineClosed
    ├── AlreadyEntered               `async with` on what serves once, again
    ├── WrongProcess                 an engine used in a process forked from the one that opened it
    ├── WrongEventLoop               an engine used on another event loop than the one that opened it
    └── WouldDeadlock                a blocking call made on the very thread that has to answer it

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
