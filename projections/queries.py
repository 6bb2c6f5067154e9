"""What handles read: `engine.ports.Views` as SQL on read-only connections."""

import sqlite3
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

from engine.codec import to_microseconds
from engine.errors import (
    AttemptNotFound,
    BranchNotFound,
    InvalidValue,
    PointNotFound,
    RunNotFound,
    StepNotFound,
)
from engine.model import (
    AttemptLog,
    BranchLog,
    Head,
    Origin,
    Parameter,
    RunInfo,
    RunLog,
    RunPage,
    StepLog,
)
from engine.names import ROOT
from engine.ports import ChildValues, Point, Stream
from projections.columns import from_json, from_text, to_text
from projections.partitions import StepRow
from projections.reading import (
    LATEST,
    SELECT_ATTEMPTS,
    SELECT_STEPS,
    as_attempt,
    as_step,
    own_parameters,
    resolved_parameters,
)
from projections.run_log import compile_branch, compile_run
from projections.state_tables import AttemptRow

Result = TypeVar("Result")

PAGE_RUNS_MAX = 1000

_SELECT_STREAM = "SELECT stream_id, run_id, branch, parent_id, parent_version, version, hash FROM streams"
_SELECT_INFO = (
    "SELECT run_id, status, status_reason, tag, created_at, dag_hash, original_run_id, workspace_slug, root_path,"
    " description, tags, finalized_hash, stream_id FROM runs"
)

_IN_RUN = "stream_id IN (SELECT stream_id FROM branches WHERE run_id = ?)"


class Readers(Protocol):
    async def run(self, job: Callable[[sqlite3.Connection], Result]) -> Result: ...


