"""All works, in the order of their names."""

from collections.abc import Sequence
from typing import Final

from benchmarks.works import (
    fork_cost,
    lone_writer,
    parallel_processes,
    parallel_writes,
    reduction,
    subscription_lag,
)
from benchmarks.works.work import Work

WORKS: Final[Sequence[Work]] = (
    parallel_writes.WORK,
    parallel_processes.WORK,
    reduction.WORK,
    fork_cost.WORK,
    lone_writer.WORK,
    subscription_lag.WORK,
)
