"""Large payloads of unknown origin: their keys are looked at before anybody builds mappings of them."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.text_keys import check_keys
from tests.strategies import values

LARGE = 300


def large(member: Any) -> bytes:
    """A payload that is looked at, with a member that may be anything."""
    return msgspec.msgpack.encode({"many": dict.fromkeys(map(str, range(LARGE)), "x" * 20), "member": member})


@given(values)
def test_json_passes(member: Any) -> None:
    """Whatever could be recorded is decoded as before."""
    payload = large(member)
    check_keys(payload)
    assert msgspec.msgpack.encode(msgspec.msgpack.decode(payload)) == payload


@pytest.mark.parametrize("key", [0, -1, 2**40, 0.5, None, True, b"a", (1, 2), ()], ids=repr)
@pytest.mark.parametrize("before", [[], [1, "é", b"\xff" * 300, 0.5, None, 2**63, {"a": [{}]}, ["x" * 70_000]]])
def test_a_key_that_is_no_text_is_refused(key: Any, before: list[Any]) -> None:
    """Wherever it stands behind values of all kinds and lengths."""
    with pytest.raises(ValueError, match="a key is not text"):
        check_keys(large([*before, {"a": {key: 1}}]))


@given(st.data())
def test_bytes_that_are_no_message_pack_are_left_to_the_decoder(data: st.DataObject) -> None:
    """It refuses them, and says why."""
    payload = large([1, {"a": "b"}])
    payload = payload[: data.draw(st.integers(0, len(payload)))] + data.draw(st.binary(max_size=20)) + b"\xdf" * 4096
    try:
        check_keys(payload)
    except ValueError as error:
        assert str(error) == "a key is not text"  # noqa: PT017 - most are left to the decoder


def test_a_small_payload_is_not_looked_at() -> None:
    """In four kilobytes nothing takes long."""
    check_keys(msgspec.msgpack.encode({(1, 2): 3}))
