"""Make, import, compare and forge exports for tests."""

import io
import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from msgspec import Struct, structs

from engine import Engine
from engine.codec import GENESIS_HASH, SCHEMA_VERSIONS, encode_canonical, link, payload_digest
from engine.events import Event
from engine.stored import StoredEvent
from engine.transfer import Imported
from engine.transfer.lines import (
    FORMAT,
    FORMAT_VERSION,
    End,
    Header,
    HeadLine,
    Line,
    RunEnd,
    RunLine,
    encode_line,
    event_line,
)

VIEWS = ("runs", "branches", "parameters", "step_logs", "removed_steps", "tasks", "task_attempts", "external_runs")


async def exported(engine: Engine, *run_ids: str, **options: Any) -> bytes:
    """Return the whole export as bytes, of every run unless some are named."""
    return b"".join([lines async for lines in engine.export_runs(run_ids or None, **options)])


async def imported(engine: Engine, export: bytes) -> Imported:
    return await engine.import_runs(io.BytesIO(export))


def documents(export: bytes) -> list[dict[str, Any]]:
    """Parse the lines of an export as plain JSON."""
    return [json.loads(line) for line in export.splitlines()]


def rows(database: Path) -> list[str]:
    """Dump the whole database as SQL statements."""
    with closing(sqlite3.connect(database)) as connection:
        return list(connection.iterdump())


async def assert_same_runs(source: Engine, target: Engine) -> None:
    """Assert that every run of the source has the same events and the same compiled run log in the target."""
    events = [structs.replace(each, position=0) async for each in source.events()]
    found = [structs.replace(each, position=0) async for each in target.events()]
    assert {each.hash for each in found} == {each.hash for each in events}
    for run in [each.run_id for each in await source.runs(limit=1000)]:
        of_source = [repr(each) for each in events if each.run_id == run]  # a NaN equals itself as text
        assert [repr(each) for each in found if each.run_id == run] == of_source
        logs = [await (await engine.run(run)).compile() for engine in (source, target)]
        assert repr(logs[0]) == repr(logs[1])


class Written(Struct, frozen=True):
    """An event whose payload may be any bytes; the schema version is the current one unless given."""

    branch: str
    event_type: str
    payload: bytes
    schema_version: int | None = None

    @classmethod
    def of(cls, event: Event) -> "Written":
        """Encode the event as the engine does."""
        return cls(event.branch, type(event).__name__, encode_canonical(event))


def forged(*events: Event | Written, run_id: str = "forged", carried_over: bool = False) -> bytes:
    """Make an export of one run from any events, valid or not, in which every hash is correct."""
    lines: list[Line] = [
        Header(format=FORMAT, version=FORMAT_VERSION, readable=False),
        RunLine(run=run_id, carried_over=carried_over),
    ]
    heads: dict[str, StoredEvent] = {}
    for position, event in enumerate(events, start=1):
        row = _row(run_id, heads.get(event.branch), event if isinstance(event, Written) else Written.of(event))
        heads[event.branch] = row
        lines.append(event_line(run_id, event.branch, position, row, readable=False))
    lines += [
        HeadLine(run=run_id, branch=branch, stream_version=row.stream_version, hash=row.hash.hex())
        for branch, row in heads.items()
    ]
    lines += [RunEnd(run=run_id, branches=len(heads), events=len(events)), End(runs=1, events=len(events))]
    return b"".join(map(encode_line, lines))


def _row(run_id: str, before: StoredEvent | None, event: Written) -> StoredEvent:
    version = 1 if before is None else before.stream_version + 1
    schema_version = SCHEMA_VERSIONS[event.event_type] if event.schema_version is None else event.schema_version
    header = version, event.event_type, schema_version, bytes(16), 0
    previous = GENESIS_HASH if before is None else before.hash
    hash_ = link(previous, run_id, event.branch, *header, payload_digest(event.payload))
    return StoredEvent(0, 0, *header, event.payload, None, hash_)


def joined(lines: Sequence[bytes]) -> bytes:
    """Join lines, each of which ends in a line feed, into the content of a file."""
    return b"".join(lines)
