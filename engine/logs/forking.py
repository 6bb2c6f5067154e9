"""Forking a process that has SQLite databases open.

SQLite keeps a table of the locks that the process holds on each file. A forked child inherits the table, but not the
kernel's locks. If the child then opened the file, it would assume locks that it does not hold: when the parent, the
last holder known to the kernel, closes its connection, it deletes the write-ahead log under the child, and the child's
commits are lost. So the child closes the inherited connections at once, which clears the table; while the parent holds
its locks, closing changes nothing in the file. A fork also waits until no thread is inside SQLite, because a mutex held
by a thread that does not exist in the child would stay locked there forever.
"""

import _thread
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

from engine.logs.file_system import create_for_owner

_BUSY_SECONDS = 5.0
_POLL_SECONDS = 0.0005


class _Connection(sqlite3.Connection):
    """A connection that supports weak references."""


class _Fork:
    """Marks a pending fork for as long as the forking thread references it."""

    __slots__ = ("__weakref__",)


class _Gate:
    """Admits any number of threads to SQLite at once, and a fork only while no thread is inside.

    Several threads may fork at once, and a signal handler may raise at any point of the Python code before a fork,
    after which Python forks anyway. So no lock is held across a fork, an interrupted preparation is repeated, and a
    fork ends with a single C call: the thread drops its `_Fork`, which waiting threads observe by a weak reference.
    """

    def __init__(self) -> None:
        self._local = threading.local()
        self.end_fork = partial(self._local.__setattr__, "fork", None)
        self.reset()

    def reset(self) -> None:
        """Reset in a forked child, whose only thread is the one that forked, which is not inside."""
        self._lock = threading.Lock()
        self._inside = 0
        self._forks: list[weakref.ref[_Fork]] = []
        self._raised: BaseException | None = None

    @contextmanager
    def entered(self) -> Iterator[None]:
        while not self._enter():
            time.sleep(_POLL_SECONDS)
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1

    def _enter(self) -> bool:
        with self._lock:
            if self._forks:
                self._forks = [fork for fork in self._forks if fork() is not None]
            if self._forks:
                return False
            self._inside += 1
            return True

    def before_fork(self) -> None:
        """Stop admitting threads, and wait until none is inside."""
        while True:
            try:
                self._begin_fork()
                while self._is_entered():
                    time.sleep(_POLL_SECONDS)
            except BaseException as raised:  # noqa: BLE001 - from a signal handler
                self._raised = raised.with_traceback(None)  # the traceback would keep the `_Fork` alive
            else:
                return

    def _begin_fork(self) -> None:
        fork = self._local.fork = _Fork()
        with self._lock:
            self._forks.append(weakref.ref(fork))

    def _is_entered(self) -> bool:
        with self._lock:
            return self._inside > 0

    def raise_again(self) -> None:
        """Raise what a signal handler raised before the fork, as far as Python lets a fork hook raise."""
        raised, self._raised = self._raised, None
        if isinstance(raised, KeyboardInterrupt):
            _thread.start_new_thread(_thread.interrupt_main, ())  # called here, it would raise inside this hook
        elif raised is not None:
            raise raised


_gate = _Gate()
_CONNECTIONS: weakref.WeakSet[_Connection] = weakref.WeakSet()

inside_sqlite = _gate.entered
"""The context in which a thread may use a connection. Forks wait for it to end: do not nest it, and do not wait for
another process's lock inside it."""


def connect(database: Path | str, *, uri: bool = False, busy_timeout: float = _BUSY_SECONDS) -> sqlite3.Connection:
    """Return a connection in autocommit mode, which a forked child closes. Call it inside `inside_sqlite`.

    sqlite3's thread check is off, so that a child can close the connection; `ThreadConnection` confines it to a thread.
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


def connect_new(path: Path) -> sqlite3.Connection:
    """Return a connection to a new owner-only file, without a journal or syncs: after any failure, discard the file."""
    create_for_owner(path)
    with ExitStack() as on_failure:
        connection = on_failure.enter_context(closing(connect(path)))
        connection.execute("PRAGMA journal_mode = OFF")  # SQLite opens the file at the first statement
        connection.execute("PRAGMA synchronous = OFF")
        on_failure.pop_all()
    return connection


def _close_in_forked_child() -> None:
    for connection in list(_CONNECTIONS):
        connection.close()
    _CONNECTIONS.clear()
    _gate.reset()


os.register_at_fork(before=_gate.before_fork, after_in_parent=_gate.end_fork, after_in_child=_close_in_forked_child)
os.register_at_fork(after_in_parent=_gate.raise_again)
