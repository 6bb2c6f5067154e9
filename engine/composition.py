"""The composition root: the only module of the engine that imports the projections."""

import sqlite3
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypedDict, cast
from urllib.parse import unquote, urlsplit

from engine.backup import BackupProgress
from engine.codec import EVENT_BYTES_MAX
from engine.encoding.values import check_flag
from engine.errors import AlreadyEntered, InvalidValue
from engine.handles.engine import Engine
from engine.logs.sqlite import open_sqlite_log
from engine.logs.sqlite_audit import SqliteAudit
from engine.logs.sqlite_backup import Proof, SqliteBackup
from engine.logs.sqlite_opening import Durability, Settings
from engine.logs.sqlite_rebuild import SqliteViewMaintenance
from engine.logs.sqlite_removal import SqliteRemoval
from engine.logs.sqlite_settling import settle
from engine.logs.sqlite_transfer import SqliteTransfer
from engine.logs.wal_limit import WAL_BYTES_MAX, WAL_BYTES_RANGE
from engine.ports import State, StreamHeads
from engine.projectors import Projectors
from projections.decision_state import DecisionState
from projections.partitions import Partitions
from projections.queries import SqliteViews
from projections.rebuild import ViewRebuilder
from projections.state import StateViews

EVENT_BYTES_RANGE: Final = (256, 2**30)
BUSY_TIMEOUT_RANGE: Final = (0, 86_400)


class OpenOptions(TypedDict, total=False):
    """The options of `open_engine`, shared by everything that opens an engine for its callers."""

    durability: Durability
    event_bytes_max: int
    busy_timeout: float
    wal_bytes_max: int
    allow_network: bool
    read_only: bool


def open_engine(
    path: str | Path,
    *,
    durability: Durability = "full",
    event_bytes_max: int = EVENT_BYTES_MAX,
    busy_timeout: float = 30.0,
    wal_bytes_max: int = WAL_BYTES_MAX,
    allow_network: bool = False,
    read_only: bool = False,
) -> "OpeningEngine":
    """Open the store at `path`: `async with open_engine("runs.db") as engine`, or `engine = await open_engine(…)`.

    A missing file is created along with its folder; a file of an older version is migrated.

    Args:
        path: of a SQLite file, or a URL: `sqlite:///relative.db`, `sqlite:////absolute.db`, with percent-encoding
            (`%20`) for characters that a URL cannot hold.
        durability: with `"full"`, every acknowledged write survives a power cut; `"relaxed"` is faster and survives the
            death of the process, but the last writes may be lost in a power cut.
        event_bytes_max: the largest encoded event that is accepted, in bytes.
        busy_timeout: how long a write waits for other processes, in seconds.
        wal_bytes_max: how large readers may let the write-ahead log grow, in bytes. At that size, the reads that hold
            it up raise `ReadOvertaken`, unless they are less than a second old.
        allow_network: allow a file on a network file system.
        read_only: open for reading only, for archives and read-only media: no files are created beside the store, and
            writes raise `StoreReadOnly`. Nobody may write to the file meanwhile. It has to be of the current version
            and closed, that is, without a write-ahead log.

    Raises:
        InvalidValue: at once.
        CannotOpen, StoreUnavailable, such as StoreBusy and DiskFull: when the engine is entered or awaited.
    """
    if durability not in ("full", "relaxed"):
        raise InvalidValue("durability", durability, 'is neither "full" nor "relaxed"')
    check_flag(allow_network, "allow_network")
    check_flag(read_only, "read_only")
    _check_number("event_bytes_max", event_bytes_max, EVENT_BYTES_RANGE, whole=True)
    _check_number("busy_timeout", busy_timeout, BUSY_TIMEOUT_RANGE, whole=False)
    _check_number("wal_bytes_max", wal_bytes_max, WAL_BYTES_RANGE, whole=True)
    settings = Settings(
        durability=durability,
        event_bytes_max=event_bytes_max,
        busy_timeout=busy_timeout,
        wal_bytes_max=wal_bytes_max,
        allow_network=allow_network,
        read_only=read_only,
    )
    return OpeningEngine(as_path(path), settings)


