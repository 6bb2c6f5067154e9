"""The codec: canonical encoding, the hash chain, schema versions and hostile payloads."""

import contextlib
import math
from datetime import UTC, datetime, timedelta, timezone
from hashlib import blake2b
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.codec import (
    EVENT_TYPES,
    GENESIS_HASH,
    SCHEMA_VERSIONS,
    UPCASTERS,
    decode_event,
    decode_recorded,
    encode_canonical,
    link,
    payload_digest,
)
from engine.commands import Fork
from engine.encoding.values import VALUE_DEPTH_MAX
from engine.errors import (
    CannotDecode,
    InvalidValue,
    MalformedPayload,
    NewerEventVersion,
    UnknownEventType,
)
from engine.events import BranchLogged, Event, ParametersSet, RunCreated, StepLogged
from engine.handles.engine import Engine
from engine.model import AttemptDocument, Parameter, TaskSpec
from engine.times import from_microseconds, to_microseconds
from tests.strategies import documents, names, parameters


@given(st.dictionaries(names, parameters, max_size=4))
def test_equal_events_have_equal_bytes_whatever_the_order_of_their_values(values: dict[str, Parameter]) -> None:
    """Canonical bytes do not depend on the order of a mapping's keys."""
    forwards = ParametersSet(branch="a", values=values)
    backwards = ParametersSet(branch="a", values=dict(reversed(values.items())))
    assert encode_canonical(forwards) == encode_canonical(backwards)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (Parameter(1, "".join(["js", "on"])), Parameter(1)),  # type: ignore[arg-type]
        (RunCreated(branch="", status="".join(["CREA", "TED"])), RunCreated(branch="")),
        (TaskSpec(task_type="".join(["Ta", "sk"])), TaskSpec()),
        (Fork(branch="a", status="".join(["CREA", "TED"])), Fork(branch="a")),
        (AttemptDocument(status="".join(["CREA", "TED"])), AttemptDocument()),
    ],
)
def test_a_text_at_its_default_is_left_out_wherever_it_came_from(left: object, right: object) -> None:
    """A string equal to a field's default is left out, even if it is another object than the default."""
    assert encode_canonical(left) == encode_canonical(right)


@given(documents)
def test_an_event_decodes_to_itself_and_to_the_same_bytes(details: dict[str, Any]) -> None:
    """A decoded event encodes to the same bytes again."""
    payload = encode_canonical(BranchLogged(branch="a", details=details))
    assert encode_canonical(decode_event("BranchLogged", 1, payload)) == payload


def test_fields_at_their_default_are_left_out() -> None:
    """Fields at their default are left out, so a new field with a default keeps the bytes of older events."""
    payload = encode_canonical(StepLogged(branch="", step="s", name="s"))
    assert msgspec.msgpack.decode(payload) == {"branch": "", "step": "s", "name": "s"}


def test_a_payload_carries_no_type() -> None:
    """A payload does not contain the event's type, which is in the envelope."""
    assert b"ParametersSet" not in encode_canonical(ParametersSet(branch="", values={}))


def test_link_is_the_documented_formula() -> None:
    """`link` is blake2b-256(previous ‖ header ‖ blake2b-256(payload)) with a header array of seven fields."""
    previous, payload, event_id = bytes(range(32)), b"payload", bytes(16)
    digest = blake2b(payload, digest_size=32).digest()
    header = msgspec.msgpack.encode(["r", "a.b", 7, "BranchLogged", 1, event_id, 1_700_000_000_000_000])
    expected = blake2b(previous + header + digest, digest_size=32).digest()
    found = link(previous, "r", "a.b", 7, "BranchLogged", 1, event_id, 1_700_000_000_000_000, payload_digest(payload))
    assert found == expected


