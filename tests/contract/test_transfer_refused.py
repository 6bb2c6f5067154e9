"""Invalid export files: an import refuses each with an error that names the line, and records nothing."""

import base64
import io
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typing_extensions import override

from engine import Engine, open_engine
from engine.codec import encode_canonical, payload_digest
from engine.errors import AnabranchError, CannotDecode, EventTooLarge, NewerEventVersion, UnknownEventType
from engine.events import (
    AttemptCreated,
    AttemptUpdated,
    BranchForked,
    Event,
    ExternalRunRegistered,
    ExternalRunUpdated,
    ParametersReduced,
    ParametersSet,
    RunConfigured,
    RunCreated,
    RunForked,
    SourceCarriedOver,
    StepLogged,
    StepStatusChanged,
)
from engine.model import AttemptChanges, AttemptLog, CarriedStep, Head, Parameter, Source, StepLog
from engine.transfer import (
    ExportCutShort,
    HistoryBroken,
    ImportedAttemptExists,
    ImportRefused,
    LineOutOfPlace,
    MalformedLine,
    NewerExport,
    NotAnExport,
    SourceMissing,
)
from tests.exports import Written, exported, forged, imported, rows


@pytest.fixture
async def lines(tmp_path: Path) -> list[bytes]:
    """The lines of an export of two small runs, the second of them forked from the first."""
    async with open_engine(tmp_path / "source.db", durability="relaxed") as engine:
        run = await engine.create_run("r1", parameters={"lr": 0.1})
        branch = await run.fork("fit")
        async with branch.attempt("train"):
            await branch.set_parameters({"loss": 0.5})
        await run.reduce([branch])
        await engine.fork_run("r1", run_id="r2")
        return (await exported(engine)).splitlines(keepends=True)


@pytest.fixture
async def target(tmp_path: Path) -> AsyncIterator[Engine]:
    """A store with a run of its own."""
    async with open_engine(tmp_path / "target.db", durability="relaxed") as engine:
        await (await engine.create_run("own")).set_parameters({"x": 1})
        yield engine


@contextmanager
def unchanged(engine: Engine) -> Iterator[None]:
    """Assert that the block leaves every table of the store unchanged."""
    before = rows(engine.path)
    yield
    assert rows(engine.path) == before


async def refusal(engine: Engine, export: bytes) -> ImportRefused:
    """Import an export that is refused, check that the message names the line, and return the error."""
    with pytest.raises(ImportRefused) as error:
        await imported(engine, export)
    assert f"line {error.value.line}: " in str(error.value)
    return error.value


async def test_a_file_cut_after_any_line(lines: list[bytes], target: Engine) -> None:
    """An export cut after any line raises ExportCutShort at the first missing line."""
    with unchanged(target):
        for count in range(1, len(lines)):
            error = await refusal(target, b"".join(lines[:count]))
            assert (type(error), error.line) == (ExportCutShort, count + 1)


async def test_a_file_cut_before_any_line_feed(lines: list[bytes], target: Engine) -> None:
    """An export whose last line lacks only its line feed raises ExportCutShort at that line."""
    with unchanged(target):
        for number, line in enumerate(lines[1:], start=2):
            error = await refusal(target, b"".join(lines[: number - 1]) + line[:-1])
            assert (type(error), error.line) == (ExportCutShort, number)


async def test_any_two_lines_swapped(lines: list[bytes], target: Engine) -> None:
    """An export with any two lines swapped is refused at one of the lines concerned."""
    with unchanged(target):
        for first, second in combinations(range(len(lines)), 2):
            swapped = list(lines)
            swapped[first], swapped[second] = lines[second], lines[first]
            error = await refusal(target, b"".join(swapped))
            assert isinstance(error, NotAnExport | LineOutOfPlace)
            assert first < error.line <= second + 1


async def test_any_line_left_out_or_twice(lines: list[bytes], target: Engine) -> None:
    """An export with any line missing or repeated is refused."""
    with unchanged(target):
        for place, line in enumerate(lines):
            for export in (lines[:place] + lines[place + 1 :], [*lines[:place], line, *lines[place:]]):
                assert isinstance(
                    await refusal(target, b"".join(export)), NotAnExport | LineOutOfPlace | ExportCutShort
                )