class SqliteViews:
    """Reads the view tables. Each call is one job on one connection, in one snapshot."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def stream(self, run_id: str, branch: str) -> Stream:
        return await self._readers.run(lambda connection: find_stream(connection, run_id, branch))

    async def head_at(self, run_id: str, branch: str, version: int | None) -> Head:
        def read(connection: sqlite3.Connection) -> Head:
            stream = find_stream(connection, run_id, branch)
            if version is None:
                return Head(branch, stream.version, stream.hash)
            version_at(connection, stream, version)
            row = connection.execute(
                "SELECT hash FROM events WHERE root_id = ? AND stream_id = ? AND stream_version = ?",
                (find_stream(connection, run_id, ROOT).stream_id, stream.stream_id, version),
            ).fetchone()
            return Head(branch, version, row[0])

        return await self._readers.run(read)

    async def run_info(self, run_id: str) -> RunInfo:
        def read(connection: sqlite3.Connection) -> RunInfo:
            row = connection.execute(f"{_SELECT_INFO} WHERE run_id = ?", (run_id,)).fetchone()
            if row is None:
                raise RunNotFound(run_id)
            return _as_run_info(row)

        return await self._readers.run(read)

    async def runs(
        self,
        *,
        status: str | None,
        tag: str | None,
        created_from: datetime | None,
        created_until: datetime | None,
        limit: int,
        cursor: str | None,
    ) -> RunPage:
        where, values = _run_conditions(status, tag, created_from, created_until, cursor)
        if not 1 <= limit <= PAGE_RUNS_MAX:
            raise InvalidValue("limit", limit, f"is not from 1 to {PAGE_RUNS_MAX}")

        def read(connection: sqlite3.Connection) -> RunPage:
            rows = connection.execute(
                f"{_SELECT_INFO} WHERE {where} ORDER BY stream_id DESC LIMIT ?", (*values, limit + 1)
            ).fetchall()
            page = rows[:limit]
            return RunPage([_as_run_info(row) for row in page], str(page[-1][-1]) if len(rows) > limit else None)

        return await self._readers.run(read)

    async def parameters(
        self, run_id: str, branch: str, *, at: Point, names: Collection[str] | None, inherited: bool
    ) -> dict[str, Parameter]:
        def read(connection: sqlite3.Connection) -> dict[str, Parameter]:
            stream = find_stream(connection, run_id, branch)
            version = version_at(connection, stream, at)
            if not inherited:
                own = own_parameters(connection, stream.stream_id, version, names)
                return {name: each.parameter for name, each in own.items()}
            resolved = resolved_parameters(connection, stream.stream_id, version, names)
            return {name: each.parameter for name, (_, each) in resolved.items()}

        return await self._readers.run(read)

    async def sources(self, run_id: str, branch: str, *, at: Point) -> dict[str, Origin]:
        def read(connection: sqlite3.Connection) -> dict[str, Origin]:
            stream = find_stream(connection, run_id, branch)
            resolved = resolved_parameters(connection, stream.stream_id, version_at(connection, stream, at))
            return {
                name: Origin(*_stream_name(connection, source), own.stream_version)
                for name, (source, own) in resolved.items()
            }

        return await self._readers.run(read)

    async def steps(self, run_id: str, branch: str) -> dict[str, StepLog]:
        def read(connection: sqlite3.Connection) -> dict[str, StepLog]:
            return read_steps(connection, find_stream(connection, run_id, branch).stream_id)

        return await self._readers.run(read)

    async def step(self, run_id: str, branch: str, step: str) -> StepLog:
        def read(connection: sqlite3.Connection) -> StepLog:
            key = find_stream(connection, run_id, branch).stream_id, step
            row = connection.execute(f"{SELECT_STEPS} WHERE stream_id = ? AND step = ?", key).fetchone()
            if row is None:
                raise StepNotFound(run_id, branch, step)
            return as_step(StepRow(*row), _attempts(connection, "stream_id = ? AND task_id = ?", key))

        return await self._readers.run(read)

    async def attempts(self, run_id: str, branch: str | None, step: str | None) -> list[tuple[str, AttemptLog]]:
        def read(connection: sqlite3.Connection) -> list[tuple[str, AttemptLog]]:
            stream = find_stream(connection, run_id, branch or ROOT)
            values: list[Any]
            where, values = (_IN_RUN, [run_id]) if branch is None else ("stream_id = ?", [stream.stream_id])
            if step is not None:
                where, values = f"{where} AND task_id = ?", [*values, step]
            rows = connection.execute(
                f"{SELECT_ATTEMPTS} WHERE {where} ORDER BY created_at, stream_id, task_id, attempt_index",
                values,
            ).fetchall()
            attempts = [AttemptRow(*row) for row in rows]
            return [(_branch_name(connection, row.stream_id), as_attempt(row)) for row in attempts]

        return await self._readers.run(read)

    async def attempt(self, run_id: str, attempt_id: str) -> tuple[str, AttemptLog]:
        def read(connection: sqlite3.Connection) -> tuple[str, AttemptLog]:
            row = connection.execute(
                f"{SELECT_ATTEMPTS} WHERE attempt_id = ? AND run_id = ?", (attempt_id, run_id)
            ).fetchone()
            if row is None:
                raise AttemptNotFound(run_id, attempt_id)
            attempt = AttemptRow(*row)
            return _branch_name(connection, attempt.stream_id), as_attempt(attempt)

        return await self._readers.run(read)

    async def children(self, run_id: str, branch: str) -> list[str]:
        def read(connection: sqlite3.Connection) -> list[str]:
            return [child.branch for child in _children(connection, find_stream(connection, run_id, branch))]

        return await self._readers.run(read)

    async def own_values(self, run_id: str, branch: str, children: Sequence[str] | None) -> ChildValues:
        def read(connection: sqlite3.Connection) -> ChildValues:
            streams = _children(connection, find_stream(connection, run_id, branch))
            if children is not None:
                streams = [find_stream(connection, run_id, child) for child in children]
            values: dict[str, list[Parameter]] = {}
            for stream in streams:
                for name, own in own_parameters(connection, stream.stream_id).items():
                    values.setdefault(name, []).append(own.parameter)
            heads = tuple(Head(stream.branch, stream.version, stream.hash) for stream in streams)
            return ChildValues(heads, values)

        return await self._readers.run(read)

    async def compile(self, run_id: str, *, nested: bool, inherited: bool) -> RunLog:
        def read(connection: sqlite3.Connection) -> RunLog:
            root = find_stream(connection, run_id, ROOT)
            return compile_run(connection, root, nested=nested, inherited=inherited)

        return await self._readers.run(read)

    async def compile_branch(self, run_id: str, branch: str, *, nested: bool, inherited: bool) -> BranchLog:
        def read(connection: sqlite3.Connection) -> BranchLog:
            stream = find_stream(connection, run_id, branch)
            return compile_branch(connection, stream, nested=nested, inherited=inherited)

        return await self._readers.run(read)


def find_stream(connection: sqlite3.Connection, run_id: str, branch: str) -> Stream:
    """Return a branch's stream.

    Raises:
        RunNotFound, BranchNotFound
    """
    row = connection.execute(f"{_SELECT_STREAM} WHERE run_id = ? AND branch = ?", (run_id, branch)).fetchone()
    if row is not None:
        return Stream(*row)
    if branch != ROOT:
        find_stream(connection, run_id, ROOT)
        raise BranchNotFound(run_id, branch)
    raise RunNotFound(run_id)


def version_at(connection: sqlite3.Connection, stream: Stream, at: Point) -> int:
    """Return the stream version that a point means.

    Raises:
        PointNotFound: the stream does not reach the version, or had not begun at the time.
        InvalidValue: the time has no time zone.
    """
    if at is None:
        return LATEST
    version = at if isinstance(at, int) else _version_at_time(connection, stream, at)
    if not 1 <= version <= stream.version:
        raise PointNotFound(stream.run_id, stream.branch, at, stream.version)
    return version


def _version_at_time(connection: sqlite3.Connection, stream: Stream, at: datetime) -> int:
    root = find_stream(connection, stream.run_id, ROOT)
    version: int = connection.execute(
        "SELECT coalesce(max(stream_version), 0) FROM events WHERE root_id = ? AND stream_id = ? AND recorded_at <= ?",
        (root.stream_id, stream.stream_id, to_microseconds(at)),
    ).fetchone()[0]
    return version


def read_steps(connection: sqlite3.Connection, stream_id: int) -> dict[str, StepLog]:
    """Return a branch's steps by internal name, in the order in which they were first logged."""
    attempts: dict[str, list[AttemptLog]] = {}
    for attempt in _attempts(connection, "stream_id = ?", (stream_id,)):
        attempts.setdefault(attempt.step, []).append(attempt)
    rows = connection.execute(f"{SELECT_STEPS} WHERE stream_id = ? ORDER BY position", (stream_id,))
    return {row[1]: as_step(StepRow(*row), attempts.get(row[1], [])) for row in rows}


