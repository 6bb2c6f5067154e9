"""Which database file a command uses.

It is `--db PATH`, else the environment variable `ANABRANCH_DB`, else `anabranch.db` in the current folder. The demo and
an import create a missing file; every other command refuses a missing or empty one. Files that are not anabranch
databases are left untouched.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from engine import Engine, open_engine
from engine.cli.hints import SIMILAR_AMONG_MAX, did_you_mean, did_you_mean_branch
from engine.cli.text import branch_text
from engine.errors import BranchNotFound, CannotOpen, FolderNotWritable, NotADatabase, RunNotFound
from engine.logger import get_logger
from engine.logs import sqlite_schema
from engine.logs.file_system import resolved
from engine.logs.forking import inside_sqlite
from engine.logs.mounts import refuse_network
from engine.logs.own_files import WAL, beside
from engine.logs.readers import connect_read_only, in_snapshot
from engine.logs.sqlite_errors import code_of
from engine.logs.state_store import is_state_store
from engine.names import ROOT

DEFAULT_DATABASE: Final = Path("anabranch.db")

_log = get_logger(__name__)

_PAGE_RUNS: Final = 1000


class DatabaseNotFound(CannotOpen):
    """There is no database to read. Only the command line raises this `CannotOpen`."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "no such database (set --db or ANABRANCH_DB; `anabranch demo` creates one)")


@contextlib.asynccontextmanager
async def existing(path: Path) -> AsyncIterator[Engine]:
    """Open an existing database; one that may not be written is opened read-only.

    Raises:
        DatabaseNotFound, and what `open_engine` raises
    """
    check_there(path)
    await asyncio.to_thread(check_ours, path)
    async with await _opened(path) as engine:
        try:
            yield engine
        except RunNotFound as error:
            raise await _explained(engine, error) from error
        except BranchNotFound as error:
            if hint := await _hint(engine, error):
                error.add_note(hint)
            raise


async def _opened(path: Path) -> Engine:
    try:
        return await open_engine(path)
    except FolderNotWritable as error:
        try:
            engine = await open_engine(path, read_only=True)
        except CannotOpen as also:
            error.add_note(f"opening it read-only failed, too: {also.reason}")
            raise error from also
        _log.warning("opened read-only: no permission to write the file or its folder", path=str(path))
        return engine


async def _explained(engine: Engine, error: RunNotFound) -> RunNotFound:
    """Return the error with when and why the run was deleted, or with similar ids of runs."""
    try:
        await engine.run(error.run_id)
    except RunNotFound as told:
        error = told
    if error.deleted_at is None:
        known = [run_id async for run_id in ids_of_runs(engine, SIMILAR_AMONG_MAX)]
        if hint := did_you_mean(error.run_id, known):
            error.add_note(hint)
    return error


async def _hint(engine: Engine, error: BranchNotFound) -> str:
    """Return a hint to what a branch's name may have meant; empty if there is none."""
    if error.branch == branch_text(ROOT):
        return "omit --branch for the root branch"
    known = await engine.views.branch_names(error.run_id, limit=SIMILAR_AMONG_MAX)
    return did_you_mean_branch(error.branch, known)


async def ids_of_runs(engine: Engine, runs_max: int | None = None) -> AsyncIterator[str]:
    """Yield the ids of all runs, the last recorded first; with `runs_max`, stop after the page that reaches it."""
    page, read = await engine.runs(limit=_PAGE_RUNS), 0
    while True:
        for run in page:
            yield run.run_id
        read += len(page)
        if page.cursor is None or (runs_max is not None and read >= runs_max):
            return
        page = await engine.runs(limit=_PAGE_RUNS, cursor=page.cursor)


def check_there(path: Path) -> None:
    """Check that there is a file that could be a database.

    Raises:
        CannotOpen
    """
    if not path.exists() or (path.is_file() and path.stat().st_size == 0):
        raise DatabaseNotFound(path)
    if not (path.is_file() or path.is_dir()):
        raise CannotOpen(path, "it is not a regular file")


def check_ours(path: Path, *, allow_network: bool = False) -> None:
    """Check that a file is an anabranch database: opening any other file would leave a lock file beside it.

    A file that cannot be read passes: opening it raises the proper error.

    Raises:
        CannotOpen
    """
    path = resolved(path)
    if not allow_network:
        refuse_network(path.parent)  # SQLite's shared memory does not work there
    try:
        # Unless it is opened as immutable, SQLite leaves a write-ahead log of ours beside a database that was closed.
        is_closed = not beside(path, WAL).exists() and _is_in_wal_mode(path)
        with inside_sqlite(), contextlib.closing(connect_read_only(path, immutable=is_closed)) as connection:
            in_snapshot(connection, lambda each: _check_schema(each, path))
    except (sqlite3.Error, UnicodeDecodeError) as error:  # sqlite3 fails to decode the names in a damaged schema
        if code_of(error) == sqlite3.SQLITE_NOTADB:
            raise NotADatabase(path, str(error)) from error


def _is_in_wal_mode(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            header = file.read(20)
    except OSError:
        return False
    return header[18:20] == b"\x02\x02"  # https://www.sqlite.org/fileformat2.html#file_format_version_numbers


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    sqlite_schema.check_ours(connection, path, ())
    if not sqlite_schema.schema_version(connection) and not is_state_store(connection):
        raise DatabaseNotFound(path)