@pytest.mark.parametrize("count", ["branches", "events"])
async def test_a_run_that_ends_with_other_counts(lines: list[bytes], target: Engine, count: str) -> None:
    """A run whose last line states another number of branches or events than it holds is refused at that line."""
    place = next(place for place, line in enumerate(lines) if json.loads(line)["line"] == "run end")
    stated = json.loads(lines[place])
    lines[place] = json.dumps({**stated, count: stated[count] + 1}, separators=(",", ":")).encode() + b"\n"
    with unchanged(target):
        error = await refusal(target, b"".join(lines))
    assert (type(error), error.line) == (LineOutOfPlace, place + 1)
    assert "with 2 branches and" in str(error)


async def test_a_run_twice_in_one_file(lines: list[bytes], target: Engine) -> None:
    """An export that holds a run twice is refused."""
    run = lines[1:-5]
    export = b"".join([lines[0], *run, *run, *lines[-5:]])

    with unchanged(target):
        assert "occurs twice in the file" in str(await refusal(target, export))


async def flip(engine: Engine, export: bytes, place: int, bit: int) -> None:
    edited = bytearray(export)
    edited[place] ^= 1 << bit
    with pytest.raises(AnabranchError) as error:
        await imported(engine, bytes(edited))
    assert isinstance(error.value, ImportRefused | CannotDecode)
    assert "line " in str(error.value)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
async def test_a_bit_flipped_anywhere(lines: list[bytes], target: Engine, place: float, bit: int) -> None:
    """An export with any bit flipped is refused with an error that names the line."""
    export = b"".join(lines)
    with unchanged(target):
        await flip(target, export, int(place * len(export)), bit)


@pytest.mark.slow
async def test_a_bit_of_every_byte_flipped(lines: list[bytes], target: Engine) -> None:
    """An export with one bit flipped in any byte, or any bit in one event's line, is refused."""
    export = b"".join(lines)
    event = next(line for line in lines if line.startswith(b'{"line":"event"'))
    begin = export.index(event)
    with unchanged(target):
        for place in range(len(export)):
            await flip(target, export, place, place % 8)
        for place in range(begin, begin + len(event)):
            for bit in set(range(8)) - {place % 8}:
                await flip(target, export, place, bit)


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        (b"", NotAnExport),
        (b"\n", NotAnExport),
        (b"SQLite format 3\x00", NotAnExport),
        (b"\xff\xfe\n", NotAnExport),
        (b"null\n", NotAnExport),
        (b"[" * 100_000, NotAnExport),
        (b'{"line":"header","format":"other","version":1,"readable":true}\n', NotAnExport),
        (b'{"line":"header","format":"anabranch-export","version":0,"readable":true}\n', NotAnExport),
        (b'{"line":"header","format":"anabranch-export","version":2,"more":1}\n', NewerExport),
        (b'{"line":"header","format":"anabranch-export","version":1,"readable":1}\n', MalformedLine),
        (b'{"line": "header","format":"anabranch-export","version":1,"readable":true}\n', MalformedLine),
    ],
)
async def test_another_header(target: Engine, header: bytes, kind: type[ImportRefused]) -> None:
    """A header of another format, a newer version or malformed content is refused, each with its own error."""
    with unchanged(target):
        error = await refusal(target, header)
    assert (type(error), error.line) == (kind, 1)


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"{}\n",
        b"not json\n",
        b"\xc3\x28\n",
        b'{"line":"event"}\n',
        b'{"line":"run","run":"r9","carried_over":false,"more":1}\n',
        b'{"line":"run","carried_over":false,"run":"r9"}\n',
        b'{"line":"run","run":"r\\u0039","carried_over":false}\n',
        b'{"line":"run","run":"r9","run":"r9","carried_over":false}\n',
        b'{"line":"run","run":"r9","carried_over":false}\r\n',
        b'{"line":"run","run":"a\\tb","carried_over":false}\n',
        b'{"line":"run","run":"","carried_over":false}\n',
        b'{"line":"run","run":"' + b"r" * 513 + b'","carried_over":false}\n',
        b'{"line":"end","runs":1e400,"events":0}\n',
        b'{"line":"end","runs":' + b"[" * 100_000 + b"\n",
        b'{"line":"run","run":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}\n",
        b"x" * 10_000_000,
    ],
    ids=lambda line: line[:24],
)
async def test_a_line_that_no_export_writes(lines: list[bytes], target: Engine, line: bytes) -> None:
    """A line that is not exactly as an export writes it raises MalformedLine with its number."""
    with unchanged(target):
        error = await refusal(target, lines[0] + line)
    assert (type(error), error.line) == (MalformedLine, 2)


