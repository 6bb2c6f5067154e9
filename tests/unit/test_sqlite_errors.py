"""SQLite's errors are translated by their codes."""

import sqlite3
from pathlib import Path

import pytest

from engine.errors import (
    AnabranchError,
    CannotOpen,
    DiskFull,
    FolderNotWritable,
    NotADatabase,
    OutcomeUnknown,
    StoreBusy,
)
from engine.logs.sqlite_errors import translate, translate_opening


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (sqlite3.SQLITE_FULL, DiskFull),
        (sqlite3.SQLITE_BUSY, StoreBusy),
        (sqlite3.SQLITE_LOCKED, StoreBusy),
        (sqlite3.SQLITE_BUSY | (1 << 8), StoreBusy),  # an extended code
        (sqlite3.SQLITE_NOTADB, NotADatabase),
        (sqlite3.SQLITE_CORRUPT, NotADatabase),
        (sqlite3.SQLITE_READONLY, FolderNotWritable),
        (sqlite3.SQLITE_CANTOPEN, FolderNotWritable),
        (sqlite3.SQLITE_PERM, FolderNotWritable),
        (sqlite3.SQLITE_IOERR, OutcomeUnknown),
        (None, OutcomeUnknown),
    ],
)
def test_each_code_is_translated_to_its_error(code: int | None, error: type[AnabranchError]) -> None:
    """Each SQLite code is translated to its error without reading the message; an unknown one is OutcomeUnknown."""
    failure = sqlite3.OperationalError("database is locked")
    if code is not None:
        failure.sqlite_errorcode = code
    opening = translate_opening(failure, Path("runs.db"), busy_timeout=2)
    assert type(opening) is error
    assert getattr(opening, "path", None) == Path("runs.db")
    # After a failed write, it is not known whether the file was changed.
    writing = translate(failure, Path("runs.db"), busy_timeout=2)
    assert type(writing) is (OutcomeUnknown if issubclass(error, CannotOpen) else error)
