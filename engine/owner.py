"""Restricts an engine to the process and the event loop that opened it."""

import asyncio
import os

from engine.errors import WrongEventLoop, WrongProcess


class Owner:
    """The process and the event loop on which it was created.

    A forked child has copies of its parent's queues and connections, but not its threads; another event loop would
    never be woken by the futures of the first.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._loop = asyncio.get_running_loop()

    def check(self) -> None:
        """Raise `WrongProcess` in any other process, and `WrongEventLoop` on any other event loop."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # in a forked child, asyncio hides the parent's running loop
            loop = None
        if loop is not self._loop:
            current = os.getpid()
            raise WrongEventLoop if current == self._process else WrongProcess(self._process, current)
