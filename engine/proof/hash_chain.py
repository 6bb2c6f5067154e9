"""One stream's hash chain: checks that each event follows the previous one, and names what is wrong if not. Pure."""

from typing import Any, Final

from msgspec import Struct, field

from engine.codec import (
    EVENT_TYPES,
    GENESIS_HASH,
    SCHEMA_VERSIONS,
    decode_event,
    encode_canonical,
    link,
    payload_digest,
)
from engine.errors import CannotDecode
from engine.events import Event
from engine.findings import ProblemKind
from engine.stored import Ledger, StoredEvent, StoredStream

_EVENT_ID_BYTES: Final = 16


class Erased(Struct, frozen=True):
    """An event whose payload was erased; `redacted_digest` is that of its redacted payload, `b""` if there is none."""

    position: int
    event_type: str
    redacted_digest: bytes

    @classmethod
    def of(cls, row: StoredEvent) -> "Erased":
        return cls(row.position, row.event_type, b"" if row.payload is None else payload_digest(row.payload))


class Chain(Struct):
    """A stream, up to the last event checked.

    `erased` holds, by version, the erased events without a `PayloadErased` so far; `lacks_source` is set while the
    stream of a forked run has no source and no `SourceCarriedOver` so far.
    """

    stream: StoredStream
    version: int = 0
    hash: bytes = GENESIS_HASH
    broken: bool = False
    erased: dict[int, Erased] = field(default_factory=dict)
    lacks_source: bool = False


def chain_problem(chain: Chain, row: StoredEvent, ledger: Ledger) -> tuple[ProblemKind, str] | None:
    """Return why an event cannot be the next of its stream, or None."""
    expected = chain.version + 1
    if row.stream_version != expected:
        return _out_of_order(chain, row, ledger)
    if row.payload is None and row.payload_digest is None:
        return "payload", "its payload is missing, and no digest marks it as erased"
    if _hash(chain, row) == row.hash:
        return None
    kind, message = _what_changed(chain, row)
    if kind == "content" and _follows(chain, row, ledger):
        return "hash", "its stored hash was changed"
    return kind, message


def decoded(row: StoredEvent) -> Event:
    """Return the decoded event.

    Raises:
        CannotDecode
    """
    return decode_event(row.event_type, row.schema_version, row.payload or b"", row.position)


def _out_of_order(chain: Chain, row: StoredEvent, ledger: Ledger) -> tuple[ProblemKind, str]:
    expected = chain.version + 1
    if row.stream_version < expected:
        return "order", f"version {row.stream_version} follows version {chain.version}"
    if ledger.event_of(chain.stream, expected) is not None:
        return "order", f"version {row.stream_version} comes before version {expected}"
    return "missing event", f"version {expected} is missing: version {row.stream_version} follows {chain.version}"


def _hash(chain: Chain, row: StoredEvent, **header: Any) -> bytes:
    digest = row.payload_digest
    if digest is None:
        assert row.payload is not None, "a row has a payload or a digest"
        digest = payload_digest(row.payload)
    fields = {
        "event_type": row.event_type,
        "schema_version": row.schema_version,
        "event_id": row.event_id,
        "recorded_at": row.recorded_at,
        **header,
    }
    stream = chain.stream
    return link(chain.hash, stream.run_id, stream.branch, row.stream_version, digest=digest, **fields)


def _what_changed(chain: Chain, row: StoredEvent) -> tuple[ProblemKind, str]:
    """Return which part of an event does not match its hash, as far as that can be determined."""
    for event_type, current in SCHEMA_VERSIONS.items():
        for version in range(1, current + 1):
            if _hash(chain, row, event_type=event_type, schema_version=version) == row.hash:
                found = f"{row.event_type!r} version {row.schema_version}"
                return "header", f"it was recorded as {event_type} version {version}, not as {found}"
    if row.event_type not in EVENT_TYPES or len(row.event_id) != _EVENT_ID_BYTES:
        return "header", "its header does not match its hash"
    if row.payload is not None and row.payload_digest is None and not _is_canonical(row):
        return "payload", "its payload does not match its hash"
    return "content", "its payload or header does not match its hash"


def _is_canonical(row: StoredEvent) -> bool:
    try:
        event = decoded(row)
        return row.schema_version != SCHEMA_VERSIONS[row.event_type] or encode_canonical(event) == row.payload
    except (CannotDecode, TypeError, ValueError, RecursionError):  # not every event that decodes can be encoded
        return False


def _follows(chain: Chain, row: StoredEvent, ledger: Ledger) -> bool:
    """Whether the stream's next event is chained to the hash that this event should have."""
    following = ledger.event_of(chain.stream, row.stream_version + 1)
    if following is None or (following.payload is None and following.payload_digest is None):
        return False
    ahead = Chain(chain.stream, row.stream_version, _hash(chain, row))
    return _hash(ahead, following) == following.hash
