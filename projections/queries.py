"""The reads of handles: `engine.views.Views` as SQL on read-only connections."""

import sqlite3
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any, TypeAlias, TypeVar

from engine.errors import AttemptNotFound, RunNotFound, StepNotFound
from engine.lineage import Lineage, LineageQuery
from engine.model import AttemptLog, BranchLog, Head, Origin, Parameter, RunInfo, RunLog, RunPage, StepLog
from engine.names import ROOT
from engine.point import PlacedPoint, Point, Position
from engine.ports import Stream
from engine.views import ChildValues
from projections.beginnings import version_before
from projections.configuration import configuration
from projections.lineage import read_lineage
from projections.own_parameters import own_parameters, own_parameters_of
from projections.past import RUN_EVENTS, STEP_EVENTS, past_at, past_of_stream
from projections.reading import (
    IN_RUN,
    Readers,
    as_attempt,
    attempt_rows,
    event_version,
    resolved_parameters,
    seen_parameters,
)
from projections.run_log import compile_branch, compile_run
from projections.runs import RunsQuery, run_info, run_not_found, runs_page
from projections.steps import step_of, steps_of
from projections.streams import (
    branch_name,
    branch_names,
    children_of,
    find_stream,
    head_of,
    heads_of,
    opened_by,
    parting,
    position_at,
    stream_name,
    version_at,
)
from projections.tasks import SqliteTaskViews

Result = TypeVar("Result")
Job: TypeAlias = Callable[[sqlite3.Connection, Stream], Result]
"""Reads a branch from view tables, given its stream in the same state as the tables."""


