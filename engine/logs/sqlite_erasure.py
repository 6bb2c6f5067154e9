"""Erasing a payload of a SQLite log, inside `SqliteRemoval`'s transaction: keeps its digest and updates the views."""

import json
import sqlite3
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from engine.codec import GENESIS_HASH, decode_event, encode_canonical, payload_digest
from engine.commands import Record, Request
from engine.errors import CannotDecode, NotErasable, PointNotFound
from engine.events import Event, PayloadErased, RunCreated, RunForked, SourceCarriedOver, StepLogged
from engine.logs.sqlite_append import Appender
from engine.logs.sqlite_fold import SELECT_FOLDED, FoldedEvents
from engine.logs.sqlite_ledger import SqliteLedger
from engine.logs.sqlite_read import heads_of_run, root_id_of, stream_row
from engine.logs.sqlite_traces import carried_over_by, described_alike, holders_of
from engine.proof.hash_chain import Chain, chain_problem, decoded
from engine.proof.redaction import redacted
from engine.removal import Erasure
from engine.row_chunks import chunks
from engine.stored import StoredEvent, StoredStream

_FOLDED_TOGETHER: Final = 5000
_REPEATED_BY_FORKS: Final = (RunCreated, RunForked, SourceCarriedOver)
"""Events whose content also shows in the view rows of forked runs; any other's is only in its own stream's rows."""


class ToErase(Struct, frozen=True):
    """Which event to erase, why, and on whose behalf."""

    run_id: str
    branch: str
    version: int
    reason: str
    by: str | None


def erase_payload(connection: sqlite3.Connection, appender: Appender, what: ToErase) -> Erasure:
    """Erase a payload, record the erasure, and rebuild the view rows that may show its content.

    Raises:
        RunNotFound, BranchNotFound, PointNotFound, NotErasable, CannotDecode
    """
    root_id, stream_id, head = stream_row(connection, what.run_id, what.branch)
    ledger = SqliteLedger(connection)
    stream = ledger.stream(stream_id)
    row = None if stream is None else ledger.event_of(stream, what.version)
    if stream is None or row is None:
        raise PointNotFound(what.run_id, what.branch, what.version, head)
    run_ids = _with_forks(connection, what.run_id)
    roots = [root_id_of(connection, run_id) for run_id in run_ids]
    copies = holders_of(connection, row.position, sorted(roots))
    if row.payload_digest is not None:
        return Erasure(erased=False, carried=copies)
    event = decoded(row)
    _check_hash(ledger, stream, row)
    remaining = _redacted_payload(row, event)
    connection.execute(
        "UPDATE events SET payload = ?, payload_digest = ? WHERE position = ?",
        (remaining, payload_digest(row.payload or b""), row.position),
    )
    # Only now, so that the erased event itself is not found as a copy.
    copies += [copy for copy in carried_over_by(connection, event) if copy not in copies]
    if isinstance(event, StepLogged):
        copies += described_alike(connection, event, stream_id, sorted(roots))
    erasure = PayloadErased(
        branch=what.branch,
        stream_version=what.version,
        event_type=row.event_type,
        reason=what.reason,
        by=what.by,
        redacted=payload_digest(remaining),
    )
    appender.record([Request(run_id=what.run_id, commands=(Record(branch=what.branch, events=(erasure,)),))])
    if isinstance(event, _REPEATED_BY_FORKS):
        _refold_runs(connection, appender, run_ids)
    else:
        appender.projectors.clear([stream_id])
        _refold(connection, appender, "root_id = ? AND stream_id = ?", (root_id, stream_id))
    return Erasure(erased=True, carried=copies)


def _check_hash(ledger: SqliteLedger, stream: StoredStream, row: StoredEvent) -> None:
    """Raise unless a payload matches its hash: on pages shared with another row, erasing would destroy that row too."""
    version = row.stream_version - 1
    before = ledger.event_of(stream, version) if version else None
    chain = Chain(stream, version=version, hash=GENESIS_HASH if before is None else before.hash)
    if problem := chain_problem(chain, row, ledger):
        raise LookupError(f"its {problem[0]} is damaged: {problem[1]}; run `anabranch verify` for details")


def _redacted_payload(row: StoredEvent, event: Event) -> bytes:
    """Return what remains of a payload.

    Raises:
        NotErasable
    """
    payload = encode_canonical(redacted(event))
    # It has the current shape under the hashed version number, so upcasters must leave it unchanged.
    try:
        is_unchanged = encode_canonical(decode_event(row.event_type, row.schema_version, payload)) == payload
    except CannotDecode:
        is_unchanged = False
    if not is_unchanged:
        raise NotErasable(row.event_type, f"of version {row.schema_version} would be decoded wrongly once it is erased")
    return payload


def _with_forks(connection: sqlite3.Connection, run_id: str) -> list[str]:
    """Return a run and all runs forked from it, directly or indirectly: they show data of its opening event."""
    rows = connection.execute(
        "WITH RECURSIVE found (run_id) AS (SELECT ? UNION SELECT fork.run_id FROM found"
        " JOIN streams AS source USING (run_id)"
        " JOIN streams AS fork ON fork.parent_id = source.stream_id AND fork.branch = '') SELECT run_id FROM found",
        (run_id,),
    )
    return [found for (found,) in rows]


def _refold_runs(connection: sqlite3.Connection, appender: Appender, run_ids: Sequence[str]) -> None:
    appender.projectors.clear([stream_id for run_id in run_ids for stream_id in heads_of_run(connection, run_id)])
    roots = json.dumps([root_id_of(connection, run_id) for run_id in run_ids])
    _refold(connection, appender, "root_id IN (SELECT value FROM json_each(?))", (roots,))


def _refold(connection: sqlite3.Connection, appender: Appender, where: str, values: tuple[int | str, ...]) -> None:
    """Fold events into cleared view rows, inside the transaction."""
    rows = connection.execute(f"{SELECT_FOLDED} WHERE {where} ORDER BY position", values)
    events = FoldedEvents()
    for chunk in chunks(rows, _FOLDED_TOGETHER):
        for stream, recorded in events.of(connection, chunk):
            appender.projectors.apply(stream, recorded)
        appender.projectors.flush()
