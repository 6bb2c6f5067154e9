"""Forking a process that has SQLite databases open.

SQLite keeps, for each file, what locks the process holds, and a forked child inherits that book without the kernel's
locks behind it. A child that then opened the file itself would believe that it holds locks it does not hold: when its
parent closes as the last one that the kernel knows of, the write-ahead log is deleted under the child, and what the
child has committed is lost. So the child closes the inherited connections at once, which empties the book; while the
parent holds its locks, closing changes nothing in the file. And a fork waits until no thread is inside SQLite, because
a mutex held by a thread that the child does not have would stay locked there for ever.
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
_ASK_AGAIN_SECONDS = 0.0005


class _Connection(sqlite3.Connection):
    """One that weak references can name."""


class _Fork:
    """A fork that a thread is about to make, while the thread holds this."""

    __slots__ = ("__weakref__",)


class _Gate:
    """Lets any number of threads into SQLite at once, and a fork only when there is none.

    Several threads may fork at once, and the handler of a signal may raise wherever Python runs in one of them, after
    which Python forks all the same. So nobody holds the gate's lock over a fork, a fork that was interrupted is gone on
    with, and its end is one call into C: a thread lets go of its `_Fork`, and who waits sees that by a weak reference.
    """

    def __init__(self) -> None:
        self._own = threading.local()
        self.end_fork = partial(self._own.__setattr__, "fork", None)
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget all threads: of its parent's, a forked child has the one alone that forked, which is not inside."""
        self._lock = threading.Lock()
        self._inside = 0
        self._forks: list[weakref.ref[_Fork]] = []
        self._raised: BaseException | None = None

    @contextmanager
    def entered(self) -> Iterator[None]:
        while not self._enter():
            time.sleep(_ASK_AGAIN_SECONDS)
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
        """Keep threads out, and wait for those inside."""
        while True:
            try:
                self._begin_fork()
                while self._is_entered():
                    time.sleep(_ASK_AGAIN_SECONDS)
            except BaseException as raised:  # noqa: BLE001 - by a signal's handler
                self._raised = raised.with_traceback(None)  # which would hold what stands for the fork
            else:
                return

    def _begin_fork(self) -> None:
        fork = self._own.fork = _Fork()
        with self._lock:
            self._forks.append(weakref.ref(fork))

    def _is_entered(self) -> bool:
        with self._lock:
            return self._inside > 0

    def raise_again(self) -> None:
        """Raise what a signal's handler raised before the fork, as far as Python lets a fork raise."""
        raised, self._raised = self._raised, None
        if isinstance(raised, KeyboardInterrupt):
            _thread.start_new_thread(_thread.interrupt_main, ())  # from here, it would be raised in here
        elif raised is not None:
            raise raised


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


def connect_new(path: Path) -> sqlite3.Connection:
    """Return a connection to a new file of its owner alone. Nothing is synced: if anything fails it is thrown away."""
    create_for_owner(path)
    with ExitStack() as unless_made:
        connection = unless_made.enter_context(closing(connect(path)))
        connection.execute("PRAGMA journal_mode = OFF")  # SQLite opens the file with the first statement
        connection.execute("PRAGMA synchronous = OFF")
        unless_made.pop_all()
    return connection


def _close_in_forked_child() -> None:
    for connection in list(_CONNECTIONS):
        connection.close()
    _CONNECTIONS.clear()
    _gate.begin_anew()


os.register_at_fork(before=_gate.before_fork, after_in_parent=_gate.end_fork, after_in_child=_close_in_forked_child)
os.register_at_fork(after_in_parent=_gate.raise_again)
