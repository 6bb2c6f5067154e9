"""The current state for decisions: the log's stream heads and the partitions' rows, including those of the batch."""

import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence

from engine.errors import RunNotFound
from engine.events import StepLogged
from engine.model import AttemptLog, ExternalRun, Parameter, StepLog
from engine.names import ROOT
from engine.ports import AttemptState, FromSource, OwnParameter, StepState, Stream, StreamHeads, check_opened_before
from projections.columns import from_json
from projections.configuration import inherited_configuration
from projections.own_parameters import LATEST
from projections.partitions import Partitions
from projections.reading import (
    as_attempt,
    as_external_run,
    as_task_spec,
    attempt_rows,
    logged_steps,
    seen_parameters,
)
from projections.state import StateViews
from projections.steps import InheritedSteps
from projections.streams import head_of


class DecisionState:
    """`engine.ports.State` over the inline views, on the writing connection and under the write lock.

    Args:
        write_batch: writes the events and rows of the batch so far, so that SQL can read them.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        heads: StreamHeads,
        partitions: Partitions,
        views: StateViews,
        write_batch: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._heads = heads
        self._partitions = partitions
        self._views = views
        self._write_batch = write_batch
        self._inherited = InheritedSteps(connection, write_batch)

    def stream(self, run_id: str, branch: str) -> Stream | None:
        return self._heads.find(run_id, branch)

    def hash_at(self, stream: Stream, version: int) -> bytes:
        # A caller cannot have read a version that is still in the batch.
        return stream.hash if version == stream.version else head_of(self._connection, stream, version).hash

    def children(self, stream: Stream) -> list[Stream]:
        return [child for child in self._heads.children(stream) if child.run_id == stream.run_id]

    def streams(self, run_id: str) -> list[Stream]:
        return self._heads.of_run(run_id)

    def status(self, stream: Stream) -> str:
        row = self._partitions.branches.get(stream.stream_id)
        return "" if row is None else row.status

    def status_reason(self, stream: Stream) -> str | None:
        row = self._partitions.branches.get(stream.stream_id)
        return None if row is None else row.status_reason

    def branch_details(self, stream: Stream) -> dict[str, object]:
        row = self._partitions.branches.get(stream.stream_id)
        return {} if row is None else from_json(row.details)

    def opened_with(self, run_id: str) -> dict[str, object]:
        row = self._views.runs.get(run_id)
        return {} if row is None else {"tag": row.tag, "dag_hash": row.dag_hash}

    def pinned(self, run_id: str) -> bool:
        row = self._views.runs.get(run_id)
        return row is not None and bool(row.pinned)

    def from_source(self, stream: Stream) -> FromSource:
        self._write_batch()
        row = self._views.runs.get(stream.run_id)
        if row is None:  # it was deleted from the table, by no event
            raise RunNotFound(stream.run_id)
        described: dict[str, object] = {
            "dag_hash": row.dag_hash,
            "use_cached": bool(row.use_cached),
            "workspace_slug": row.workspace_slug,
            "root_path": row.root_path,
            "description": row.description,
            "tags": from_json(row.tags or "{}"),
        }
        return FromSource(
            self.parameters(stream, version=1),
            dict(self._inherited.of(stream)),
            logged_steps(self._connection, stream.stream_id),
            inherited_configuration(self._connection, stream),
            described,
        )

    def config(self, stream: Stream) -> dict[str, object]:
        row = self._views.runs.get(stream.run_id)
        own: dict[str, object] = {} if row is None else from_json(row.config)
        if stream.parent_id is None:
            return own
        self._write_batch()
        return inherited_configuration(self._connection, stream) | own

    def job(self, run_id: str) -> dict[str, object] | None:
        row = self._views.runs.get(run_id)
        return None if row is None or row.job is None else from_json(row.job)

    def step(self, stream: Stream, step: str) -> StepState | None:
        return self._partitions.steps.get(stream.stream_id, step)

    def logged_step(self, stream: Stream, step: str) -> StepLogged | None:
        row = self._partitions.steps.get(stream.stream_id, step)
        if row is None:
            return None
        return StepLogged(
            branch=stream.branch,
            step=row.step,
            name=row.name,
            status=row.status,
            step_type=row.step_type,
            message=row.message,
            mock=bool(row.mock),
            spec=as_task_spec(row.spec),
            details=from_json(row.details),
        )

    def inherited_step(self, stream: Stream, step: str) -> StepLog | None:
        if stream.parent_id is None or stream.branch != ROOT or self._knows(stream.stream_id, step):
            return None
        # Most steps that a fork logs are new: then the steps of its sources, which may be thousands, are not read.
        if not (self._inherited.has_read(stream) or any(self._knows(source, step) for source in self._sources(stream))):
            return None
        return self._inherited.step(stream, step)

    def _knows(self, stream_id: int, step: str) -> bool:
        """Return whether a stream has ever logged a step."""
        own, removed = self._partitions.steps, self._partitions.removed
        return own.get(stream_id, step) is not None or removed.get(stream_id, step) is not None

    def _sources(self, root: Stream) -> Iterator[int]:
        """Yield the streams whose steps the root branch of a forked run may inherit, nearest first."""
        below, source = root.stream_id, root.parent_id
        while source is not None:
            check_opened_before(source, below)
            yield source
            row = self._partitions.branches.get(source)
            below, source = source, None if row is None or row.branch != ROOT else row.parent_stream_id

    def attempt(self, attempt_id: str, stream: Stream | None = None) -> AttemptState | None:
        return self._views.attempt(attempt_id, None if stream is None else stream.stream_id)

    def logged_attempt(self, attempt_id: str, stream: Stream) -> AttemptLog | None:
        row = self._views.attempt(attempt_id, stream.stream_id)
        return None if row is None else as_attempt(row)

    def attempts(self, stream: Stream, step: str) -> list[AttemptLog]:
        self._views.attempts.flush()
        clauses = "WHERE stream_id = ? AND task_id = ? ORDER BY attempt_index"
        return [as_attempt(row) for row in attempt_rows(self._connection, clauses, (stream.stream_id, step))]

    def external_run(self, stream: Stream, task_id: str) -> ExternalRun | None:
        row = self._views.external_runs.get(stream.stream_id, task_id)
        return None if row is None else as_external_run(row)

    def own_parameters(self, streams: Sequence[Stream]) -> list[dict[str, OwnParameter]]:
        self._partitions.flush_parameters()
        return self._partitions.latest.own_parameters_of([stream.stream_id for stream in streams])

    def own_of(self, stream: Stream, names: Collection[str]) -> dict[str, OwnParameter]:
        self._partitions.flush_parameters()
        return self._partitions.latest.own_of(stream.stream_id, names)

    def parameters(
        self, stream: Stream, version: int | None = None, names: Collection[str] | None = None
    ) -> dict[str, Parameter]:
        self._partitions.flush_parameters()
        self._partitions.branches.flush()
        return seen_parameters(self._connection, stream.stream_id, LATEST if version is None else version, names)

    def forget(self) -> None:
        self._inherited.forget()