def _attempts(connection: sqlite3.Connection, where: str, values: Sequence[Any]) -> list[AttemptLog]:
    rows = connection.execute(f"{SELECT_ATTEMPTS} WHERE {where} ORDER BY task_id, attempt_index", values)
    return [as_attempt(AttemptRow(*row)) for row in rows]


def _children(connection: sqlite3.Connection, stream: Stream) -> list[Stream]:
    rows = connection.execute(
        f"{_SELECT_STREAM} WHERE parent_id = ? AND run_id = ? ORDER BY stream_id",
        (stream.stream_id, stream.run_id),
    )
    return [Stream(*row) for row in rows]


def _stream_name(connection: sqlite3.Connection, stream_id: int) -> tuple[str, str]:
    run_id, branch = connection.execute(
        "SELECT run_id, branch FROM streams WHERE stream_id = ?", (stream_id,)
    ).fetchone()
    return run_id, branch


def _branch_name(connection: sqlite3.Connection, stream_id: int) -> str:
    return _stream_name(connection, stream_id)[1]


def _run_conditions(
    status: str | None,
    tag: str | None,
    created_from: datetime | None,
    created_until: datetime | None,
    cursor: str | None,
) -> tuple[str, list[Any]]:
    conditions: list[tuple[str, Any]] = []
    if status is not None:
        conditions.append(("status = ?", status))
    if tag is not None:
        conditions.append(("tag = ?", tag))
    if created_from is not None:
        conditions.append(("created_at >= ?", to_text(created_from)))
    if created_until is not None:
        conditions.append(("created_at <= ?", to_text(created_until)))
    if cursor is not None:
        if not cursor.isdecimal() or not cursor.isascii() or int(cursor) > LATEST:
            raise InvalidValue("cursor", cursor, "is not one that a page of runs gave")
        conditions.append(("stream_id < ?", int(cursor)))
    return " AND ".join(condition for condition, _ in conditions) or "TRUE", [value for _, value in conditions]


def _as_run_info(row: tuple[Any, ...]) -> RunInfo:
    (
        run_id,
        status,
        reason,
        tag,
        created_at,
        dag_hash,
        original,
        slug,
        root_path,
        description,
        tags,
        final,
        _,
    ) = row
    return RunInfo(
        run_id=run_id,
        status=status,
        status_reason=reason,
        tag=tag,
        created_at=from_text(created_at),
        dag_hash=dag_hash,
        original_run_id=original,
        workspace_slug=slug,
        root_path=root_path,
        description=description,
        tags=from_json(tags) if tags else {},
        finalized=final is not None,
    )
