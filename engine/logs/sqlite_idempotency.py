"""Idempotency keys of a SQLite log: the digest of each key's request, and the events recorded for it."""

import sqlite3
from hashlib import blake2b

from msgspec import Struct

from engine.codec import decode_recorded, encode_canonical
from engine.commands import Request, asked_for
from engine.errors import IdempotencyConflict
from engine.logs.sqlite_checksums import checksum
from engine.logs.sqlite_read import SELECT_EVENTS
from engine.ports import Recorded


def has_recorded(connection: sqlite3.Connection, run_id: str, idempotency_key: str) -> bool:
    """Whether a request with that key was recorded for a run."""
    row = connection.execute(
        "SELECT 1 FROM streams JOIN idempotency_keys ON idempotency_keys.root_id = streams.stream_id"
        " WHERE streams.run_id = ? AND streams.branch = '' AND idempotency_key = ?",
        (run_id, idempotency_key),
    ).fetchone()
    return row is not None


class Kept(Struct, frozen=True, gc=False):
    """What was recorded under a key: `events` events from a position on, and the resulting stream version."""

    first_position: int
    events: int
    stream_version: int


class IdempotencyKeys:
    """The keys of all runs, on the writing connection, inside the caller's transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def find(self, root_id: int, request: Request) -> Kept | None:
        """Return what was recorded under a request's key, or None.

        Raises:
            IdempotencyConflict: the key belongs to a different request.
            LookupError: its row is damaged.
        """
        key = request.idempotency_key
        row = self._connection.execute(
            "SELECT digest, first_position, events, stream_version, checksum FROM idempotency_keys"
            " WHERE root_id = ? AND idempotency_key = ?",
            (root_id, key),
        ).fetchone()
        if row is None:
            return None
        known, first, count, stream_version, written = row
        if written != checksum(root_id, key, known, first, count, stream_version):
            raise LookupError(f"the row of idempotency key {key!r} does not match its checksum")
        if known != _request_digest(request):
            raise IdempotencyConflict(request.run_id, str(key))
        return Kept(first, count, stream_version)

    def read(self, kept: Kept) -> Recorded:
        """Return the recorded events as a duplicate answer. All buffered events must have been written."""
        events = self._connection.execute(
            f"{SELECT_EVENTS} WHERE position >= ? AND position < ? ORDER BY position",
            (kept.first_position, kept.first_position + kept.events),
        )
        return Recorded(tuple(decode_recorded(*event) for event in events), kept.stream_version, duplicate=True)

    def remember(self, root_id: int, request: Request, first: int, answer: Recorded) -> None:
        """Store a request's key with its answer, whose events begin at position `first`."""
        row = (
            root_id,
            request.idempotency_key,
            _request_digest(request),
            first,
            len(answer.events),
            answer.stream_version,
        )
        insert = "INSERT INTO idempotency_keys VALUES (?, ?, ?, ?, ?, ?, ?)"
        self._connection.execute(insert, (*row, checksum(*row)))


def _request_digest(request: Request) -> bytes:
    """Return the digest of a request's commands."""
    return blake2b(encode_canonical(asked_for(request.commands)), digest_size=32).digest()
