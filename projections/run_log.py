"""The compiled run log: the partitions assembled into one nested document."""

import json
import sqlite3
from collections.abc import Mapping
from typing import Final

from msgspec import structs

from engine.model import BranchLog, Parameter, RunLog
from engine.names import ROOT
from engine.ports import OwnParameter, Stream
from projections.columns import from_json, from_text
from projections.configuration import configuration
from projections.own_parameters import own_parameters, own_parameters_of
from projections.partition_tables import BranchRow
from projections.reading import branch_rows, seen_parameters
from projections.steps import own_steps, with_inherited
from projections.streams import branch_name, streams_where

_AMONG: Final = "stream_id IN (SELECT value FROM json_each(?))"


def compile_run(
    connection: sqlite3.Connection, root: Stream, *, nested: bool, inherited: bool, parameters: bool = True
) -> RunLog:
    """Return the log of a whole run, or of only its root branch."""
    compiled = compile_branch(connection, root, nested=nested, inherited=inherited, parameters=parameters)
    row = connection.execute(
        "SELECT tag, tags, description, dag_hash, created_at, job, finalized_hash FROM runs WHERE run_id = ?",
        (root.run_id,),
    ).fetchone()
    tag, tags, description, dag_hash, created_at, job, finalized_hash = row
    return RunLog(
        **structs.asdict(compiled),
        run_id=root.run_id,
        tag=tag,
        tags=from_json(tags) if tags else {},
        description=description,
        dag_hash=dag_hash,
        created_at=from_text(created_at),
        config=configuration(connection, root),
        job=None if job is None else from_json(job),
        finalized=finalized_hash is not None,
    )


def compile_branch(
    connection: sqlite3.Connection, stream: Stream, *, nested: bool, inherited: bool, parameters: bool = True
) -> BranchLog:
    """Return the log of a branch; with `nested`, including its descendants.

    Without `inherited`, each branch has only the parameters that it set or reduced itself, except that a root branch
    still has those inherited from another run. Without `parameters`, none are read.
    """
    streams = {each.stream_id: each for each in _streams(connection, stream, nested=nested)}
    ids = sorted(streams)  # parents are opened before their children
    among = (json.dumps(ids),)
    rows = {row.stream_id: row for row in branch_rows(connection, f"WHERE {_AMONG} ORDER BY stream_id", among)}
    steps = own_steps(connection, _AMONG, among)
    steps[stream.stream_id] = with_inherited(connection, stream, steps.get(stream.stream_id, {}))
    seen = _parameters(connection, rows, inherited=inherited) if parameters else {}
    # In reverse, every branch comes after all of its children.
    below: dict[int, list[BranchLog]] = {}
    for stream_id in reversed(ids):
        row, found = rows[stream_id], streams[stream_id]
        compiled = BranchLog(
            branch=row.branch,
            parent=None if row.branch == ROOT else _name(connection, streams, found.parent_id),
            status=row.status,
            status_reason=row.status_reason,
            stream_version=found.version,
            steps=steps.get(stream_id, {}),
            branches={child.branch: child for child in reversed(below.pop(stream_id, []))},
            parameters=seen.pop(stream_id, {}),
            details=from_json(row.details),
        )
        if stream_id == stream.stream_id:
            return compiled
        if found.parent_id is not None:
            below.setdefault(found.parent_id, []).append(compiled)
    raise AssertionError("the branch is one of those below itself")


def _streams(connection: sqlite3.Connection, top: Stream, *, nested: bool) -> list[Stream]:
    """Return a branch; with `nested`, and its descendants."""
    if not nested:
        return [top]
    if top.branch == ROOT:
        return streams_where(connection, "run_id = ?", (top.run_id,))
    found, level = [top], [top]
    while level:
        parents = json.dumps([each.stream_id for each in level])
        level = streams_where(
            connection,
            # Every child is opened later than its parent; the condition prevents cycles in a damaged file.
            "run_id = ? AND parent_id IN (SELECT value FROM json_each(?)) AND parent_id < stream_id",
            (top.run_id, parents),
        )
        found += level
    return found


def _name(connection: sqlite3.Connection, streams: Mapping[int, Stream], stream_id: int | None) -> str | None:
    if stream_id is None:
        return None
    return streams[stream_id].branch if stream_id in streams else branch_name(connection, stream_id)


def _parameters(
    connection: sqlite3.Connection, rows: Mapping[int, BranchRow], *, inherited: bool
) -> dict[int, dict[str, Parameter]]:
    """Return the parameters that each branch sees, by stream id.

    Inherited parameters are passed down the tree, and looked up once for all branches with the same fork point.
    """
    own = dict(zip(rows, own_parameters_of(connection, list(rows)), strict=True))
    at_fork: dict[tuple[int | None, int], dict[str, Parameter]] = {}
    bases: dict[int, dict[str, Parameter]] = {}
    for stream_id, row in rows.items():
        fork = parent, version = row.parent_stream_id, row.parent_version
        if parent is None or not (inherited or row.branch == ROOT):
            bases[stream_id] = {}
            continue
        if fork not in at_fork:
            if parent in bases:
                at_fork[fork] = bases[parent] | _plain(_own_at(connection, parent, version, own[parent]))
            else:
                at_fork[fork] = seen_parameters(connection, parent, version)
        bases[stream_id] = at_fork[fork]
    return {stream_id: dict(sorted((bases[stream_id] | _plain(own[stream_id])).items())) for stream_id in rows}


def _own_at(
    connection: sqlite3.Connection, stream_id: int, version: int, own: Mapping[str, OwnParameter]
) -> Mapping[str, OwnParameter]:
    if all(each.stream_version <= version for each in own.values()):
        return own
    return own_parameters(connection, stream_id, version)


def _plain(own: Mapping[str, OwnParameter]) -> dict[str, Parameter]:
    return {name: each.parameter for name, each in own.items()}
