"""Bytes that are damaged or made up: in the log, in exports, in everything else that is read from a file.

Each is either read, or refused by a typed error that says where it is. A failure names the seed, and
`Mutations.of(seed)` makes the same bytes again. The slow run makes a million of them.
"""

import contextlib
import io
import json
import random
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET, structs

from engine import Engine, open_engine
from engine.checkpoint import Checkpoint, Signature, check_signature
from engine.codec import SCHEMA_VERSIONS, decode_event, encode_canonical
from engine.errors import AnabranchError, CannotDecode, EventOutOfPlace, InvalidInput, ReadFailed, SigningUnavailable
from engine.events import Event
from engine.reports.evidence import check_evidence, export_evidence
from engine.reports.evidence_differences import differences
from engine.transfer import ImportedAttemptExists, ImportRefused
from engine.transfer.lines import EventLine, Header, decode_line, encode_line, stored_event
from engine.transfer.reading import ExportReader
from tests.exports import Written, exported, forged, imported
from tests.faults import json_text, message_pack
from tests.faults.mutations import Mutations
from tests.faults.rich_runs import record_rich_run
from tests.golden.samples import golden_events

EXPORT = Path(__file__).parents[1] / "golden" / "export_v1.jsonl"
MIB = 2**20


def many(quick: int, slow: int) -> pytest.MarkDecorator:
    """Run a test on `quick` mutations by default, and on `slow` more in the slow run."""
    return pytest.mark.parametrize(
        "seeds",
        [
            pytest.param(range(quick), id=f"{quick:,}"),
            pytest.param(range(quick, quick + slow), id=f"{slow:,}", marks=pytest.mark.slow),
        ],
    )


@contextlib.contextmanager
def naming(seed: int) -> Iterator[None]:
    """Add the seed to any error."""
    try:
        yield
    except Exception as error:
        error.add_note(f"seed {seed}")
        raise


@cache
def golden_payloads() -> tuple[list[dict[str, Any]], Mutations]:
    golden = golden_events()
    return golden, Mutations(
        [message_pack.sample(bytes.fromhex(each["payload"])) for each in golden], message_pack.HOSTILE
    )


def _decoded(event_type: str, version: int, payload: bytes, position: int) -> tuple[Event | None, int | None]:
    """Return the event and its position, or None and the position that the error names."""
    try:
        return decode_event(event_type, version, payload, position), position
    except CannotDecode as error:
        return None, error.position


@many(6000, 857_000)
def test_a_mutated_payload(seeds: Sequence[int]) -> None:
    """A mutated payload is an event that survives encoding and decoding, or raises CannotDecode at its position."""
    golden, mutations = golden_payloads()
    read = 0
    for seed in seeds:
        index, payload = mutations.of(seed)
        event_type, version = golden[index]["type"], golden[index]["version"]
        with naming(seed):
            event, position = _decoded(event_type, version, payload, seed)
            assert position == seed
            if event is not None:
                encoded = encode_canonical(event)
                assert encode_canonical(decode_event(event_type, SCHEMA_VERSIONS[event_type], encoded)) == encoded
                read += 1
    assert len(seeds) // 20 < read < len(seeds) // 2


@cache
def golden_lines() -> tuple[list[list[bytes]], list[Mutations]]:
    """Return the golden export's lines, readable and compact, and mutations of both."""
    readable = EXPORT.read_bytes().splitlines(keepends=True)
    compact = [encode_line(_compact(decode_line(line))) for line in readable]
    exports = [readable, compact]
    return exports, [Mutations([json_text.sample(line) for line in lines], json_text.HOSTILE) for lines in exports]


def _compact(line: Any) -> Any:
    match line:
        case EventLine():
            return structs.replace(line, event=UNSET)
        case Header():
            return structs.replace(line, readable=False)
        case _:
            return line


