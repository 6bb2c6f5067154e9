"""Event ids: UUIDs of version 7 (RFC 9562), ordered by time, then random."""

import os
import time
from typing import Final

_RANDOM_BYTES: Final = 10
_IDS_DRAWN: Final = 256  # drawn together: reading random bytes from the system is the most expensive part

# The first random byte carries the version in its upper half, the third the variant in its upper two bits.
_VERSION_7: Final = bytes(0x70 | byte & 0x0F for byte in range(256))
_VARIANT: Final = bytes(0x80 | byte & 0x3F for byte in range(256))


class EventIds:
    """Generates 16-byte ids. Not safe to share between threads, or across a fork: both could return the same ids."""

    def __init__(self) -> None:
        self._random = b""
        self._offset = 0

    def take(self, milliseconds: bytes) -> bytes:
        """Return a new id for a time; see `as_milliseconds`."""
        start = self._offset
        if start == len(self._random):
            self._random, start = _draw(_IDS_DRAWN), 0
        self._offset = start + _RANDOM_BYTES
        return milliseconds + self._random[start : self._offset]


def as_milliseconds(recorded_at: int) -> bytes:
    """Return a time in microseconds since 1970 as the first six bytes of an id; zero for times before 1970."""
    return max(0, recorded_at // 1000).to_bytes(6, "big")


def new_event_id() -> bytes:
    """Return a new id for the current time; safe in any thread and process."""
    return as_milliseconds(time.time_ns() // 1000) + _draw(1)


def _draw(ids: int) -> bytes:
    random = bytearray(os.urandom(_RANDOM_BYTES * ids))
    random[0::_RANDOM_BYTES] = random[0::_RANDOM_BYTES].translate(_VERSION_7)
    random[2::_RANDOM_BYTES] = random[2::_RANDOM_BYTES].translate(_VARIANT)
    return bytes(random)
