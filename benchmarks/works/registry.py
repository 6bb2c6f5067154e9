"""All works, in the order of their names."""

from collections.abc import Sequence
from typing import Final

from benchmarks.works import (
    fork_cost,
    growth,
    left_out,
    lone_writer,
    parallel_processes,
    parallel_writes,
    rebuild,
    reduction,
    replay,
    size_on_disk,
    subscription_lag,
)
from benchmarks.works.work import Work

WORKS: Final[Sequence[Work]] = (
    parallel_writes.WORK,
    parallel_processes.WORK,
    reduction.WORK,
    rebuild.WORK,
    replay.WORK,
    fork_cost.WORK,
    growth.WORK,
    lone_writer.WORK,
    subscription_lag.WORK,
    size_on_disk.WORK,
    left_out.WORK,
)