@many(2000, 80_000)
def test_a_mutated_line(seeds: Sequence[int]) -> None:
    """A mutated line raises ValueError unless an export could have written it, byte for byte."""
    _, mutations = golden_lines()
    for seed in seeds:
        _, encoded = mutations[seed % 2].of(seed)
        with naming(seed), contextlib.suppress(ValueError):
            line = decode_line(encoded)
            assert encode_line(line) == encoded
            if isinstance(line, EventLine):
                stored_event(line, 1, 1)


@many(500, 15_000)
def test_an_export_with_a_mutated_line(seeds: Sequence[int]) -> None:
    """An export with a mutated line is read to its end, or refused at that line or a later one that contradicts it."""
    exports, mutations = golden_lines()
    for seed in seeds:
        index, encoded = mutations[seed % 2].of(seed)
        lines = exports[seed % 2]
        file = io.BytesIO(b"".join([*lines[:index], encoded, *lines[index + 1 :]]))
        with naming(seed):
            assert _line_refused(ExportReader(file, MIB)) > index


def _line_refused(reader: ExportReader) -> int:
    """Return the number of the line at which an export is refused, or the last one that the reader reached."""
    try:
        for _, events in reader.runs():
            list(events)
    except ImportRefused as error:
        return error.line
    return reader.line


async def _written(path: Path) -> list[Written]:
    """Return the events of a run that holds some of everything."""
    async with open_engine(path, durability="relaxed") as engine:
        await record_rich_run(engine, "rich")
        lines = [decode_line(line) for line in (await exported(engine)).splitlines(keepends=True)]
    return [Written(line.branch, line.type, line.payload or b"") for line in lines if isinstance(line, EventLine)]


async def _takes_nothing_or_all(engine: Engine, export: bytes, run_id: str) -> bool:
    """Return whether an export is imported; if it is, every read of the run succeeds, and it is exported as it came."""
    try:
        await imported(engine, export)
    except (ImportRefused, ImportedAttemptExists, CannotDecode) as error:
        return _refused(error)
    run = await engine.run(run_id)
    await run.compile()
    await run.compile(at=1)
    assert (await engine.verify(run_id)).problems == []
    assert await engine.verify_views() == []
    assert await exported(engine, run_id, readable=False) == export
    await exported(engine, run_id)
    await engine.delete_run(run_id, "the next one has the same id")
    return True


def _refused(error: AnabranchError) -> bool:
    assert "line " in str(error)
    return False


@many(300, 8_000)
async def test_a_forged_history(database: Path, tmp_path: Path, seeds: Sequence[int]) -> None:
    """A history with a mutated payload and recomputed hashes is refused at a line, or imported like any other."""
    written = await _written(tmp_path / "source.db")
    mutations = Mutations([message_pack.sample(each.payload) for each in written], message_pack.HOSTILE)
    taken = 0
    async with open_engine(database, durability="relaxed") as engine:
        for seed in seeds:
            index, payload = mutations.of(seed)
            changed = structs.replace(written[index], payload=payload)
            with naming(seed):
                export = forged(*written[:index], changed, *written[index + 1 :])
                taken += await _takes_nothing_or_all(engine, export, "forged")
                assert len(await engine.runs()) == 0
    assert len(seeds) // 100 < taken < len(seeds) // 2


RUNS = 40