async def test_the_chain_of_a_recorded_run_can_be_computed_from_the_formula_alone(engine: Engine) -> None:
    """The hashes of a recorded run can be recomputed from the recorded events with the formula alone."""
    run = await engine.create_run("r", parameters={"a": math.nan})
    branch = await run.fork("b")
    await branch.set_parameters({"x": 1})
    await run.reduce([branch])
    heads: dict[str, bytes] = {}
    async for recorded in engine.events():
        payload = msgspec.msgpack.Encoder(order="deterministic").encode(recorded.event)
        microseconds = (recorded.recorded_at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        header = [
            recorded.run_id,
            recorded.branch,
            recorded.stream_version,
            type(recorded.event).__name__,
            SCHEMA_VERSIONS[type(recorded.event).__name__],
            bytes.fromhex(recorded.event_id),
            microseconds,
        ]
        digest = blake2b(payload, digest_size=32).digest()
        before = heads.get(recorded.branch, bytes(32))
        heads[recorded.branch] = blake2b(before + msgspec.msgpack.encode(header) + digest, digest_size=32).digest()
        assert recorded.hash == heads[recorded.branch]
    assert heads == {"": (await run.head()).hash, "b": (await branch.head()).hash}


@pytest.mark.parametrize("changed", range(9))
def test_the_hash_commits_to_every_field(changed: int) -> None:
    """Changing the previous hash, any header field or the payload's digest changes the hash."""
    fields: list[Any] = [GENESIS_HASH, "r", "b", 1, "RunCreated", 1, bytes(16), 5, payload_digest(b"")]
    others: list[Any] = [b"\x01" * 32, "q", "c", 2, "RunForked", 2, b"\x01" * 16, 6, payload_digest(b"x")]
    before = link(*fields)
    fields[changed] = others[changed]
    assert link(*fields) != before


@pytest.fixture
def lifted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `BranchLogged` version 3, with `notes` in version 1 and `info` in version 2."""
    monkeypatch.setitem(SCHEMA_VERSIONS, "BranchLogged", 3)
    monkeypatch.setitem(UPCASTERS, ("BranchLogged", 1), lambda old: {"branch": old["branch"], "info": old["notes"]})
    monkeypatch.setitem(UPCASTERS, ("BranchLogged", 2), lambda old: {"branch": old["branch"], "details": old["info"]})


@pytest.mark.usefixtures("lifted")
@pytest.mark.parametrize(("version", "field"), [(1, "notes"), (2, "info"), (3, "details")])
def test_upcasters_lift_old_payloads_one_version_at_a_time(version: int, field: str) -> None:
    """A payload of any older version is decoded as today's event."""
    payload = encode_canonical({"branch": "b", field: {"a": [1, math.inf]}})
    assert decode_event("BranchLogged", version, payload) == BranchLogged(branch="b", details={"a": [1, math.inf]})


@pytest.mark.usefixtures("lifted")
@pytest.mark.parametrize(
    "payload",
    [
        encode_canonical({"branch": "b"}),
        encode_canonical({"branch": 5, "notes": {}}),
        encode_canonical([1]),
        b"\xc1",
        b"",
    ],
)
def test_an_old_payload_that_cannot_be_lifted_is_malformed(payload: bytes) -> None:
    """An old payload that its upcaster cannot handle raises MalformedPayload."""
    with pytest.raises(MalformedPayload):
        decode_event("BranchLogged", 1, payload, 9)


@pytest.mark.usefixtures("lifted")
@pytest.mark.parametrize("version", [0, -1])
def test_a_version_that_never_was_is_malformed(version: int) -> None:
    """A schema version below 1 raises MalformedPayload with the position."""
    with pytest.raises(MalformedPayload) as caught:
        decode_event("BranchLogged", version, encode_canonical({"branch": "b"}), 9)
    assert caught.value.position == 9


def test_an_unknown_type_is_reported_by_name_and_position() -> None:
    """An unknown event type raises UnknownEventType with type, version and position."""
    with pytest.raises(UnknownEventType, match="'RunPaused' version 1 at position 42") as caught:
        decode_event("RunPaused", 1, b"\x80", 42)
    assert (caught.value.event_type, caught.value.schema_version, caught.value.position) == ("RunPaused", 1, 42)


def test_a_newer_version_is_reported_by_name_and_position() -> None:
    """A newer schema version raises NewerEventVersion with the version found, the newest known and the position."""
    with pytest.raises(NewerEventVersion, match=r"'BranchLogged' version 99 at position 7.*up to version 1") as caught:
        decode_event("BranchLogged", 99, b"\x80", 7)
    assert (caught.value.schema_version, caught.value.position) == (99, 7)


def test_outside_a_log_there_is_no_position() -> None:
    """Decoding outside a log raises errors without a position."""
    with pytest.raises(CannotDecode) as caught:
        decode_event("RunPaused", 1, b"")
    assert caught.value.position is None
    assert "position" not in str(caught.value)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x80",
        b"\x90",
        b"\xc0",
        b"\x81\xa6branch\x05",
        b"\x81\xa6branch\xa1\xff",  # not UTF-8
        b"\x82\xa6branch\xa0\xa5extra\x01",
        b"\x82\xa6branch\xa0\xa7details" + b"\x81\xa1a" * 5_000 + b"\xc0",  # deeper than the interpreter's stack allows
        b"\x82\xa6branch\xa0\xa7details\x81\xa1a" + b"\x91" * 100_000,
        b"\x82\xa6branch\xa0\xa7details\xdf\xff\xff\xff\xff",  # a mapping of four billion entries
        b"\x82\xa6branch\xa0\xa7details\x81\xa1a\xdd\xff\xff\xff\xff",  # a list of four billion items
        b"\x82\xa6branch\xa0\xa7details\x81\xa1a\xc7\x0c\xff" + b"\xff" * 12,  # an invalid time
        b"\x82\xa6branch\xa0\xa7details\x81\xa1a\x81\x01\x02",  # a key that is a number
        b"\x82\xa6branch\xa0\xa7details\x81\xa1a\x82\x91\x01\x02\xa1a\x02",  # a key that is a list
        b"\x82\xa6branch\xa0\xa7details\x81\xa1a\xc4\x01a",  # bytes
        b"\x82\xa6branch\xa0\xa7details\x81\xa1a\xd4\x05\x01",  # an extension
        b"\x82\xa6branch\xa0\xa7details\x81\xa1a\xd6\xff\x00\x00\x00\x01",  # a valid time, which is not JSON
        b"\x82\xa6branch\xa0\xa7details\x81\xa1a\xcf\x80\x00\x00\x00\x00\x00\x00\x00",  # 2 to the power of 63
        b"\x82\xa6branch\xa0\xa7details" + b"\x81\xa1a" * 130 + b"\xc0",
        encode_canonical(BranchLogged(branch="b")) + b"\x00",
        None,  # erased
    ],
)
def test_hostile_bytes_are_malformed(payload: bytes) -> None:
    """Any invalid payload raises MalformedPayload with the position."""
    with pytest.raises(MalformedPayload) as caught:
        decode_event("BranchLogged", 1, payload, 3)
    assert caught.value.position == 3


