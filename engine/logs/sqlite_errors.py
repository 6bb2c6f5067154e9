"""Translates SQLite's errors into the engine's, by their error codes."""

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
"""The errors for a row that SQLite cannot store, raised before the commit; other errors are about the file."""

_NOT_WRITABLE = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM})


def translate_opening(error: sqlite3.Error, path: Path, *, busy_timeout: float) -> AnabranchError:
    """Return the engine's error for a failed opening, which has left the file unchanged."""
    code = primary_code(error)
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return NotADatabase(path, str(error))
    if code in _NOT_WRITABLE:
        return FolderNotWritable(path, str(error))
    if code_of(error) == sqlite3.SQLITE_IOERR_SHMSIZE:  # no space for the shared-memory file
        return DiskFull(path)
    return translate(error, path, busy_timeout=busy_timeout)


def translate(error: sqlite3.Error, path: Path, *, busy_timeout: float) -> AnabranchError:
    """Return the engine's error for a failed write."""
    if isinstance(error, BAD_ROW):
        return RowRefused(path, str(error))
    code = primary_code(error)
    if code == sqlite3.SQLITE_FULL:
        return DiskFull(path)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreBusy(path, busy_timeout)
    return OutcomeUnknown(path, str(error))


def is_damage(error: BaseException | None) -> bool:
    """Whether an error means that pages of the file are damaged or cannot be read from the disk."""
    code = code_of(error)
    if code is None:
        return type(error) is sqlite3.DatabaseError  # raised by sqlite3 or `lenient` for undecodable text
    return code in _PAGES_LOST or primary_code(error) == sqlite3.SQLITE_CORRUPT


_PAGES_LOST: Final = frozenset(
    {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS}
)

_ADVICE: Final = "`anabranch doctor` says what to do"

# What code raises for a damaged row: a text instead of a number, half a document, a missing row.
_ROW_DAMAGE: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


def as_row_damaged(error: Exception, path: Path) -> Exception:
    """Return `RowDamaged` for an error that a damaged row has caused, and any other error unchanged.

    Only for code that processes the engine's own rows: the errors of a caller's file or function are the caller's.
    """
    if isinstance(error, AnabranchError) or not isinstance(error, _ROW_DAMAGE):
        return error
    damaged = RowDamaged(path, _described(error))
    damaged.__cause__ = error
    return damaged


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise `ReadFailed` for an error of SQLite, or one that a damaged row causes, while the block reads rows."""
    try:
        yield
    except AnabranchError:
        raise
    except (sqlite3.Error, UnicodeDecodeError) as error:  # sqlite3 raises the latter for damaged names
        raise ReadFailed(path, str(error), _ADVICE) from error
    except _ROW_DAMAGE as error:
        raise ReadFailed(path, f"a row is damaged: {_described(error)}", _ADVICE) from error


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def code_of(error: BaseException | None) -> int | None:
    """Return SQLite's extended error code, or None for other errors, including those of the sqlite3 module itself."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return code


def primary_code(error: BaseException | None) -> int | None:
    """Return SQLite's primary error code, the lower byte of the extended one; None as for `code_of`."""
    code = code_of(error)
    return None if code is None else code & 0xFF
