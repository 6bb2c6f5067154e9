"""Stores with the hosts' own method names, each async and with a blocking twin for synchronous callers."""

from engine.stores.blocking_run_log import BlockingRunLogStore
from engine.stores.documents import BranchLog, JobLog, RunLog, StepAttempt, StepLog
from engine.stores.partitioned import PartitionedRunLogStore

__all__ = [
    "BlockingRunLogStore",
    "BranchLog",
    "JobLog",
    "PartitionedRunLogStore",
    "RunLog",
    "StepAttempt",
    "StepLog",
]