async def test_a_file_that_cannot_be_read_on(lines: list[bytes], target: Engine) -> None:
    """An error raised by the caller's file is passed on, and nothing is imported."""

    class Broken(io.BytesIO):
        @override
        def readline(self, size: int | None = -1, /) -> bytes:
            if self.tell() > len(lines[0]):
                raise ValueError("the archive ends here")
            return super().readline(size)

    before = rows(target.path)
    with pytest.raises(ValueError, match=r"^the archive ends here$"):
        await target.import_runs(Broken(b"".join(lines)))
    assert rows(target.path) == before


async def test_a_line_is_read_only_as_far_as_a_line_may_be_long(lines: list[bytes], tmp_path: Path) -> None:
    """A line longer than the limit is refused without being read to its end."""
    file = io.BytesIO(lines[0] + b"x" * 5_000_000)
    async with open_engine(tmp_path / "small.db", event_bytes_max=1000) as engine:
        with pytest.raises(MalformedLine, match="longer than 73536 bytes"):
            await engine.import_runs(file)
    assert file.tell() < 100_000


async def test_an_event_that_is_larger_than_the_store_accepts(lines: list[bytes], tmp_path: Path) -> None:
    """An event over the importing engine's size limit raises EventTooLarge."""
    async with open_engine(tmp_path / "source.db") as engine:
        await engine.create_run("large", parameters={"x": "y" * 2000})
        export = await exported(engine, "large")
    async with open_engine(tmp_path / "small.db", event_bytes_max=1000) as engine:
        with pytest.raises(EventTooLarge, match=r"^line 4: ParametersSet is 20.. bytes"):
            await imported(engine, export)
        assert await engine.last_position() == 0


def edited(lines: list[bytes], number: int, **changes: object) -> bytes:
    """Return the export with some fields of a line changed, in the format of an export."""
    line = json.loads(lines[number - 1]) | changes
    text = json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
    return b"".join([*lines[: number - 1], text, *lines[number:]])


@pytest.mark.parametrize(
    "changes",
    [
        {"payload": "gaZicmFuY2ig"},
        {"payload": "gaZicmFuY2ih"},
        {"payload": None},
        {"hash": "0" * 64},
        {"hash": "AB" * 32},
        {"event_id": "0" * 32},
        {"event_id": "0"},
        {"recorded_at": "2026-01-01T00:00:00.000000Z"},
        {"recorded_at": "2026-01-01T00:00:00Z"},
        {"recorded_at": "0001-01-01T00:00:00.000000+01:00"},
        {"recorded_at": "now"},
        {"branch": "other"},
        {"branch": "a\nb"},
        {"run": "own"},
        {"position": 10**30},
        {"stream_version": -1},
        {"schema_version": 0},
        {"schema_version": -1},
        {"type": "ParametersReduced"},
        {"event": {"branch": ""}},
        {"event": {"values": {"lr": {"value": 0.2}}, "branch": ""}},
        {"digest": "0" * 64},
    ],
    ids=repr,
)
async def test_an_event_that_was_edited(lines: list[bytes], target: Engine, changes: dict[str, object]) -> None:
    """An event line with any field changed, its readable copy included, is refused."""
    assert json.loads(lines[3])["type"] == "ParametersSet"
    with unchanged(target), pytest.raises((ImportRefused, CannotDecode), match="line 4: "):
        await imported(target, edited(lines, 4, **changes))


async def test_the_same_time_in_another_form(lines: list[bytes], target: Engine) -> None:
    """A time that is not written as an export writes it raises MalformedLine, although it is the hashed time."""
    recorded_at = json.loads(lines[3])["recorded_at"]
    with unchanged(target):
        error = await refusal(target, edited(lines, 4, recorded_at=recorded_at.replace("Z", "+00:00")))
    assert (type(error), error.line) == (MalformedLine, 4)


async def test_an_event_of_an_unknown_type(lines: list[bytes], target: Engine) -> None:
    """An event of an unknown type raises UnknownEventType."""
    with unchanged(target), pytest.raises(UnknownEventType, match="'FutureEvent' version 2: line 4: no such event"):
        await imported(target, edited(lines, 4, type="FutureEvent"))