@pytest.mark.parametrize(
    ("event_type", "fields", "reason"),
    [
        ("StepLogged", {"step": "s", "name": "s", "spec": {"cores": 2**63}}, "spec: cores: an integer exceeds 64 bits"),
        ("ParametersSet", {"values": {"x": {"value": {"y": b"z"}}}}, "values: value: bytes is not JSON"),
        ("RunCreated", {"created_at": "0001-01-01T00:00:00+01:00"}, "created_at: a time is outside the years"),
        ("RunCreated", {"created_at": "2026-01-01T00:00:00"}, "created_at: a time has no time zone"),
    ],
)
def test_what_could_never_be_recorded_is_malformed(event_type: str, fields: dict[str, Any], reason: str) -> None:
    """A payload with a value that is not JSON, an integer over 64 bits or an invalid time raises MalformedPayload."""
    payload = encode_canonical({"branch": "", **fields})
    with pytest.raises(MalformedPayload, match=reason):
        decode_event(event_type, SCHEMA_VERSIONS[event_type], payload, 3)


def test_a_document_may_hold_values_of_the_greatest_depth() -> None:
    """A value of the greatest depth, nested inside a document's details, can be decoded."""
    value: Any = 1
    for _ in range(VALUE_DEPTH_MAX):
        value = [value]
    payload = encode_canonical(BranchLogged(branch="b", details={"documents": [{"value": value}]}))
    assert encode_canonical(decode_event("BranchLogged", 1, payload)) == payload


