"""All works, in the order of their names."""

from collections.abc import Sequence
from typing import Final

from benchmarks.works import parallel_processes, parallel_writes
from benchmarks.works.work import Work

WORKS: Final[Sequence[Work]] = (parallel_writes.WORK, parallel_processes.WORK)