async def test_an_event_of_a_newer_version(lines: list[bytes], target: Engine) -> None:
    """An event of a newer schema version raises NewerEventVersion, which names the newest readable version."""
    with unchanged(target), pytest.raises(NewerEventVersion, match=r"version 99: line 4: .* up to version 2"):
        await imported(target, edited(lines, 4, schema_version=99))


@pytest.mark.parametrize("changes", [{"runs": 1}, {"events": 1}])
async def test_an_end_that_counts_otherwise(lines: list[bytes], target: Engine, changes: dict[str, object]) -> None:
    """An end line with wrong totals is refused."""
    with unchanged(target):
        error = await refusal(target, edited(lines, len(lines), **changes))
    assert (type(error), error.line) == (LineOutOfPlace, len(lines))


CREATED = RunCreated(branch="")
STEP = StepLogged(branch="", step="train", name="train")
HEAD = Head("fit", 1, bytes(32))


def attempt(step: str = "train", index: int = 1) -> AttemptCreated:
    return AttemptCreated(branch="", step=step, attempt_id="a1", attempt_index=index)


@pytest.mark.parametrize(
    ("events", "problem"),
    [
        ([ParametersSet(branch="", values={})], "link: an event of type ParametersSet cannot be version 1"),
        ([CREATED, CREATED], "link: an event of type RunCreated cannot be version 2"),
        ([CREATED, ParametersSet(branch="fit", values={})], "link: an event of type ParametersSet cannot be version 1"),
        (
            [CREATED, BranchForked(branch="fit", parent="gone", parent_version=1, parent_hash=bytes(32))],
            "link: it names",
        ),
        ([CREATED, BranchForked(branch="fit", parent="", parent_version=1, parent_hash=bytes(32))], "another hash"),
        (
            [CREATED, BranchForked(branch="fit", parent="", parent_version=2**63 - 1, parent_hash=bytes(32))],
            "link: it names",
        ),
        (
            [CREATED, ParametersReduced(branch="", children=[HEAD], rules={}, values={}, sources={})],
            "link: it names branch 'fit'",
        ),
        ([CREATED, StepStatusChanged(branch="", step="x", status="RUNNING")], "link: it refers to step 'x'"),
        ([CREATED, attempt("x")], "link: it refers to step 'x'"),
        (
            [CREATED, STEP, AttemptUpdated(branch="", step="train", attempt_id="a9", changes=AttemptChanges())],
            "link: it refers to attempt 'a9'",
        ),
        (
            [CREATED, STEP, attempt(), AttemptUpdated(branch="", step="x", attempt_id="a1", changes=AttemptChanges())],
            "link: it refers to attempt 'a1'",
        ),
        (
            [CREATED, ExternalRunUpdated(branch="", task_id="x", status="DONE")],
            "link: it refers to external run of task 'x'",
        ),
    ],
)
async def test_a_forged_history_with_every_hash_right(target: Engine, events: list[Event], problem: str) -> None:
    """A forged history with correct hashes but broken links or references raises HistoryBroken."""
    with unchanged(target):
        error = await refusal(target, forged(*events))
    assert isinstance(error, HistoryBroken)
    assert problem in error.reason


async def test_a_forged_event_of_the_whole_run_in_a_branch(target: Engine) -> None:
    """An event that only a root branch can hold raises HistoryBroken if it is in another branch."""
    root = json.loads(forged(CREATED).splitlines()[2])["hash"]
    child = BranchForked(branch="fit", parent="", parent_version=1, parent_hash=bytes.fromhex(root))
    with unchanged(target):
        error = await refusal(target, forged(CREATED, child, RunConfigured(branch="fit", config={"a": 1})))
    assert (type(error), error.line) == (HistoryBroken, 5)


@pytest.mark.parametrize(
    "events",
    [
        [BranchForked(branch="fit", parent="", parent_version=1, parent_hash=bytes(32))],
        [BranchForked(branch="fit", parent="", parent_version=1, parent_hash=bytes(32)), CREATED],
    ],
    ids=["without a root", "before its root"],
)
async def test_a_forged_run_that_does_not_begin_with_its_root(target: Engine, events: list[Event]) -> None:
    """A run whose first event is not of its root branch raises LineOutOfPlace."""
    with unchanged(target):
        error = await refusal(target, forged(*events))
    assert (type(error), error.line) == (LineOutOfPlace, 3)


