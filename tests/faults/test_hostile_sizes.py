"""The worst that few bytes can do: depth, lengths that claim gigabytes, mappings that are slow to build.

Nothing here is timed. Work that grows with the square of the size would not end: a mapping of a megabyte whose keys
have one hash took a minute.
"""

import base64
import io
import tracemalloc
from collections.abc import Callable, Iterator

import msgspec
import pytest

from engine.codec import decode_event
from engine.errors import CannotDecode
from engine.transfer import ExportCutShort, ImportRefused, MalformedLine
from engine.transfer.lines import Header, encode_line, stored_event
from engine.transfer.reading import ExportReader
from tests.faults.colliding import tuples_of_one_hash

SIZES = [pytest.param(2**15, id="32 KiB"), pytest.param(2**20, id="1 MiB", marks=pytest.mark.slow)]

GROWTH_MAX = 80
"""An empty mapping is one byte, and in memory an object of 64 with a pointer of 8 to it: nothing grows by more."""


def _list(members: int) -> bytes:
    return b"\xdd" + members.to_bytes(4, "big")


def _mapping(members: int) -> bytes:
    return b"\xdf" + members.to_bytes(4, "big")


def _colliding(size: int) -> bytes:
    keys = tuples_of_one_hash(size // 16)
    return _mapping(len(keys)) + b"".join(msgspec.msgpack.encode(key) + b"\xc0" for key in keys)


WORST: dict[str, Callable[[int], bytes]] = {
    "nothing at all": lambda size: _list(size) + b"\xc0" * size,
    "empty lists": lambda size: _list(size) + b"\x90" * size,
    "empty mappings": lambda size: _list(size) + b"\x80" * size,
    "one key": lambda size: _mapping(size // 3) + b"\xa1a\xc0" * (size // 3),
    "many keys": lambda size: _mapping(size // 6) + b"".join(b"\xa4%04x\xc0" % (i % 65_536) for i in range(size // 6)),
    "numbers for keys": lambda size: (
        _mapping(size // 6) + b"".join(b"\xce" + i.to_bytes(4, "big") + b"\xc0" for i in range(size // 6))
    ),
    "keys of one hash": _colliding,
    "lists in lists": lambda size: b"\x91" * size,
    "mappings in mappings": lambda size: b"\x81\xa1a" * (size // 3),
    "mappings in keys": lambda size: b"\x81\x91" * (size // 2),
    "claims": lambda size: _list(size) * (size // 5),
    "claims beside claims": lambda size: _list(2**32 - 1) + (_list(2**31) + b"\xc0") * (size // 6),
    "claims of keys": lambda size: _mapping(2**32 - 1) + b"\xa1a" * (size // 2),
    "a claim of text": lambda size: b"\xdb\xff\xff\xff\xff" + b"x" * size,
    "a claim of bytes": lambda size: b"\xc6\xff\xff\xff\xff" + b"x" * size,
    "a claim of an extension": lambda size: b"\xc9\xff\xff\xff\xff\x05" + b"x" * size,
    "text of which the last byte is none": lambda size: b"\xdb" + (size + 1).to_bytes(4, "big") + b"a" * size + b"\xff",
    "text that is wide because of its last character": lambda size: (
        b"\xdb" + (size + 4).to_bytes(4, "big") + b"a" * size + "\U0001f600".encode()
    ),
    "times": lambda size: _list(size // 6) + b"\xd6\xff\x00\x00\x00\x01" * (size // 6),
    "extensions": lambda size: _list(size // 3) + b"\xd4\x05\x01" * (size // 3),
    "as deep as it goes": lambda size: _list(size // 120) + (b"\x91" * 119 + b"\xc0") * (size // 120),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", WORST)
def test_a_hostile_payload(name: str, size: int) -> None:
    """A hostile payload is decoded or refused, and takes memory in proportion to its size."""
    payload = b"\x82\xa6branch\xa0\xa7details\x81\xa1a" + WORST[name](size)
    assert _peak(lambda: _decode(payload)) < GROWTH_MAX * len(payload)


def _decode(payload: bytes) -> object:
    try:
        return decode_event("BranchLogged", 1, payload, 1)
    except CannotDecode:
        return None


def _peak(work: Callable[[], object]) -> int:
    """Return the largest number of bytes in use during the work."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


HEADER = encode_line(Header(format="anabranch-export", version=1, readable=False))
EVENT = (
    b'{"line":"event","run":"r","position":1,"branch":"","stream_version":1,"event_id":"' + b"0" * 32 + b'",'
    b'"recorded_at":"%s","type":"RunCreated","schema_version":%s,"hash":"' + b"0" * 64 + b'","payload":"%s"}'
)
RUN = HEADER + b'{"line":"run","run":"r","carried_over":false}\n'
TIME = b"2026-01-02T12:30:15.123456Z"

WORST_LINES: dict[str, Callable[[int], bytes]] = {
    "digits": lambda size: HEADER + b'{"line":"end","runs":' + b"9" * size + b',"events":0}\n',
    "a fraction": lambda size: HEADER + b'{"line":"end","runs":0.' + b"3" * size + b',"events":0}\n',
    "an exponent": lambda size: HEADER + b'{"line":"end","runs":1e' + b"9" * size + b',"events":0}\n',
    "lists in lists": lambda size: HEADER + b'{"line":"end","runs":' + b"[" * size + b"\n",
    "objects in objects": lambda size: HEADER + b'{"a":' * (size // 5) + b"\n",
    "escapes": lambda size: HEADER + b'{"line":"run","run":"' + b"\\u0041" * (size // 6) + b'","carried_over":false}\n',
    "a name": lambda size: HEADER + b'{"line":"run","run":"' + b"A" * size + b'","carried_over":false}\n',
    "a member again and again": lambda size: (
        HEADER + b'{"line":"run",' + b'"run":"a",' * (size // 10) + b'"carried_over":false}\n'
    ),
    "unknown members": lambda size: HEADER + b'{"line":"run",' + b'"x":[],' * (size // 7) + b'"carried_over":false}\n',
    "base64": lambda size: RUN + EVENT % (TIME, b"1", b"A" * (size // 4 * 4)) + b"\n",
    "base64 with a mistake": lambda size: RUN + EVENT % (TIME, b"1", b"A" * (size // 4 * 4) + b"A") + b"\n",
    "a time": lambda size: RUN + EVENT % (TIME[:-1] + b"1" * size + b"Z", b"1", b"gA==") + b"\n",
    "a version": lambda size: RUN + EVENT % (TIME, b"1" + b"0" * size, b"gA==") + b"\n",
    "keys of one hash": lambda size: (
        RUN.replace(b"false", b"true", 1)
        + EVENT[:-1] % (TIME, b"1", base64.b64encode(_colliding(size)))
        + b',"event":{}}\n'
    ),
    "a header": lambda size: HEADER[:-2] + b',"x":"' + b"x" * size + b'"}\n',
    "no end of a line": lambda size: HEADER + b"x" * (20 * size),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", WORST_LINES)
def test_a_hostile_line_of_an_export(name: str, size: int) -> None:
    """A hostile line of an export is refused by its number, and takes memory in proportion to its size."""
    export = WORST_LINES[name](size)
    errors: list[ImportRefused] = []
    assert _peak(lambda: errors.extend(_refusals(export, size))) < 8 * len(export)
    line = export.count(b"\n", 0, -1) + 1
    kind = ExportCutShort if name == "base64" else MalformedLine  # that line is well formed
    assert [(type(error), error.line) for error in errors] == [(kind, line + (name == "base64"))]


def _refusals(export: bytes, size: int) -> Iterator[ImportRefused]:
    reader = ExportReader(io.BytesIO(export), size)
    try:
        for _, events in reader.runs():
            for line in events:
                stored_event(line, 1, 1)
    except ImportRefused as error:
        yield error
    except ValueError as error:
        yield MalformedLine(reader.line, str(error))
