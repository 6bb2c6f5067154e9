"""Large payloads of unknown origin: their keys are checked before they are decoded to mappings."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.encoding.text_keys import check_keys
from tests.strategies import values

LARGE = 300


def large(member: Any) -> bytes:
    """A payload large enough to be checked, with any value as a member."""
    return msgspec.msgpack.encode({"many": dict.fromkeys(map(str, range(LARGE)), "x" * 20), "member": member})


@given(values)
def test_json_passes(member: Any) -> None:
    """A payload of JSON values passes the check."""
    payload = large(member)
    check_keys(payload)
    assert msgspec.msgpack.encode(msgspec.msgpack.decode(payload)) == payload


@pytest.mark.parametrize("key", [0, -1, 2**40, 0.5, None, True, b"a", (1, 2), ()], ids=repr)
@pytest.mark.parametrize("before", [[], [1, "é", b"\xff" * 300, 0.5, None, 2**63, {"a": [{}]}, ["x" * 70_000]]])
def test_a_key_that_is_no_text_is_refused(key: Any, before: list[Any]) -> None:
    """A key that is no text raises ValueError, whatever values come before it."""
    with pytest.raises(ValueError, match="a key is not text"):
        check_keys(large([*before, {"a": {key: 1}}]))


@given(st.data())
def test_bytes_that_are_no_message_pack_are_left_to_the_decoder(data: st.DataObject) -> None:
    """Bytes that are not MessagePack pass, or raise only the error about keys."""
    payload = large([1, {"a": "b"}])
    payload = payload[: data.draw(st.integers(0, len(payload)))] + data.draw(st.binary(max_size=20)) + b"\xdf" * 4096
    try:
        check_keys(payload)
    except ValueError as error:
        assert str(error) == "a key is not text"  # noqa: PT017 - most payloads raise nothing


def test_a_small_payload_is_not_looked_at() -> None:
    """A small payload is not checked."""
    check_keys(msgspec.msgpack.encode({(1, 2): 3}))
