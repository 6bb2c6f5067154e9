"""What handles read: `engine.ports.Views` as SQL on read-only connections."""

import sqlite3
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from engine.errors import (
    AttemptNotFound,
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
from projections.partitions import StepRow
from projections.reading import (
    IN_RUN,
    SELECT_ATTEMPTS,
    SELECT_STEPS,
    Readers,
    as_attempt,
    as_step,
    own_parameters,
    resolved_parameters,
)
from projections.run_log import compile_branch, compile_run
from projections.runs import RunsWanted, run_info, runs_page
from projections.state_tables import AttemptRow
from projections.streams import branch_name, children_of, find_stream, stream_name, version_at
from projections.tasks import SqliteTaskViews


class SqliteViews:
    """Reads the view tables. Each call is one job on one connection, in one snapshot."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self.tasks = SqliteTaskViews(readers)

    async def stream(self, run_id: str, branch: str) -> Stream:
        return await self._readers.run(lambda connection: find_stream(connection, run_id, branch))

    async def head_at(self, run_id: str, branch: str, at: int | datetime) -> Head:
        def read(connection: sqlite3.Connection) -> Head:
            stream = find_stream(connection, run_id, branch)
            version = version_at(connection, stream, at)
            row = connection.execute(
                "SELECT hash FROM events WHERE root_id = ? AND stream_id = ? AND stream_version = ?",
                (find_stream(connection, run_id, ROOT).stream_id, stream.stream_id, version),
            ).fetchone()
            return Head(branch, version, row[0])

        return await self._readers.run(read)

    async def run_info(self, run_id: str) -> RunInfo:
        return await self._readers.run(lambda connection: run_info(connection, run_id))

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
        wanted = RunsWanted(status, tag, created_from, created_until, limit, cursor)
        return await self._readers.run(lambda connection: runs_page(connection, wanted))

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
                name: Origin(*stream_name(connection, source), own.stream_version)
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
            where, values = (IN_RUN, [run_id]) if branch is None else ("stream_id = ?", [stream.stream_id])
            if step is not None:
                where, values = f"{where} AND task_id = ?", [*values, step]
            rows = connection.execute(
                f"{SELECT_ATTEMPTS} WHERE {where} ORDER BY position",
                values,
            ).fetchall()
            attempts = [AttemptRow(*row) for row in rows]
            return [(branch_name(connection, row.stream_id), as_attempt(row)) for row in attempts]

        return await self._readers.run(read)

    async def attempt(self, run_id: str, attempt_id: str) -> tuple[str, AttemptLog]:
        def read(connection: sqlite3.Connection) -> tuple[str, AttemptLog]:
            row = connection.execute(
                f"{SELECT_ATTEMPTS} WHERE attempt_id = ? AND run_id = ?", (attempt_id, run_id)
            ).fetchone()
            if row is None:
                raise AttemptNotFound(run_id, attempt_id)
            attempt = AttemptRow(*row)
            return branch_name(connection, attempt.stream_id), as_attempt(attempt)

        return await self._readers.run(read)

    async def children(self, run_id: str, branch: str) -> list[str]:
        def read(connection: sqlite3.Connection) -> list[str]:
            return [child.branch for child in children_of(connection, find_stream(connection, run_id, branch))]

        return await self._readers.run(read)

    async def own_values(self, run_id: str, branch: str, children: Sequence[str] | None) -> ChildValues:
        def read(connection: sqlite3.Connection) -> ChildValues:
            streams = children_of(connection, find_stream(connection, run_id, branch))
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
