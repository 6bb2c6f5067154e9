"""The compiled run log: partitions put together again into one nested document."""

import sqlite3

from engine.model import BranchLog, Parameter, RunLog, StepLog
from engine.names import ROOT
from engine.ports import Stream
from projections.columns import from_json, from_text
from projections.own_parameters import own_parameters
from projections.partitions import BranchRow
from projections.reading import IN_RUN, SELECT_BRANCHES, resolved_parameters
from projections.steps import own_steps, steps_of, with_inherited


def compile_run(connection: sqlite3.Connection, root: Stream, *, nested: bool, inherited: bool) -> RunLog:
    """Return the log of a whole run, or of its root branch alone."""
    compiled = compile_branch(connection, root, nested=nested, inherited=inherited)
    row = connection.execute(
        "SELECT tag, dag_hash, created_at, config, job, finalized_hash FROM runs WHERE run_id = ?",
        (root.run_id,),
    ).fetchone()
    tag, dag_hash, created_at, config, job, finalized_hash = row
    return RunLog(
        run_id=root.run_id,
        status=compiled.status,
        status_reason=compiled.status_reason,
        tag=tag,
        dag_hash=dag_hash,
        created_at=from_text(created_at),
        stream_version=compiled.stream_version,
        steps=compiled.steps,
        branches=compiled.branches,
        parameters=compiled.parameters,
        config=from_json(config),
        job=None if job is None else from_json(job),
        finalized=finalized_hash is not None,
        details=compiled.details,
    )


def compile_branch(connection: sqlite3.Connection, stream: Stream, *, nested: bool, inherited: bool) -> BranchLog:
    """Return the log of a branch, and with `nested` of all branches below it.

    Without `inherited`, a branch's parameters are only those that it set or reduced itself; the root's still come from
    the run that its run was forked from, too.
    """
    rows = _branches(connection, stream, nested=nested)
    versions = _versions(connection, stream, nested=nested)
    steps = _steps_by_stream(connection, stream, nested=nested)
    # Children open after their parents, so going backwards meets every branch after all of its children.
    below: dict[int, list[BranchLog]] = {}
    for stream_id in sorted(rows, reverse=True):
        row = rows[stream_id]
        children = below.pop(stream_id, [])
        parent = rows.get(row.parent_stream_id) if row.parent_stream_id is not None else None
        compiled = BranchLog(
            branch=row.branch,
            parent=None if parent is None else parent.branch,
            status=row.status,
            status_reason=row.status_reason,
            stream_version=versions[stream_id],
            steps=steps.get(stream_id, {}),
            branches={child.branch: child for child in reversed(children)},
            parameters=_parameters(connection, row, inherited=inherited),
            details=from_json(row.details),
        )
        if stream_id == stream.stream_id:
            return compiled
        if row.parent_stream_id is not None:
            below.setdefault(row.parent_stream_id, []).append(compiled)
    raise AssertionError("the stream is one of its run's")


def _branches(connection: sqlite3.Connection, stream: Stream, *, nested: bool) -> dict[int, BranchRow]:
    where: str = "run_id = ?"
    values: list[str | int | None] = [stream.run_id]
    if not nested:  # only itself, and its parent for the parent's name
        where, values = "run_id = ? AND stream_id IN (?, ?)", [stream.run_id, stream.stream_id, stream.parent_id]
    rows = connection.execute(f"{SELECT_BRANCHES} WHERE {where} ORDER BY stream_id", values)
    return {row[0]: BranchRow(*row) for row in rows}


def _versions(connection: sqlite3.Connection, stream: Stream, *, nested: bool) -> dict[int, int]:
    if not nested:
        return {stream.stream_id: stream.version}
    return dict(connection.execute("SELECT stream_id, version FROM streams WHERE run_id = ?", (stream.run_id,)))


def _parameters(connection: sqlite3.Connection, row: BranchRow, *, inherited: bool) -> dict[str, Parameter]:
    if inherited or row.branch == ROOT:
        resolved = resolved_parameters(connection, row.stream_id)
        return {name: own.parameter for name, (_, own) in resolved.items()}
    return {name: own.parameter for name, own in own_parameters(connection, row.stream_id).items()}


def _steps_by_stream(connection: sqlite3.Connection, stream: Stream, *, nested: bool) -> dict[int, dict[str, StepLog]]:
    if not nested:
        return {stream.stream_id: steps_of(connection, stream)}
    steps = own_steps(connection, IN_RUN, (stream.run_id,))
    steps[stream.stream_id] = with_inherited(connection, stream, steps.get(stream.stream_id, {}))
    return steps
