"""Idempotency keys of a SQLite log: what was asked for under a key, and what was recorded for it."""

import sqlite3
from hashlib import blake2b

from msgspec import Struct

from engine.codec import encode_canonical
from engine.commands import Request, asked_for
from engine.errors import IdempotencyConflict
from engine.logs.sqlite_checksums import checksum
from engine.logs.sqlite_read import SELECT_EVENTS, as_recorded
from engine.ports import Recorded


def has_recorded(connection: sqlite3.Connection, run_id: str, idempotency_key: str) -> bool:
    """Say whether something was recorded under a key, as any connection sees it."""
    row = connection.execute(
        "SELECT 1 FROM streams JOIN idempotency_keys ON idempotency_keys.root_id = streams.stream_id"
        " WHERE streams.run_id = ? AND streams.branch = '' AND idempotency_key = ?",
        (run_id, idempotency_key),
    ).fetchone()
    return row is not None


class Kept(Struct, frozen=True, gc=False):
    """What was recorded under a key: how many events from a position on, and where they left their stream."""

    first_position: int
    events: int
    stream_version: int


class IdempotencyKeys:
    """The keys of all runs, on the writing connection and inside the caller's transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def find(self, root_id: int, request: Request) -> Kept | None:
        """Return what is kept of a request's key: where its events are, or None when nothing was recorded under it.

        Raises:
            IdempotencyConflict: something else was asked for under it.
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
            raise LookupError(f"what is kept of idempotency key {key!r} is not what was written")
        if known != _content(request):
            raise IdempotencyConflict(request.run_id, str(key))
        return Kept(first, count, stream_version)

    def read(self, kept: Kept) -> Recorded:
        """Return what was recorded, once all events are written."""
        events = self._connection.execute(
            f"{SELECT_EVENTS} WHERE position >= ? AND position < ? ORDER BY position",
            (kept.first_position, kept.first_position + kept.events),
        )
        return Recorded(tuple(as_recorded(event) for event in events), kept.stream_version, duplicate=True)

    def remember(self, root_id: int, request: Request, first: int, answer: Recorded) -> None:
        """Keep what was recorded under a request's key: so many events, from a position on."""
        row = (
            root_id,
            request.idempotency_key,
            _content(request),
            first,
            len(answer.events),
            answer.stream_version,
        )
        insert = "INSERT INTO idempotency_keys VALUES (?, ?, ?, ?, ?, ?, ?)"
        self._connection.execute(insert, (*row, checksum(*row)))


def _content(request: Request) -> bytes:
    """Return what an idempotency key stands for: the digest of what was asked for."""
    return blake2b(encode_canonical(asked_for(request.commands)), digest_size=32).digest()
