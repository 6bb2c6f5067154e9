"""Children that `kill_at.c`, which must be preloaded, kills at a change to a folder's files."""

import asyncio
import ctypes
import os
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

_LIBRARY = ctypes.CDLL(None)  # where the symbols of a preloaded library are found


def killed_at(folder: Path, change: int, work: Callable[[], Coroutine[Any, Any, object]]) -> bool:
    """Run `work` in a child that is killed at that change; return whether it was killed before it finished.

    Every other kill comes in the middle of the change, if that is a write.
    """
    child = os.fork()
    if child == 0:
        try:
            _LIBRARY.arm(os.fsencode(folder), ctypes.c_long(change), change % 2)
            asyncio.run(work())
        except BaseException:  # noqa: BLE001 - the child must end here, whatever happens
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), status
    return status == signal.SIGKILL