class Rows:
    """The payloads of a store of many runs, to change one of each run at a time."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        rows = connection.execute("SELECT position, payload, root_id FROM events ORDER BY position").fetchall()
        self.payloads = {position: payload for position, payload, _ in rows}
        self._runs: dict[int, list[int]] = {}
        for position, _, root_id in rows:
            self._runs.setdefault(root_id, []).append(position)
        self._mutations = Mutations(
            [message_pack.sample(payload) for payload in self.payloads.values()], message_pack.HOSTILE
        )
        self._places = {position: index for index, position in enumerate(self.payloads)}

    def change(self, seeds: Sequence[int]) -> dict[int, int]:
        """Mutate one event in each of as many runs as there are seeds; return the seeds by position."""
        changed = {}
        for seed, positions in zip(seeds, self._runs.values(), strict=False):
            chance = random.Random(seed)
            position = chance.choice(positions)
            self._put(position, self._mutations.mutated(self._places[position], chance))
            changed[position] = seed
        return changed

    def restore(self, positions: Iterable[int]) -> None:
        for position in positions:
            self._put(position, self.payloads[position])

    def _put(self, position: int, payload: bytes) -> None:
        self.connection.execute("UPDATE events SET payload = ? WHERE position = ?", (payload, position))


async def _hold(engine: Engine, changed: Mapping[int, int]) -> None:
    """Every changed row is read or refused at its position, and verification names each."""
    for position, seed in changed.items():
        with naming(seed):
            assert await _read_or_refused(engine, position) == position
    problems = (await engine.verify()).problems
    assert {problem.position for problem in problems} == changed.keys()
    for reading in (engine.rebuild, engine.verify_views, lambda: exported(engine), lambda: read_all_as_of(engine)):
        with contextlib.suppress(CannotDecode, EventOutOfPlace, ReadFailed):
            await reading()


async def _read_or_refused(engine: Engine, position: int) -> int | None:
    """Return the position of the event that is read there, or the one that the error names."""
    try:
        [event] = [each async for each in engine.events(after=position - 1, until=position)]
    except CannotDecode as error:
        return error.position
    return event.position


async def read_all_as_of(engine: Engine) -> None:
    for info in await engine.runs(limit=1000):
        run = await engine.run(info.run_id)
        await run.compile(at=(await run.head()).stream_version - 1 or 1)


@many(160, 17_000)
async def test_mutated_payloads_in_the_file(database: Path, seeds: Sequence[int]) -> None:
    """Reads return or refuse a mutated payload at its position, verification names it, all else raises typed errors."""
    async with open_engine(database, durability="relaxed") as engine:
        for number in range(RUNS):
            await record_rich_run(engine, f"r{number}")
        with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            rows = Rows(connection)
            for first in range(0, len(seeds), RUNS):
                changed = rows.change(seeds[first : first + RUNS])
                await _hold(engine, changed)
                rows.restore(changed)
        await engine.rebuild()
        assert await engine.verify_views() == []
        assert (await engine.verify()).problems == []


@many(500, 20_000)
async def test_a_mutated_checkpoint(engine: Engine, seeds: Sequence[int]) -> None:
    """A mutated checkpoint is refused, does not hold, or has the same position, root and runs."""
    await (await record_rich_run(engine, "r")).finalize()
    made = await engine.checkpoint()
    signed = structs.replace(made, signature=Signature(public_key="ab" * 32, value="cd" * 64))
    mutations = Mutations([json_text.sample(each.to_json().encode()) for each in (made, signed)], json_text.HOSTILE)
    for seed in seeds:
        _, text = mutations.of(seed)
        with naming(seed), contextlib.suppress(InvalidInput, SigningUnavailable):
            found = Checkpoint.from_json(text)
            if found.signature is not None:
                check_signature(found)
            if not (await engine.verify(since=found)).problems:
                assert (found.position, found.root, found.runs) == (made.position, made.root, made.runs)


@many(100, 3000)
async def test_mutated_evidence(engine: Engine, tmp_path: Path, seeds: Sequence[int]) -> None:
    """A mutated bundle is refused, does not hold, or differs in nothing that it is evidence of."""
    await record_rich_run(engine, "r")
    await export_evidence(engine, "r", tmp_path)
    bundle = tmp_path / "bundle.json"
    whole = bundle.read_bytes()
    mutations = Mutations([json_text.sample(whole)], json_text.HOSTILE)
    for seed in seeds:
        bundle.write_bytes(mutations.of(seed)[1])
        with naming(seed), contextlib.suppress(InvalidInput):
            if (await check_evidence(engine, "r", tmp_path)).holds:
                assert not list(differences(json.loads(bundle.read_bytes()), json.loads(whole), erased=False))
