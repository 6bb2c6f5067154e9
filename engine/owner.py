"""The process and the event loop that opened an engine are the only ones that may use it."""

import asyncio
import os

from engine.errors import WrongEventLoop, WrongProcess


class Owner:
    """The process and the event loop that it is made on.

    A forked child has copies of its parent's queues and connections, but no threads; another event loop, or one that
    comes after the first has ended, is never woken by what the first waits for.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._loop = asyncio.get_running_loop()

    def check(self) -> None:
        """Raise `WrongProcess` in any other process, and `WrongEventLoop` on any other event loop."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # asyncio lets no forked child go on with its parent's
            loop = None
        if loop is not self._loop:
            self._refuse()

    def _refuse(self) -> None:
        current = os.getpid()
        raise WrongEventLoop if current == self._process else WrongProcess(self._process, current)
