"""The process that opened an engine is the only one that may use it."""

import os

from engine.errors import WrongProcess


class OwnerProcess:
    """The process that makes it. A forked child has copies of its parent's queues and connections, but no threads."""

    def __init__(self) -> None:
        self._process = os.getpid()

    def check(self) -> None:
        """Raise `WrongProcess` in any other process."""
        current = os.getpid()
        if current != self._process:
            raise WrongProcess(self._process, current)