async def test_a_forged_reduction(target: Engine) -> None:
    """A reduction whose values do not follow from its children's events raises HistoryBroken."""
    root = json.loads(forged(CREATED).splitlines()[2])["hash"]
    child = BranchForked(branch="fit", parent="", parent_version=1, parent_hash=bytes.fromhex(root))
    written = ParametersSet(branch="fit", values={"loss": Parameter(1)})
    tip = json.loads(forged(CREATED, child, written).splitlines()[4])["hash"]
    reduced = ParametersReduced(
        branch="",
        children=[Head("fit", 2, bytes.fromhex(tip))],
        rules={"loss": "last"},
        values={"loss": Parameter(2)},
        sources={"loss": [Source("fit", 2)]},
    )
    with unchanged(target):
        error = await refusal(target, forged(CREATED, child, written, reduced))
    assert isinstance(error, HistoryBroken)
    assert (error.problem, error.line) == ("reduction", 6)


async def test_a_forged_erasure(target: Engine) -> None:
    """A replaced payload that is marked as erased, without a recorded erasure, raises HistoryBroken."""
    written = forged(CREATED, ParametersSet(branch="", values={"x": Parameter(1)})).splitlines(keepends=True)
    line = json.loads(written[3])
    digest = payload_digest(base64.b64decode(line["payload"])).hex()
    payload = base64.b64encode(encode_canonical(ParametersSet(branch="", values={"x": Parameter(2)}))).decode()

    with unchanged(target):
        error = await refusal(target, edited(written, 4, payload=payload, digest=digest))
    assert isinstance(error, HistoryBroken)
    assert error.reason == "payload: its payload was erased, and no event records the erasure"


async def test_a_forged_source(target: Engine) -> None:
    """A run with a forged source hash raises SourceMissing; a false `carried_over` mark raises HistoryBroken."""
    event = RunForked(branch="", source_run_id="own", source_branch="", source_version=1, source_hash=bytes(32))
    with unchanged(target):
        assert isinstance(await refusal(target, forged(event)), SourceMissing)
        assert isinstance(await refusal(target, forged(event, carried_over=True)), HistoryBroken)
        assert isinstance(await refusal(target, forged(CREATED, carried_over=True)), HistoryBroken)
        carried = SourceCarriedOver(branch="", values={})
        assert isinstance(await refusal(target, forged(event, carried)), SourceMissing)


async def test_an_attempt_twice(target: Engine) -> None:
    """A run that uses an attempt id twice raises ImportedAttemptExists."""
    with unchanged(target), pytest.raises(ImportedAttemptExists, match=r"^line 6: attempt 'a1'"):
        await imported(target, forged(CREATED, STEP, attempt(), attempt(index=2)))


def carrying(*attempt_ids: str) -> bytes:
    """An export of a run to which attempts with these ids were carried over."""
    forked = RunForked(branch="", source_run_id="gone", source_branch="", source_version=1, source_hash=bytes(32))
    when = datetime(2026, 1, 1, tzinfo=UTC)
    attempts = [
        AttemptLog(step="train", attempt_id=each, attempt_index=index, status="FAILED", created_at=when)
        for index, each in enumerate(attempt_ids, start=1)
    ]
    log = StepLog(step="train", name="train", status="FAILED", attempts=attempts)
    steps = [CarriedStep(place=0, log=log)]
    return forged(forked, SourceCarriedOver(branch="", values={}, steps=steps), carried_over=True)


@pytest.mark.parametrize("ids", [("a1", "own"), ("a1", "a1")], ids=["of another run", "twice"])
async def test_an_attempt_that_is_carried_over_and_is_there(target: Engine, ids: tuple[str, str]) -> None:
    """A carried-over attempt whose id is taken, by another run or in the same run, raises ImportedAttemptExists."""
    await (await target.run("own")).start_attempt("x", attempt_id="own")
    with unchanged(target), pytest.raises(ImportedAttemptExists, match=rf"attempt '{ids[1]}'"):
        await imported(target, carrying(*ids))
    await imported(target, carrying("a1", "a2"))


async def test_two_attempts_of_one_number(target: Engine) -> None:
    """Two attempts of one step with the same index raise HistoryBroken."""
    other = AttemptCreated(branch="", step="train", attempt_id="a2", attempt_index=1)
    with unchanged(target):
        error = await refusal(target, forged(CREATED, STEP, attempt(), other))
    assert isinstance(error, HistoryBroken)
    assert "the views cannot hold" in error.reason