class OpeningEngine:
    """An engine about to be opened: enter it once, or await it."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self._path = path
        self._settings = settings
        self._entered = False
        self._engine: Engine | None = None

    def __await__(self) -> Generator[Any, None, Engine]:
        return _open(self._path, self._settings).__await__()

    async def __aenter__(self) -> Engine:
        if self._entered:
            raise AlreadyEntered("open_engine(…)")
        self._entered = True
        self._engine = await self
        return self._engine

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._engine is not None, "entered"
        await self._engine.__aexit__(error_type, error, trace)


async def _open(path: Path, settings: Settings) -> Engine:
    log, stale = await open_sqlite_log(path, make_views, settings)
    maintenance = SqliteViewMaintenance(log, lambda: ViewRebuilder(make_projectors))
    audit = SqliteAudit(log.readers)
    engine = Engine(
        log.path,
        log,
        SqliteViews(log.readers),
        maintenance=maintenance,
        audit=audit,
        removal=SqliteRemoval(log),
        backup=SqliteBackup(log, _prove),
        transfer=SqliteTransfer(log),
    )
    try:
        if log.is_in_doubt:
            await settle(log, audit, maintenance)
        if stale:
            await maintenance.bring_to({view.name: view.version for view in (Partitions, StateViews)})
    except BaseException:
        await engine.close()
        raise
    return engine


async def _prove(copy: Path, progress: BackupProgress) -> Proof:
    # A network file system is safe here: no other process has the copy open.
    async with OpeningEngine(copy, Settings(allow_network=True)) as engine:
        found = await engine.verify(progress=partial(progress, "verifying"))
        return found, [] if found.in_history else await engine.verify_views(partial(progress, "comparing"))


def make_projectors(connection: sqlite3.Connection) -> Projectors:
    """Return the inline views on a connection."""
    return Projectors(Partitions(connection), StateViews(connection))


def make_views(
    connection: sqlite3.Connection, heads: StreamHeads, write_batch: Callable[[], None]
) -> tuple[Projectors, State]:
    """Return the inline views on a connection, and the state for decisions; see `engine.logs.sqlite_append`."""
    partitions, views = Partitions(connection), StateViews(connection)
    return Projectors(partitions, views), DecisionState(connection, heads, partitions, views, write_batch)


def _check_number(where: str, value: object, limits: tuple[int, int], *, whole: bool) -> None:
    minimum, maximum = limits
    is_number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not is_number or not minimum <= cast("float", value) <= maximum:
        kind = "whole number" if whole else "number"
        raise InvalidValue(where, value, f"is not a {kind} from {minimum:,} to {maximum:,}")


def as_path(path: str | Path) -> Path:
    """Return the file path of a path or a URL.

    Raises:
        InvalidValue: it names no file.
    """
    if not isinstance(path, str | Path):
        raise InvalidValue("path", path, f"is {type(path).__name__}, not a path")
    if isinstance(path, Path):
        return path
    if path in ("", ":memory:") or path.startswith("file:"):
        raise InvalidValue("path", path, "names no file; give a path, or a URL like sqlite:///relative.db")
    if "://" not in path:
        return Path(path)
    try:
        url = urlsplit(path)
        name = unquote(url.path, errors="strict")[1:]
    except ValueError as error:
        raise InvalidValue("path", path, f"is not a URL: {error}") from error
    if url.scheme != "sqlite" or url.netloc or not name:
        raise InvalidValue("path", path, "is not a URL like sqlite:///relative.db or sqlite:////absolute.db")
    if name == ":memory:":
        raise InvalidValue("path", path, "names no file; a store cannot be in memory")
    if "?" in path or "#" in path:
        raise InvalidValue("path", path, "has a query or a fragment; options are arguments, and %3F is a ? in a name")
    return Path(name)
