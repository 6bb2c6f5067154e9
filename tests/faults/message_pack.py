"""MessagePack for mutations: where values are in a sample, and hostile fragments."""

from typing import Final

from tests.faults.mutations import Format, Sample, Span

# The number of bytes after a tag: of the value itself, or of the length that precedes it.
_SIZES: Final = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8} | {
    0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8, 0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17
}  # fmt: skip
_LENGTHS: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4} | {
    0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4
}  # fmt: skip
_EXTENSIONS: Final = (0xC7, 0xC8, 0xC9)

HOSTILE: Final = Format(
    fragments=(
        b"\xc0",
        b"\xc1",  # never used
        b"\xc2",
        b"\x00",
        b"\x07",
        b"\xff",
        b"\xa5other",
        b"\x81\xa1k\x01",
        b"\x91\xa1v",
        b"\x81\xa1x\x81\xa5value\x05",  # a parameter
        b"\xcf" + b"\xff" * 8,  # unsigned 64 bits
        b"\xcf\x80" + b"\x00" * 7,
        b"\xd3\x80" + b"\x00" * 7,
        b"\xcb\x7f\xf8" + b"\x00" * 6,  # NaN
        b"\xcb\xff\xf8\x00\x00\x00\x00\x00\x01",  # another NaN
        b"\xcb\x7f\xf0" + b"\x00" * 6,
        b"\xcb\x80" + b"\x00" * 7,  # -0.0
        b"\xca\x7f\xc0\x00\x00",
        b"\xa0",
        b"\xa1\x00",
        b"\xa3\xe2\x80\xae",  # a right-to-left override
        b"\xa3\xed\xa0\x80",  # a surrogate
        b"\xa1\xff",
        b"\xa2\xc3\x28",
        b"\xa4null",
        b"\xd9\x20" + b"\xc3\xa9" * 16,
        b"\xda\x10\x00" + b"x" * 4096,
        b"\xb4" + b"2026-01-02T12:30:15Z",
        b"\xb9" + b"0001-01-01T00:00:00+01:00",
        b"\xb9" + b"9999-12-31T23:59:59-23:59",
        b"\xb3" + b"2026-01-02T12:30:15",  # without a time zone
        b"\xd6\xff\x00\x00\x00\x01",  # a time
        b"\xd7\xff" + b"\xff" * 8,
        b"\xc7\x0c\xff" + b"\x00" * 4 + b"\x7f" + b"\xff" * 7,
        b"\xc7\x0c\xff" + b"\x00" * 4 + b"\xff\xff\xff\xf1\x88\x6e\x09\x00",  # the year 1
        b"\xd4\x05\x01",  # an extension
        b"\xc7\x00\x05",
        b"\xc4\x00",
        b"\xc4\x20" + bytes(range(32)),
        b"\xc4\xff" + b"\x00" * 255,
        b"\x80",
        b"\x90",
        b"\x81\x01\x02",  # keys of other types than text
        b"\x82\x01\x02\xa1a\x02",
        b"\x81\xc0\xc0",
        b"\x81\x91\x01\x02",
        b"\x81\x80\x02",
        b"\x81\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00\x02",
        b"\x82\xa1a\x01\xa1a\x02",  # a duplicate key
        b"\x81\xa1a" * 63 + b"\xc0",  # deep
        b"\x81\xa1a" * 64 + b"\xc0",
        b"\x81\xa1a" * 900 + b"\xc0",
        b"\x91" * 64 + b"\x90",
        b"\x91" * 990 + b"\xc0",
        b"\x91" * 20_000 + b"\xc0",
        b"\x81\x91" * 2_000 + b"\xc0",
        b"\xdd\xff\xff\xff\xff",  # gigabytes
        b"\xdd\x04\x00\x00\x00" * 40,
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xdb\x7f\xff\xff\xffx",
        b"\xc6\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x05",
    ),
    tags=bytes([*range(0x80, 0xA0), 0xA0, 0xBF, *range(0xC0, 0xE0), 0x00, 0x7F, 0xFF]),
)
"""Whole and broken values, each of which a reader must survive anywhere."""


def sample(data: bytes) -> Sample:
    """Return canonical MessagePack with the spans of its values."""
    reader = _Reader(data)
    reader.value()
    assert reader.at == len(data)
    return Sample(data, tuple(reader.found))


class _Reader:
    """Finds the spans of values, inner ones first, without keys."""

    def __init__(self, data: bytes) -> None:
        self.at = 0
        self.found: list[Span] = []
        self._data = data

    def value(self) -> None:
        begin = self.at
        tag = self._number(1)
        if tag in _SIZES:
            self.at += _SIZES[tag]
        elif tag in _LENGTHS:
            self._content(tag, self._number(_LENGTHS[tag]))
        elif 0xA0 <= tag < 0xC0:
            self.at += tag & 31
        elif 0x80 <= tag < 0xA0:
            self._content(0xDE if tag < 0x90 else 0xDC, tag & 15)
        self.found.append((begin, self.at))

    def _content(self, tag: int, length: int) -> None:
        if tag >= 0xDE:
            for _ in range(length):
                self.value()
                self.found.pop()  # a key: any other value there would not be a field
                self.value()
        elif tag >= 0xDC:
            for _ in range(length):
                self.value()
        else:
            self.at += length + (tag in _EXTENSIONS)

    def _number(self, size: int) -> int:
        self.at += size
        return int.from_bytes(self._data[self.at - size : self.at], "big")
