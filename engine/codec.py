"""Events as bytes: canonical encoding, hashes, schema versions, upcasters.

The payload is MessagePack with mappings in key order and fields at their default left out, so equal events have equal
bytes. The hash of an event is

    blake2b-256(hash of the event before it in the stream ‖ header ‖ blake2b-256(payload))

with 32 zero bytes before a stream's first event and the header a MessagePack array of run id, branch, stream version,
event type, schema version, event id (16 bytes) and recorded time (microseconds since 1970, UTC). Hashing the payload's
digest lets a payload be erased later: while the digest stays, the chain stays whole.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final, TypeVar, get_args

import msgspec

from engine.encoding.free_form import check_of
from engine.encoding.text_keys import check_keys
from engine.errors import CannotDecode, MalformedPayload, NewerEventVersion, UnknownEventType
from engine.events import Event, RecordedEvent
from engine.times import from_microseconds

Value = TypeVar("Value")

EVENT_BYTES_MAX: Final = 1024 * 1024
GENESIS_HASH: Final = bytes(32)

EVENT_TYPES: Final[dict[str, type]] = {event_type.__name__: event_type for event_type in get_args(Event)}
SCHEMA_VERSIONS: Final[dict[str, int]] = {
    **dict.fromkeys(EVENT_TYPES, 1),
    "SourceCarriedOver": 2,
    "ParametersSet": 2,
    "ParametersReduced": 2,
    "StepLogged": 2,
    "AttemptCreated": 4,
    "AttemptUpdated": 3,
}

# (event type, version) → the upcaster to the next version. Applied in turn up to the current version.
# An erased event's remaining payload has the shape of the version that erased it, but keeps the version number that was
# hashed: an upcaster must therefore leave an already lifted payload unchanged.
Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
UPCASTERS: Final[dict[tuple[str, int], Upcaster]] = {
    ("SourceCarriedOver", 1): dict,  # 2 adds `config`, which 1 lost, and `runs`
    ("ParametersSet", 1): dict,  # 2 adds `copied_from`: copies in version 1 count as written by the branch
    ("ParametersReduced", 1): dict,  # 2 finds more conflicts: see `engine.reduction.fold`
    ("StepLogged", 1): dict,  # 2 allows more types for a task's download patterns
    ("AttemptCreated", 1): dict,  # 2 adds `current`, which was always True
    ("AttemptCreated", 2): dict,  # 3 adds `step_status`, which was an event of its own
    ("AttemptCreated", 3): dict,  # 4 adds `ended_at`, which was an event of its own
    ("AttemptUpdated", 1): dict,  # 2 adds `step_status`, likewise
    ("AttemptUpdated", 2): dict,  # 3 adds `ends`: before, only terminal statuses ended an attempt without its step
}

_ENCODER = msgspec.msgpack.Encoder(order="deterministic")
_DECODERS: Final[dict[str, msgspec.msgpack.Decoder[Any]]] = {
    name: msgspec.msgpack.Decoder(event_type) for name, event_type in EVENT_TYPES.items()
}
_CHECKS: Final = {name: check_of(event_type) for name, event_type in EVENT_TYPES.items()}

encode_canonical = _ENCODER.encode


def in_parts(items: Iterable[Value], bytes_max: int) -> Iterator[list[Value]]:
    """Split items into parts of at most `bytes_max` encoded bytes; a larger item is a part by itself.

    Args:
        bytes_max: the limit for the sum of the items' sizes, without the surrounding structure.
    """
    part, size = list[Value](), 0
    for item in items:
        item_size = len(encode_canonical(item))
        if part and size + item_size > bytes_max:
            yield part
            part, size = [], 0
        part.append(item)
        size += item_size
    yield part


def derived_id(*place: str | int) -> str:
    """Return an id derived from `place`: the same in every process."""
    return blake2b(encode_canonical(place), digest_size=16).hexdigest()


def decode_event(event_type: str, schema_version: int, payload: bytes, position: int | None = None) -> Event:
    """Decode an event.

    Raises:
        UnknownEventType, NewerEventVersion, MalformedPayload: each names the type and the position.
    """
    decoder = _DECODERS.get(event_type)
    if decoder is None:
        raise UnknownEventType(event_type, schema_version, "unknown event type", position)
    current = SCHEMA_VERSIONS[event_type]
    if schema_version > current:
        raise NewerEventVersion(event_type, schema_version, f"this anabranch reads up to version {current}", position)
    try:
        check_keys(payload)
        lifted = schema_version != current
        event: Event = _lift(event_type, schema_version, payload) if lifted else decoder.decode(payload)
        _CHECKS[event_type](event)
    # msgspec reports bad UTF-8 and deep nesting with built-in errors; an erased payload is None, a TypeError
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError, KeyError, TypeError) as error:
        raise MalformedPayload(event_type, schema_version, str(error), position) from error
    return event


def _lift(event_type: str, schema_version: int, payload: bytes) -> Event:
    data = msgspec.msgpack.decode(payload, type=dict[str, Any])
    for version in range(schema_version, SCHEMA_VERSIONS[event_type]):
        data = UPCASTERS[event_type, version](data)
    event: Event = msgspec.convert(data, EVENT_TYPES[event_type])
    return event


def decode_recorded(  # noqa: PLR0917 - one argument for each column of an event
    position: int,
    run_id: str,
    branch: str,
    stream_version: int,
    event_id: bytes,
    recorded_at: int,
    hash_: bytes,
    event_type: str,
    schema_version: int,
    payload: bytes,
) -> RecordedEvent:
    """Decode an event and its envelope from a log's columns.

    Raises:
        CannotDecode: naming the type and the position; also for a column of the wrong type, as in a damaged file.
    """
    if not (
        type(run_id) is type(branch) is type(event_type) is str
        and type(stream_version) is type(schema_version) is type(recorded_at) is int
        and type(event_id) is type(hash_) is bytes
    ):
        raise CannotDecode(str(event_type), schema_version, "its envelope is damaged", position)
    event = decode_event(event_type, schema_version, payload, position)
    try:
        moment = from_microseconds(recorded_at)
    except OverflowError as error:
        raise CannotDecode(event_type, schema_version, "its time is damaged", position) from error
    return RecordedEvent(position, run_id, branch, stream_version, event_id.hex(), moment, hash_, event)


def payload_digest(payload: bytes) -> bytes:
    """Return the 32-byte digest that represents `payload` in the hash chain."""
    return _blake2b_256(payload)


def link(  # noqa: PLR0917 - one argument for each field of the header, in the header's order
    previous: bytes,
    run_id: str,
    branch: str,
    stream_version: int,
    event_type: str,
    schema_version: int,
    event_id: bytes,
    recorded_at: int,
    digest: bytes,
) -> bytes:
    """Return the hash of an event; see the module's docstring."""
    header = encode_canonical((run_id, branch, stream_version, event_type, schema_version, event_id, recorded_at))
    return _blake2b_256(previous + header + digest)