class SqliteViews:
    """Reads the view tables, or a fold of the events for past states. Each call is one job, in one snapshot."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self.tasks = SqliteTaskViews(readers)

    async def stream(self, run_id: str, branch: str) -> Stream:
        def read(connection: sqlite3.Connection) -> Stream:
            try:
                return find_stream(connection, run_id, branch)
            except RunNotFound as error:
                raise run_not_found(connection, run_id) from error

        return await self._readers.run(read)

    async def head_at(self, run_id: str, branch: str, at: int | datetime | Position) -> Head:
        return await self._of_stream(run_id, branch, at, head_of)

    async def heads_of(self, run_id: str, versions: Collection[tuple[str, int]]) -> dict[str, tuple[Head, int]]:
        return await self._readers.run(lambda connection: heads_of(connection, run_id, versions))

    async def head_before(self, run_id: str, branch: str, step: str, *, at: Point) -> Head:
        def read(connection: sqlite3.Connection, stream: Stream, version: int) -> Head:
            return head_of(connection, stream, version_before(connection, stream, step, version))

        return await self._of_stream(run_id, branch, at, read)

    async def run_info(self, run_id: str, *, at: Point = None) -> RunInfo:
        def read(connection: sqlite3.Connection, _: Stream) -> RunInfo:
            return run_info(connection, run_id)

        return await self._as_of(run_id, ROOT, at, read, whole_run=False, types=RUN_EVENTS)

    async def configuration(self, run_id: str) -> dict[str, Any]:
        return await self._readers.run(
            lambda connection: configuration(connection, find_stream(connection, run_id, ROOT))
        )

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
        query = RunsQuery(status, tag, created_from, created_until, limit, cursor)
        return await self._readers.run(lambda connection: runs_page(connection, query))

    async def parameters(
        self, run_id: str, branch: str, *, at: Point, names: Collection[str] | None, inherited: bool
    ) -> dict[str, Parameter]:
        def read(connection: sqlite3.Connection, stream: Stream, version: int) -> dict[str, Parameter]:
            if not inherited:
                own = own_parameters(connection, stream.stream_id, version, names)
                return {name: each.parameter for name, each in own.items()}
            return seen_parameters(connection, stream.stream_id, version, names)

        return await self._of_stream(run_id, branch, at, read)

    async def resolved(self, run_id: str, branch: str, *, at: Point) -> dict[str, tuple[Parameter, Origin]]:
        def read(connection: sqlite3.Connection, stream: Stream, version: int) -> dict[str, tuple[Parameter, Origin]]:
            resolved = resolved_parameters(connection, stream.stream_id, version)
            names = {source: stream_name(connection, source) for source, _ in resolved.values()}
            return {
                name: (own.parameter, Origin(*names[source], event_version(connection, source, name, own)))
                for name, (source, own) in resolved.items()
            }

        return await self._of_stream(run_id, branch, at, read)

    async def lineage(self, run_id: str, branch: str, *, at: Point, query: LineageQuery) -> Lineage:
        def read(connection: sqlite3.Connection, stream: Stream, version: int) -> Lineage:
            return read_lineage(connection, stream, version, query)

        return await self._of_stream(run_id, branch, at, read)

    async def parting(self, one: PlacedPoint, other: PlacedPoint) -> Origin | None:
        return await self._readers.run(lambda connection: parting(connection, one, other))

    async def steps(self, run_id: str, branch: str, *, at: Point = None) -> dict[str, StepLog]:
        return await self._of_stream(run_id, branch, at, steps_of)

    async def step(self, run_id: str, branch: str, step: str, *, at: Point = None) -> StepLog:
        def read(connection: sqlite3.Connection, stream: Stream, version: int) -> StepLog:
            found = step_of(connection, stream, step, version)
            if found is None:
                raise StepNotFound(run_id, branch, step)
            return found

        return await self._of_stream(run_id, branch, at, read)

    async def attempts(
        self, run_id: str, branch: str | None, step: str | None, *, at: Point = None
    ) -> list[tuple[str, AttemptLog]]:
        def read(connection: sqlite3.Connection, stream: Stream) -> list[tuple[str, AttemptLog]]:
            values: list[Any]
            where, values = (IN_RUN, [run_id]) if branch is None else ("stream_id = ?", [stream.stream_id])
            if step is not None:
                where, values = f"{where} AND task_id = ?", [*values, step]
            rows = attempt_rows(connection, f"WHERE {where} ORDER BY position", values)
            return [(branch_name(connection, row.stream_id), as_attempt(row)) for row in rows]

        def read_own(connection: sqlite3.Connection, stream: Stream, version: int) -> list[tuple[str, AttemptLog]]:
            with past_of_stream(connection, stream, version, STEP_EVENTS) as then:
                return read(then, stream)

        if branch is None:
            return await self._as_of(run_id, ROOT, at, read, whole_run=True, types=STEP_EVENTS)
        return await self._of_stream(run_id, branch, at, read_own)

    async def attempt(self, run_id: str, attempt_id: str) -> tuple[str, AttemptLog]:
        def read(connection: sqlite3.Connection) -> tuple[str, AttemptLog]:
            for row in attempt_rows(connection, "WHERE attempt_id = ? AND run_id = ?", (attempt_id, run_id)):
                return branch_name(connection, row.stream_id), as_attempt(row)
            raise AttemptNotFound(run_id, attempt_id)

        return await self._readers.run(read)

    async def children(self, run_id: str, branch: str, *, at: Point = None) -> list[str]:
        def read(connection: sqlite3.Connection) -> list[str]:
            stream = find_stream(connection, run_id, branch)
            children = children_of(connection, stream)
            if at is not None:
                there = opened_by(connection, run_id, position_at(connection, stream, at))
                children = [child for child in children if child.stream_id in there]
            return [child.branch for child in children]

        return await self._readers.run(read)

    async def branch_names(self, run_id: str, *, limit: int) -> list[str]:
        return await self._readers.run(lambda connection: branch_names(connection, run_id, limit))

    async def own_values(self, run_id: str, branch: str, children: Sequence[str] | None) -> ChildValues:
        def read(connection: sqlite3.Connection) -> ChildValues:
            if children is None:
                streams = children_of(connection, find_stream(connection, run_id, branch))
            else:
                streams = [find_stream(connection, run_id, child) for child in children]
            values: dict[str, list[Parameter]] = {}
            for owns in own_parameters_of(connection, [stream.stream_id for stream in streams]):
                for name, own in owns.items():
                    if not own.copied:
                        values.setdefault(name, []).append(own.parameter)
            heads = tuple(Head(stream.branch, stream.version, stream.hash) for stream in streams)
            return ChildValues(heads, values)

        return await self._readers.run(read)

    async def compile(
        self, run_id: str, *, at: Point = None, nested: bool, inherited: bool, parameters: bool = True
    ) -> RunLog:
        def read(connection: sqlite3.Connection, root: Stream) -> RunLog:
            return compile_run(connection, root, nested=nested, inherited=inherited, parameters=parameters)

        return await self._as_of(run_id, ROOT, at, read, whole_run=nested)

    async def compile_branch(
        self, run_id: str, branch: str, *, at: Point = None, nested: bool, inherited: bool
    ) -> BranchLog:
        def read(connection: sqlite3.Connection, stream: Stream) -> BranchLog:
            return compile_branch(connection, stream, nested=nested, inherited=inherited)

        return await self._as_of(run_id, branch, at, read, whole_run=nested)

    async def compile_as(
        self, make: Callable[[RunLog], Result], run_id: str, *, nested: bool, inherited: bool
    ) -> Result:
        def read(connection: sqlite3.Connection, root: Stream) -> Result:
            return make(compile_run(connection, root, nested=nested, inherited=inherited))

        return await self._as_of(run_id, ROOT, None, read, whole_run=nested)

    async def compile_branch_as(
        self, make: Callable[[BranchLog], Result], run_id: str, branch: str, *, nested: bool, inherited: bool
    ) -> Result:
        def read(connection: sqlite3.Connection, stream: Stream) -> Result:
            return make(compile_branch(connection, stream, nested=nested, inherited=inherited))

        return await self._as_of(run_id, branch, None, read, whole_run=nested)

    async def _of_stream(
        self, run_id: str, branch: str, at: Point, job: Callable[[sqlite3.Connection, Stream, int], Result]
    ) -> Result:
        """Run a job on the current tables, with the stream version that a point refers to."""

        def read(connection: sqlite3.Connection) -> Result:
            stream = find_stream(connection, run_id, branch)
            return job(connection, stream, version_at(connection, stream, at))

        return await self._readers.run(read)

    async def _as_of(
        self, run_id: str, branch: str, at: Point, job: Job[Result], *, whole_run: bool, types: Sequence[type] = ()
    ) -> Result:
        """Run a job on the tables, now or as of a point: of the whole run, or of the branch and its ancestors.

        Args:
            types: as for `past_at`, if the job reads only part of the views.
        """

        def read(connection: sqlite3.Connection) -> Result:
            stream = find_stream(connection, run_id, branch)
            if at is None:
                return job(connection, stream)
            with past_at(connection, stream, at, whole_run=whole_run, types=types) as past:
                return job(past, find_stream(past, run_id, branch))

        return await self._readers.run(read)
