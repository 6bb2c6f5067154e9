"""SQLite's errors as the engine's own, told apart by their codes."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from engine.errors import (
    AnabranchError,
    DiskFull,
    FolderNotWritable,
    NotADatabase,
    OutcomeUnknown,
    ReadFailed,
    RowDamaged,
    RowRefused,
    StoreBusy,
)

BAD_ROW = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError)
"""What SQLite says of a row that it cannot hold, before it is committed; its other errors are about the file."""

_NOT_WRITABLE = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM})


def opening_failed(error: sqlite3.Error, path: Path, *, busy_timeout: float) -> AnabranchError:
    """Return the error of ours that a failed opening means: the file is as it was."""
    code = primary_code(error)
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return NotADatabase(path, str(error))
    if code in _NOT_WRITABLE:
        return FolderNotWritable(path, str(error))
    if code_of(error) == sqlite3.SQLITE_IOERR_SHMSIZE:  # no room for what readers share
        return DiskFull(path)
    return translate(error, path, busy_timeout=busy_timeout)


def translate(error: sqlite3.Error, path: Path, *, busy_timeout: float) -> AnabranchError:
    """Return the error of ours that a failed write means."""
    if isinstance(error, BAD_ROW):
        return RowRefused(path, str(error))
    code = primary_code(error)
    if code == sqlite3.SQLITE_FULL:
        return DiskFull(path)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreBusy(path, busy_timeout)
    return OutcomeUnknown(path, str(error))


def is_damage(error: BaseException | None) -> bool:
    """Say whether the error is that SQLite found pages that are not whole, or could not get them from the disk."""
    code = code_of(error)
    if code is None:
        return type(error) is sqlite3.DatabaseError  # the adapter's own, over a text in them
    return code in _PAGES_LOST or primary_code(error) == sqlite3.SQLITE_CORRUPT


_PAGES_LOST: Final = frozenset(
    {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS}
)

_ADVICE: Final = "`anabranch doctor` says what to do"

# What Python says of a row that holds what was never recorded: a text where a number was, half a document, no row.
_DAMAGED: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


def named(error: Exception, path: Path) -> Exception:
    """Return the error of ours for what a decision tripped over in a row, which is its cause; any other as it is.

    For work whose rows are the engine's alone: what a caller's file or function raises is the caller's.
    """
    if isinstance(error, AnabranchError) or not isinstance(error, _DAMAGED):
        return error
    damaged = RowDamaged(path, _said(error))
    damaged.__cause__ = error
    return damaged


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise what fails while rows are read as an error of ours, also where it is not SQLite that trips over them.

    Raises:
        ReadFailed
    """
    try:
        yield
    except AnabranchError:
        raise
    except (sqlite3.Error, UnicodeDecodeError) as error:  # sqlite3 itself trips over damaged names
        raise ReadFailed(path, str(error), _ADVICE) from error
    except _DAMAGED as error:
        raise ReadFailed(path, f"a row is damaged: {_said(error)}", _ADVICE) from error


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def code_of(error: BaseException | None) -> int | None:
    """Return SQLite's extended code of an error; None for what is no error of SQLite's, such as sqlite3's own."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return code


def primary_code(error: BaseException | None) -> int | None:
    """Return the kind of an error, which is the lower byte of its code; None as `code_of`."""
    code = code_of(error)
    return None if code is None else code & 0xFF