_BLAKE2B_256: Final = blake2b(digest_size=32)


def _blake2b_256(data: bytes) -> bytes:
    hashed = _BLAKE2B_256.copy()  # takes half as long as constructing one
    hashed.update(data)
    return hashed.digest()


def same(left: object, right: object) -> bool:
    """Return whether two values have the same encoding: 1, 1.0 and True differ; all NaNs are equal."""
    ours, theirs = encode_canonical(left), encode_canonical(right)
    if ours == theirs:
        return True
    if len(ours) != len(theirs) or _MAYBE_NAN.search(ours) is None:
        return False
    return _with_one_nan(ours) == _with_one_nan(theirs)


def differing(said: Mapping[str, Value], known: Mapping[str, object]) -> dict[str, Value]:
    """Return the items of `said` that `known` lacks or holds with another value."""
    return {name: value for name, value in said.items() if name not in known or not same(known[name], value)}


# NaNs differ in sign and payload bits, which arithmetic sets arbitrarily and the views do not keep.
_MAYBE_NAN = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")


def _with_one_nan(encoded: bytes) -> bytes:
    return encode_canonical(_one_nan(msgspec.msgpack.decode(encoded)))


def _one_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _one_nan(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_one_nan(member) for member in value]
    return math.nan if isinstance(value, float) and math.isnan(value) else value
