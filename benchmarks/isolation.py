"""Runs a measurement in a process of its own, so that no peer's imports, heap or threads affect another's."""

import contextlib
import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from threading import BrokenBarrierError
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier

Result = TypeVar("Result")

MEETING_SECONDS_MAX: Final = 900.0
"""How long a process waits for the others before it gives up."""

_SPAWN: Final = multiprocessing.get_context("spawn")
_meeting: "list[Barrier]" = []


def in_fresh_process(job: Callable[..., Result], *arguments: Any) -> Result:
    """Run `job` in a new process and return what it returns, or raise what it raises."""
    with ProcessPoolExecutor(1, mp_context=_SPAWN, initializer=_keep_output_clean) as process:
        return process.submit(job, *arguments).result()


def in_this_process(job: Callable[..., Result], *arguments: Any) -> Result:
    """Run `job` in this process, and keep its output from standard output, as in a process of its own."""
    with contextlib.redirect_stdout(sys.stderr):
        return job(*arguments)


def in_fresh_processes(job: Callable[..., Result], arguments: Sequence[Sequence[Any]]) -> list[Result]:
    """Run `job` in a new process for each list of arguments; there, `meet` waits for all of these processes."""
    count = len(arguments)
    barrier = _SPAWN.Barrier(count, timeout=MEETING_SECONDS_MAX)
    with ProcessPoolExecutor(count, mp_context=_SPAWN, initializer=_meet_at, initargs=(barrier,)) as processes:
        jobs = [processes.submit(_leaving, job, each) for each in arguments]
        return [each.result() for each in jobs]


def meet() -> None:
    """Wait until every process of the same `in_fresh_processes` calls this; elsewhere return at once."""
    for barrier in _meeting:
        barrier.wait()


def _keep_output_clean() -> None:
    # Some packages print when imported; standard output is for results.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


def _meet_at(barrier: "Barrier") -> None:
    _keep_output_clean()
    _meeting.append(barrier)


def _leaving(job: Callable[..., Result], arguments: Sequence[Any]) -> Result:
    # A process that fails breaks the barrier, so that the others fail as well instead of waiting.
    try:
        return job(*arguments)
    except BrokenBarrierError as error:
        raise RuntimeError("another process of the measurement has failed") from error
    except BaseException:
        for barrier in _meeting:
            barrier.abort()
        raise
