"""JSON for mutations: where values are in a sample, and hostile fragments."""

import re
from typing import Final

from tests.faults.mutations import Format, Sample

_VALUE: Final = re.compile(rb'"(?:[^"\\]|\\.)*"(?!:)|-?\d[\d.eE+-]*|true|false|null|\{\}|\[\]')

HOSTILE: Final = Format(
    fragments=(
        b"null",
        b"true",
        b"0",
        b"-0",
        b"-1",
        b"2",
        b"1.5",
        b"1e400",
        b"-1e-400",
        b"1E5",
        b"01",
        b"+1",
        b"9223372036854775808",
        b"18446744073709551616",
        b"1" + b"0" * 400,
        b"9" * 5_000,
        b"0." + b"3" * 5_000,
        b"NaN",
        b"Infinity",
        b"{}",
        b"[]",
        b'""',
        b'"r1"',
        b'"evil"',
        b'"\\u0000"',
        b'"\x00"',
        b'"\\ud800"',
        b'"\\udc00\\ud800"',
        b'"\xed\xa0\x80"',
        b'"\\u202e"',
        b'"\xe2\x80\xae"',
        b'"\xef\xbb\xbf"',
        b'"\xff"',
        b'"\\x41"',
        b'"\\u00"',
        b'"unending',
        b'"' + b"x" * 5_000 + b'"',
        b'"' + b"A" * 4_000 + b'"',  # base64
        b'"gQ=="',
        b'"gQ="',
        b'"2026-01-02T12:30:15.123456Z"',
        b'"0001-01-01T00:00:00.000000+01:00"',
        b'"' + b"0" * 64 + b'"',
        b"[" * 64 + b"]" * 64,
        b"[" * 5_000,
        b'{"a":' * 5_000,
        b"[" * 900 + b"]" * 900,
        b'{"a":' * 900 + b"1" + b"}" * 900,
        b'{"a":1,"a":2}',
        b'{"line":"end","line":"run"}',
        b",",
        b":",
        b"}",
        b'"',
        b"\\",
        b"\n",
        b"\r\n",
        b"\x0b",
        b" ",
        b"/**/",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
    ),
    tags=b'{}[],:"\\0-19.eE+ \n\tntf\x00\x7f\xff',
)
"""Whole and broken values, each of which a reader must survive anywhere."""


def sample(data: bytes) -> Sample:
    """Return JSON with the spans of its values: texts, numbers, words, and empty objects and arrays."""
    return Sample(data, tuple(found.span() for found in _VALUE.finditer(data)))
