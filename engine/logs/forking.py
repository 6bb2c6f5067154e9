"""Forking a process that has SQLite databases open.

SQLite keeps, for each file, what locks the process holds, and a forked child inherits that book without the kernel's
locks behind it. A child that then opened the file itself would believe that it holds locks it does not hold: when its
parent closes as the last one that the kernel knows of, the write-ahead log is deleted under the child, and what the
child has committed is lost. So the child closes the inherited connections at once, which empties the book; while the
parent holds its locks, closing changes nothing in the file. And a fork waits until no thread is inside SQLite, because
a mutex held by a thread that the child does not have would stay locked there for ever.
"""

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BUSY_SECONDS = 5.0


class _Connection(sqlite3.Connection):
    """One that weak references can name."""


class _Gate:
    """Lets any number of threads into SQLite at once, and a fork only when there is none."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._forks = 0

    @contextmanager
    def entered(self) -> Iterator[None]:
        with self._changed:
            while self._forks:
                self._changed.wait()
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def before_fork(self) -> None:
        """Keep threads out, wait for those inside, and hold the gate's own lock over the fork."""
        self._changed.acquire()
        self._forks += 1
        while self._inside:
            self._changed.wait()

    def after_fork(self) -> None:
        self._forks -= 1
        self._changed.notify_all()
        self._changed.release()


_gate = _Gate()
_CONNECTIONS: weakref.WeakSet[_Connection] = weakref.WeakSet()

inside_sqlite = _gate.entered
"""The context in which a thread may use a connection. Not to be entered twice, nor while waiting for another process's
lock, because forks wait for it."""


def connect(database: Path | str, *, uri: bool = False, busy_timeout: float = _BUSY_SECONDS) -> sqlite3.Connection:
    """Return a connection in autocommit mode, inside `inside_sqlite`; a forked child will not have it.

    It does not check its thread, so that a child can close it: what keeps it to one thread is `ThreadConnection`.
    """
    connection = sqlite3.connect(
        database,
        timeout=busy_timeout,
        isolation_level=None,
        check_same_thread=False,
        factory=_Connection,
        uri=uri,
    )
    _CONNECTIONS.add(connection)
    return connection


def _close_in_forked_child() -> None:
    for connection in list(_CONNECTIONS):
        connection.close()
    _CONNECTIONS.clear()
    _gate.after_fork()


os.register_at_fork(before=_gate.before_fork, after_in_parent=_gate.after_fork, after_in_child=_close_in_forked_child)
