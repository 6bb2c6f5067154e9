"""Checks that all keys in untrusted MessagePack are text, before it is decoded into mappings.

Python hashes texts with a per-process secret, but not tuples of numbers. Decoding a mapping whose keys are lists chosen
to collide takes quadratic time: half a megabyte would block the whole process for 15 seconds.
"""

import re
from typing import Final

_LARGE_MAPPING: Final = re.compile(rb"\xde[^\x00]|\xdf")  # of 256 keys and more, or bytes that look like one
_CHECKED_BYTES_MIN: Final = 4096

# By tag: the size of a fixed-size value in bytes; or the size of the length field, which counts bytes or members.
_SIZES: Final = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8} | {
    0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8, 0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17
}  # fmt: skip
_BYTES: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_EXTENSIONS: Final = frozenset({0xC7, 0xC8, 0xC9})
_LISTS: Final = {0xDC: 2, 0xDD: 4}
_MAPPINGS: Final = {0xDE: 2, 0xDF: 4}
_DEPTH_MAX: Final = 1024  # deeper than any decoder accepts
_TEXTS: Final = frozenset({*range(0xA0, 0xC0), 0xD9, 0xDA, 0xDB})


def check_keys(payload: bytes) -> None:
    """Check that all keys are texts, if the payload may hold a mapping with many keys.

    Raises:
        ValueError
    """
    if len(payload) >= _CHECKED_BYTES_MIN and _LARGE_MAPPING.search(payload) is not None:
        _Walk(payload).check()


class _Walk:
    """Walks over the tags of a payload, as far as it is well formed; the decoder rejects the rest."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._offset = 0
        self._remaining = 1  # values left in the innermost list or mapping, counting keys as well
        self._in_mapping = False
        self._outer: list[tuple[int, bool]] = []

    def check(self) -> None:
        while self._offset < len(self._payload) and len(self._outer) < _DEPTH_MAX:
            if self._remaining:
                self._skip_value(self._payload[self._offset])
            elif self._outer:
                self._remaining, self._in_mapping = self._outer.pop()
            else:
                return

    def _skip_value(self, tag: int) -> None:
        if self._in_mapping and self._remaining % 2 == 0 and tag not in _TEXTS:
            raise ValueError("a key is not text")
        self._remaining -= 1
        self._offset += 1
        if tag in _SIZES:
            self._offset += _SIZES[tag]
        elif tag in _BYTES:
            length = self._read_length(_BYTES[tag])
            self._offset += length + (tag in _EXTENSIONS)
        elif 0xA0 <= tag < 0xC0:  # noqa: PLR2004 - short texts
            self._offset += tag & 31
        elif 0x80 <= tag < 0xA0:  # noqa: PLR2004 - short mappings and lists
            self._enter((tag & 15) * 2 if tag < 0x90 else tag & 15, in_mapping=tag < 0x90)  # noqa: PLR2004 - as above
        elif tag in _LISTS:
            self._enter(self._read_length(_LISTS[tag]), in_mapping=False)
        elif tag in _MAPPINGS:
            self._enter(self._read_length(_MAPPINGS[tag]) * 2, in_mapping=True)

    def _enter(self, values: int, *, in_mapping: bool) -> None:
        self._outer.append((self._remaining, self._in_mapping))
        self._remaining, self._in_mapping = values, in_mapping

    def _read_length(self, size: int) -> int:
        self._offset += size
        return int.from_bytes(self._payload[self._offset - size : self._offset], "big")
