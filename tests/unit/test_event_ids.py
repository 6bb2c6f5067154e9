"""Event ids are UUIDs of version 7, ordered by time."""

import time
import uuid

import pytest

from engine.encoding.event_ids import EventIds, as_milliseconds, new_event_id


def test_ids_are_version_7_and_ordered_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """An id begins with 48 bits of milliseconds, so ids are ordered by time, and is otherwise random."""
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_123 * 1_000_000)
    earlier = new_event_id()
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_124 * 1_000_000)
    assert earlier < new_event_id()
    assert int.from_bytes(earlier[:6], "big") == 1_700_000_000_123
    assert new_event_id() != new_event_id()


def test_every_id_of_a_maker_is_fresh_and_version_7() -> None:
    """Ids taken from one `EventIds` at the same time are all different and of version 7."""
    ids, milliseconds = EventIds(), as_milliseconds(1_700_000_000_123_456)
    taken = [ids.take(milliseconds) for _ in range(1000)]
    assert len({each[6:] for each in taken}) == 1000
    assert {uuid.UUID(bytes=each).version for each in taken} == {7}
    assert {uuid.UUID(bytes=each).variant for each in taken} == {uuid.RFC_4122}
    assert {each[:6] for each in taken} == {(1_700_000_000_123).to_bytes(6, "big")}
