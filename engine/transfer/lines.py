"""The lines of an export: one JSON object per line, in canonical form.

    {"line":"header","format":"anabranch-export","version":1,"readable":false}
    {"line":"run","run":"r1","carried_over":false}
    {"line":"event","run":"r1","position":1,"branch":"","stream_version":1,…,"hash":"…","payload":"…"}
    {"line":"head","run":"r1","branch":"","stream_version":1,"hash":"…"}
    {"line":"run end","run":"r1","branches":1,"events":1}
    {"line":"end","runs":1,"events":1}

`position` is the index inside the run. `payload` is base64 of the recorded bytes, exactly as hashed, so that 1 and 1.0
or two NaNs stay distinct. An event whose payload was erased has the redacted payload, and the original's `digest`. A
readable export adds the decoded payload as `event`, with NaN and infinities as null and bytes as base64.

A line is accepted only in canonical form: no other order of members, no other escapes, no spaces.
"""

import re
from datetime import datetime
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from engine.encoding.text_keys import check_keys
from engine.stored import StoredEvent
from engine.times import from_microseconds, iso_text, to_microseconds

FORMAT: Final = "anabranch-export"
FORMAT_VERSION: Final = 1

_HASH: Final = re.compile("[0-9a-f]{64}")
_EVENT_ID: Final = re.compile("[0-9a-f]{32}")


class _Line(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="line"):
    pass


class Header(_Line, frozen=True, tag="header"):
    format: str
    version: int
    readable: bool


class RunLine(_Line, frozen=True, tag="run"):
    """Opens a run. `carried_over`: the run was forked from a deleted run, whose inherited state was carried over."""

    run: str
    carried_over: bool


class EventLine(_Line, frozen=True, tag="event"):
    run: str
    position: int
    branch: str
    stream_version: int
    event_id: str
    recorded_at: str
    type: str
    schema_version: int
    hash: str
    payload: bytes | None
    digest: str | UnsetType = UNSET
    event: Raw | UnsetType = UNSET


class HeadLine(_Line, frozen=True, tag="head"):
    """The head of a stream of the run; heads are in the order in which the streams were opened."""

    run: str
    branch: str
    stream_version: int
    hash: str


class RunEnd(_Line, frozen=True, tag="run end"):
    run: str
    branches: int
    events: int


class End(_Line, frozen=True, tag="end"):
    runs: int
    events: int


Line: TypeAlias = Header | RunLine | EventLine | HeadLine | RunEnd | End


class _AnyHeader(Struct, frozen=True):
    line: str
    format: str
    version: int


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final[msgspec.json.Decoder[Line]] = msgspec.json.Decoder(Line)
_ANY_HEADER: Final = msgspec.json.Decoder(_AnyHeader)


def encode_line(line: Line) -> bytes:
    """Return the encoded line, with its line feed."""
    return _ENCODER.encode(line) + b"\n"


def decode_line(encoded: bytes) -> Line:
    """Return the decoded line.

    Raises:
        ValueError: the line is malformed or not canonical; the message says why.
    """
    try:
        line = _DECODER.decode(encoded)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if encode_line(line) != encoded:
        raise ValueError("it is not in the canonical form of an export")
    return line


def format_version(encoded: bytes) -> int | None:
    """Return the format version that a header line states, or None if it is not an export's header."""
    try:
        header = _ANY_HEADER.decode(encoded)
    except (ValueError, RecursionError):
        return None
    return header.version if (header.line, header.format) == ("header", FORMAT) else None


def event_line(run_id: str, branch: str, position: int, row: StoredEvent, *, readable: bool) -> EventLine:
    """Return an event's line.

    Args:
        position: inside the run.
    """
    return EventLine(
        run=run_id,
        position=position,
        branch=branch,
        stream_version=row.stream_version,
        event_id=row.event_id.hex(),
        recorded_at=iso_text(from_microseconds(row.recorded_at)),
        type=row.event_type,
        schema_version=row.schema_version,
        hash=row.hash.hex(),
        payload=row.payload,
        digest=UNSET if row.payload_digest is None else row.payload_digest.hex(),
        event=Raw(_rendered(row.payload)) if readable else UNSET,
    )


def stored_event(line: EventLine, position: int, stream_id: int) -> StoredEvent:
    """Return the row that an event's line describes.

    Args:
        position: in the whole log.

    Raises:
        ValueError: a field is malformed; the message says which.
    """
    _check_rendering(line)
    return StoredEvent(
        position=position,
        stream_id=stream_id,
        stream_version=line.stream_version,
        event_type=line.type,
        schema_version=line.schema_version,
        event_id=_from_hex(_EVENT_ID, line.event_id, "event_id"),
        recorded_at=_microseconds(line.recorded_at),
        payload=line.payload,
        payload_digest=None if line.digest is UNSET else _from_hex(_HASH, line.digest, "digest"),
        hash=_from_hex(_HASH, line.hash, "hash"),
    )


def _check_rendering(line: EventLine) -> None:
    if line.event is UNSET:
        return
    try:
        rendered = _rendered(line.payload)
    except (msgspec.MsgspecError, ValueError, RecursionError, TypeError) as error:
        raise ValueError(f"its payload cannot be read: {error}") from error
    if bytes(line.event) != rendered:
        raise ValueError("its event does not match its payload")


def _rendered(payload: bytes | None) -> bytes:
    # From the payload, not from the decoded event: new fields of a later version must not change this rendering.
    content: Any = None
    if payload is not None:
        check_keys(payload)
        content = msgspec.msgpack.decode(payload)
    return _ENCODER.encode(content)


def _microseconds(text: str) -> int:
    microseconds = to_microseconds(datetime.fromisoformat(text))
    if iso_text(from_microseconds(microseconds)) != text:
        raise ValueError("its recorded_at is not in the canonical form of an export")
    return microseconds


def _from_hex(pattern: re.Pattern[str], text: str, name: str) -> bytes:
    if pattern.fullmatch(text) is None:
        raise ValueError(f"its {name} is not in the canonical form of an export")
    return bytes.fromhex(text)
