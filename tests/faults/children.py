"""Child processes for tests: forked ones that run a function, and workers started as a program of their own."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]


class ForkedChild:
    """A child of `os.fork` that runs `work` on its own event loop and reports the outcome."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        self._answers, write_end = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.write(write_end, _outcome(work).encode())
            os._exit(0)
        os.close(write_end)

    async def outcome(self) -> str:
        """Wait for the child's end; return what `work` returned, as text, or the name of the error that it raised."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> str:
        with open(self._answers, "rb") as answers:  # noqa: PTH123 - a descriptor, not a path
            text = answers.read().decode()
        os.waitpid(self.pid, 0)
        return text


def _outcome(work: Callable[[], Coroutine[Any, Any, object]]) -> str:
    try:
        return str(asyncio.run(work()))
    except BaseException as error:  # noqa: BLE001 - the child must end here, whatever happens
        return type(error).__name__


async def start_worker(task: str, *arguments: object, environment: Mapping[str, str] | None = None) -> Process:
    """Start a task of `tests/faults/worker.py`; its three streams are pipes."""
    return await start_program("tests.faults.worker", task, *arguments, environment=environment)


async def start_program(module: str, *arguments: object, environment: Mapping[str, str] | None = None) -> Process:
    """Start a module of the tests as a program; its three streams are pipes."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *map(str, arguments),
        cwd=_ROOT,
        env=environment,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )


async def next_line(worker: Process) -> str:
    """Return the next line of the worker's output, without its end, or "" when there is no more."""
    assert worker.stdout is not None
    return (await worker.stdout.readline()).decode().rstrip("\n")


async def finished(worker: Process, *, said: str = "") -> list[str]:
    """Send `said` to the worker, wait for its end, and return the lines it printed; assert that it succeeded."""
    output, errors = await worker.communicate(said.encode())
    assert worker.returncode == 0, errors.decode()
    return output.decode().splitlines()


async def killed(worker: Process) -> list[str]:
    """Kill the worker by `kill -9`; return the whole lines that it printed."""
    worker.kill()
    output, _ = await worker.communicate()
    return output.decode().split("\n")[:-1]
