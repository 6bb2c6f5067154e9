"""Rewrite history and recompute every hash, as an attacker could who can write the file and knows the format."""

import sqlite3
from collections.abc import Callable, Collection
from typing import Any, TypeAlias

from msgspec import Struct, structs

from engine.codec import GENESIS_HASH, decode_event, encode_canonical, link, payload_digest
from engine.events import BranchForked, Event, ParametersReduced, RunFinalized, RunForked
from engine.model import Head

Place: TypeAlias = tuple[str, str, int]
"""A run id, a branch name and a stream version."""

Edit: TypeAlias = Callable[[Place, Event], Event]


class _Stream(Struct):
    run_id: str
    branch: str
    version: int = 0
    hash: bytes = GENESIS_HASH


def rewrite(
    connection: sqlite3.Connection,
    edit: Edit,
    *,
    only: Collection[tuple[str, str]] | None = None,
    relink: bool = False,
) -> None:
    """Edit events and recompute the hashes.

    Args:
        only: the (run, branch) pairs to rehash; all unless given.
        relink: before the edit, update the links to the new hashes, so that every link within the file is valid.
    """
    streams = {row[0]: _Stream(*row[1:]) for row in connection.execute("SELECT stream_id, run_id, branch FROM streams")}
    hashes: dict[Place, bytes] = {}
    for row in connection.execute("SELECT * FROM events ORDER BY position").fetchall():
        stream = streams[row[2]]
        if only is None or (stream.run_id, stream.branch) in only:
            _write_anew(
                connection, stream, row, lambda place, event: _edited(place, event, edit, hashes, relink=relink)
            )
        else:
            stream.version, stream.hash = row[3], row[10]
        hashes[stream.run_id, stream.branch, stream.version] = stream.hash
    _stand(connection, streams)


def change(place: Place, **fields: Any) -> Edit:
    """Return the edit that sets fields of one event."""
    return lambda where, event: structs.replace(event, **fields) if where == place else event


def cut_off(connection: sqlite3.Connection, run_id: str, branch: str, after: int) -> None:
    """Delete the events of a stream after a version, and let the stream's row say that it ends there."""
    where = "stream_id = (SELECT stream_id FROM streams WHERE run_id = ? AND branch = ?)"
    connection.execute(f"DELETE FROM events WHERE {where} AND stream_version > ?", (run_id, branch, after))
    connection.execute(
        "UPDATE streams SET version = ?, hash = (SELECT hash FROM events WHERE events.stream_id = streams.stream_id"
        " AND stream_version = ?) WHERE run_id = ? AND branch = ?",
        (after, after, run_id, branch),
    )


def delete_run(connection: sqlite3.Connection, run_id: str) -> None:
    """Delete all rows of a run from `events` and `streams`."""
    connection.execute(
        "DELETE FROM events WHERE stream_id IN (SELECT stream_id FROM streams WHERE run_id = ?)", (run_id,)
    )
    connection.execute("DELETE FROM streams WHERE run_id = ?", (run_id,))


def close_gaps(connection: sqlite3.Connection) -> None:
    """Renumber the positions without gaps."""
    positions = connection.execute("SELECT position FROM events ORDER BY position").fetchall()
    for new, (old,) in enumerate(positions, start=1):
        connection.execute("UPDATE events SET position = ? WHERE position = ?", (new, old))


def _stand(connection: sqlite3.Connection, streams: dict[int, _Stream]) -> None:
    """Store each stream's recomputed version and hash in its row."""
    for stream_id, stream in streams.items():
        new = stream.version, stream.hash, stream_id
        connection.execute("UPDATE streams SET version = ?, hash = ? WHERE stream_id = ?", new)


def _write_anew(connection: sqlite3.Connection, stream: _Stream, row: tuple[Any, ...], edit: Edit) -> None:
    position, _, _, version, event_type, schema_version, event_id, recorded_at, payload, digest, _ = row
    if digest is None:
        event = decode_event(event_type, schema_version, payload, position)
        payload = encode_canonical(edit((stream.run_id, stream.branch, version), event))
    header = version, event_type, schema_version, event_id, recorded_at
    stream.hash = link(stream.hash, stream.run_id, stream.branch, *header, digest or payload_digest(payload))
    stream.version = version
    connection.execute("UPDATE events SET payload = ?, hash = ? WHERE position = ?", (payload, stream.hash, position))


def _edited(place: Place, event: Event, edit: Edit, hashes: dict[Place, bytes], *, relink: bool) -> Event:
    return edit(place, _relinked(place[0], event, hashes) if relink else event)


def _relinked(run_id: str, event: Event, hashes: dict[Place, bytes]) -> Event:
    match event:
        case BranchForked(parent=parent, parent_version=version):
            return structs.replace(event, parent_hash=hashes[run_id, parent, version])
        case RunForked(source_run_id=source, source_branch=branch, source_version=version):
            return structs.replace(event, source_hash=hashes[source, branch, version])
        case ParametersReduced(children=heads):
            return structs.replace(event, children=_heads(run_id, heads, hashes))
        case RunFinalized(heads=heads):
            return structs.replace(event, heads=_heads(run_id, heads, hashes))
        case _:
            return event


def _heads(run_id: str, heads: list[Head], hashes: dict[Place, bytes]) -> list[Head]:
    return [structs.replace(head, hash=hashes[run_id, head.branch, head.stream_version]) for head in heads]
