"""Runs the resumable sweep of `examples/`, and kills its own process around the n-th epoch that it records."""

import asyncio
import os
import signal
import sys
from typing import Any
from unittest.mock import patch

from engine import Branch
from examples.resumable_sweep import sweep


def run_and_die(path: str, when: str, epochs: int) -> None:
    """Kill the process `before` or `after` it records that many epochs."""
    record, recorded = Branch.set_parameters, 0

    async def counted(branch: Branch, values: Any, **options: Any) -> Any:
        nonlocal recorded
        recorded += 1
        if recorded == epochs and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = await record(branch, values, **options)
        if recorded >= epochs and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    with patch.object(Branch, "set_parameters", counted):
        asyncio.run(sweep(path))


if __name__ == "__main__":
    run_and_die(sys.argv[1], sys.argv[2], int(sys.argv[3]))
