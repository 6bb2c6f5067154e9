"""Stores with the hosts' own method names, each async with a blocking twin for synchronous callers."""

from engine.stores.blocking_run_log import BlockingRunLogStore
from engine.stores.blocking_state import SQLiteStateStore
from engine.stores.documents import BranchLog, JobLog, RunLog, StepAttempt, StepLog
from engine.stores.partitioned import PartitionedRunLogStore
from engine.stores.run_lock import RunLock
from engine.stores.state import StateStore
from engine.stores.task_documents import (
    ExternalRunHandle,
    Factories,
    RunHandle,
    RunMetadata,
    Task,
    TaskAttempt,
)

__all__ = [
    "BlockingRunLogStore",
    "BranchLog",
    "ExternalRunHandle",
    "Factories",
    "JobLog",
    "PartitionedRunLogStore",
    "RunHandle",
    "RunLock",
    "RunLog",
    "RunMetadata",
    "SQLiteStateStore",
    "StateStore",
    "StepAttempt",
    "StepLog",
    "Task",
    "TaskAttempt",
]