@pytest.mark.parametrize(
    "event",
    [
        ParametersSet(branch="", values={"a\nb": Parameter(1)}),
        StepLogged(branch="", step="", name=""),
        AttemptCreated(branch="", step="train", attempt_id="\x1b[2J", attempt_index=1),
        ExternalRunRegistered(branch="", task_id="x" * 513, operator_type="HPC", status="CREATED"),
        SourceCarriedOver(
            branch="", values={}, hidden=[CarriedStep(place=1, log=StepLog(step="\u202e", name="", status=""))]
        ),
    ],
    ids=lambda event: type(event).__name__,
)
async def test_a_name_that_could_not_be_given(target: Engine, event: Event) -> None:
    """An event with an invalid name raises MalformedLine."""
    with unchanged(target):
        error = await refusal(target, forged(CREATED, STEP, event))
    assert (type(error), error.line) == (MalformedLine, 5)


async def test_a_branch_name_that_could_not_be_given(target: Engine) -> None:
    """An event that opens a branch with an invalid name raises MalformedLine."""
    root = json.loads(forged(CREATED).splitlines()[2])["hash"]
    opened = BranchForked(branch="a\nb", parent="", parent_version=1, parent_hash=bytes.fromhex(root))
    with unchanged(target):
        error = await refusal(target, forged(CREATED, opened))
    assert (type(error), error.line) == (MalformedLine, 4)


@pytest.mark.parametrize("schema_version", [0, -1])
async def test_a_schema_version_that_never_was(target: Engine, schema_version: int) -> None:
    """An event of a schema version below 1 raises MalformedLine, although its hash is right."""
    event = Written("", "ParametersSet", encode_canonical(ParametersSet(branch="", values={})), schema_version)
    with unchanged(target):
        error = await refusal(target, forged(CREATED, event))
    assert (type(error), error.line) == (MalformedLine, 4)


@pytest.mark.parametrize("readable", [False, True])
async def test_events_that_are_readable_against_the_header(engine: Engine, target: Engine, readable: bool) -> None:  # noqa: FBT001 - pytest passes it
    """Events with a readable copy raise MalformedLine if the header states that there is none, and the reverse."""
    await engine.create_run("r1")
    lines = (await exported(engine, readable=readable)).splitlines(keepends=True)
    with unchanged(target):
        error = await refusal(target, edited(lines, 1, readable=not readable))
    assert (type(error), error.line) == (MalformedLine, 3)


@pytest.mark.parametrize(
    "payload",
    [
        b"\x82\xa6branch\xa0\xa6values\x80",  # fields in another order
        b"\x83\xa6values\x80\xa6values\x80\xa6branch\xa0",  # a field twice
        b"\x82\xa6values\x81\xa1x\x82\xa5value\x01\xa4kind\xa4json\xa6branch\xa0",  # a default spelled out
        b"\x82\xa6values\x81\xa1x\x82\xa5value\x01\xa2\xff\xff\xc0\xa6branch\xa0",  # a field name that is not UTF-8
        b"\x82\xa6values\x81\xa1x\x81\xa5value\xcc\x01\xa6branch\xa0",  # a number longer than it needs
        b"\x82\xa6values\x81\xa1x\x81\xa5value\xca\x3f\x80\x00\x00\xa6branch\xa0",  # a float of 32 bits
    ],
)
async def test_a_payload_that_says_the_same_in_other_bytes(target: Engine, payload: bytes) -> None:
    """A payload that is not in canonical encoding raises MalformedLine."""
    with unchanged(target):
        error = await refusal(target, forged(CREATED, Written("", "ParametersSet", payload)))
    assert (type(error), error.line) == (MalformedLine, 4)


async def test_a_good_run_before_a_bad_one_is_not_taken_in(lines: list[bytes], target: Engine) -> None:
    """A valid run before an invalid one is not imported; the corrected export then is."""
    last = len(lines) - 3
    assert json.loads(lines[last - 1])["type"] == "RunForked"
    with unchanged(target):
        await refusal(target, edited(lines, last, hash="0" * 64))

    await imported(target, b"".join(lines))
    assert await exported(target, "r1", "r2") == b"".join(lines)
    assert await target.verify_views() == []
    assert (await target.verify()).problems == []