ENVELOPE: dict[str, Any] = {
    "position": 9,
    "run_id": "r",
    "branch": "",
    "stream_version": 1,
    "event_id": bytes(16),
    "recorded_at": 0,
    "hash_": bytes(32),
    "event_type": "BranchLogged",
    "schema_version": 1,
    "payload": encode_canonical(BranchLogged(branch="")),
}


_CHECKED_BEYOND_ITS_TYPE = {"event_type", "schema_version", "recorded_at", "payload"}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (column, value)
        for column, whole in ENVELOPE.items()
        for value in (None, "text", b"bytes", 2**62, -(2**63), 0.5)
        if column != "position" and (type(value) is not type(whole) or column in _CHECKED_BEYOND_ITS_TYPE)
    ],
)
def test_a_damaged_envelope_is_an_error_at_its_position(column: str, value: object) -> None:
    """A damaged envelope column raises CannotDecode with the position."""
    with pytest.raises(CannotDecode, match="at position 9") as caught:
        decode_recorded(**ENVELOPE | {column: value})
    assert caught.value.position == 9


@given(st.sampled_from(sorted(EVENT_TYPES)), st.integers(-2, 3), st.binary(max_size=60))
def test_random_bytes_give_an_event_or_cannot_decode(event_type: str, version: int, payload: bytes) -> None:
    """Decoding random bytes gives an event of the type or raises CannotDecode, never another error."""
    event: Event | None = None
    with contextlib.suppress(CannotDecode):
        event = decode_event(event_type, version, payload)
    assert event is None or type(event) is EVENT_TYPES[event_type]


@given(st.data())
def test_damaged_payloads_give_an_event_or_cannot_decode(data: st.DataObject) -> None:
    """Decoding a damaged payload gives an event of the type or raises CannotDecode, never another error."""
    payload = bytearray(encode_canonical(BranchLogged(branch="b", details=data.draw(documents))))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(payload)))
        payload[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    event: Event | None = None
    with contextlib.suppress(CannotDecode):
        event = decode_event("BranchLogged", 1, bytes(payload))
    assert event is None or type(event) is BranchLogged


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_are_microseconds_and_come_back(moment: datetime) -> None:
    """A time in UTC is converted to microseconds and back unchanged."""
    assert from_microseconds(to_microseconds(moment)) == moment


def test_a_time_in_another_zone_is_the_same_moment() -> None:
    """A time in another zone is converted to the same moment in UTC."""
    there = datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    assert from_microseconds(to_microseconds(there)) == datetime(2026, 1, 1, tzinfo=UTC)


def test_a_naive_time_is_refused() -> None:
    """A naive time raises InvalidValue."""
    with pytest.raises(InvalidValue, match="has no time zone"):
        to_microseconds(datetime(2026, 1, 1))  # noqa: DTZ001 - the case


def test_every_event_has_a_version_and_every_older_one_an_upcaster() -> None:
    """Every event type has a schema version, and every older version has an upcaster."""
    assert SCHEMA_VERSIONS.keys() == EVENT_TYPES.keys()
    steps = {(name, version) for name, current in SCHEMA_VERSIONS.items() for version in range(1, current)}
    assert steps == UPCASTERS.keys()
