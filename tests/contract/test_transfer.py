"""Transfer of runs from one store to another by export and import."""

import asyncio
import base64
import gc
import io
import sqlite3
import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from typing_extensions import override

from engine import Engine, open_engine
from engine.errors import RunNotFound
from engine.transfer import DifferentRunExists, ExportOvertaken, ImportedAttemptExists, SourceMissing
from tests.exports import VIEWS, assert_same_runs, documents, exported, imported, rows
from tests.golden.make_database import fill


@pytest.fixture
async def source(engine: Engine) -> Engine:
    """A store with events of most types in three runs, one of them forked from a branch of another."""
    await fill(engine)
    return engine


@pytest.fixture
async def target(tmp_path: Path) -> AsyncIterator[Engine]:
    async with open_engine(tmp_path / "target.db", durability="relaxed") as opened:
        yield opened


@pytest.mark.parametrize("readable", [True, False])
async def test_an_export_of_what_was_imported_is_the_same_to_the_byte(
    source: Engine, target: Engine, *, readable: bool
) -> None:
    """Exporting an imported store gives the same bytes as the export that was imported."""
    export = await exported(source, readable=readable)
    await imported(target, export)

    assert await exported(target, readable=readable) == export
    await assert_same_runs(source, target)


def view_rows(engine: Engine) -> list[str]:
    return sorted(line for line in rows(engine.path) if any(f'INTO "{view}"' in line for view in VIEWS))


async def test_what_was_imported_is_whole_and_its_views_are_true(source: Engine, target: Engine) -> None:
    """An imported store verifies, and its views equal a rebuild."""
    await imported(target, await exported(source))
    live = view_rows(target)

    assert (await target.verify()).problems == []
    assert await target.verify_views() == []
    await target.rebuild()
    assert view_rows(target) == live


async def test_an_export_is_the_same_every_time(source: Engine) -> None:
    """An export is deterministic and does not depend on the order in which runs are named."""
    export = await exported(source)

    assert await exported(source) == export
    assert await exported(source, "empty", "forked", "nightly", "empty") == export


async def test_a_line_has_an_event_with_its_envelope(source: Engine) -> None:
    """An event line has the envelope, the payload's bytes and a readable copy of the event."""
    lines = [line for line in documents(await exported(source, "nightly")) if line["line"] == "event"]
    recorded = [each async for each in source.events(run_id="nightly")]

    assert [line["position"] for line in lines] == list(range(1, len(recorded) + 1))
    for line, event in zip(lines, recorded, strict=True):
        assert (line["run"], line["branch"], line["stream_version"]) == ("nightly", event.branch, event.stream_version)
        assert (line["type"], line["event_id"]) == (type(event.event).__name__, event.event_id)
        assert (line["hash"], line["recorded_at"][-1]) == (event.hash.hex(), "Z")
    values = lines[1]["event"]["values"]
    assert (values["lr"], values["nan"]) == ({"value": 0.1}, {"value": None})
    assert b"s3://bucket/key" in base64.b64decode(lines[1]["payload"])


async def test_behind_a_run_are_its_heads_and_behind_all_their_number(source: Engine) -> None:
    """A run in an export ends with its heads and counts, and the export with its totals, so truncation shows."""
    lines = documents(await exported(source))
    nightly = [line for line in lines if line.get("run") == "nightly"]
    heads = [(line["branch"], line["stream_version"]) for line in nightly if line["line"] == "head"]

    assert [branch for branch, _ in heads] == ["", "fit", "fit.0.5", "fit.[1, 2]"]
    assert nightly[-1] == {"line": "run end", "run": "nightly", "branches": 4, "events": sum(each for _, each in heads)}
    assert lines[-1] == {"line": "end", "runs": 3, "events": await source.last_position()}


async def test_what_is_imported_takes_new_positions_in_its_store(source: Engine, target: Engine) -> None:
    """Imported events get the next positions of the target store, without gaps."""
    await target.create_run("before")
    await imported(target, await exported(source))

    positions = [each.position async for each in target.events()]
    assert positions == list(range(1, await source.last_position() + 2))


async def test_an_imported_run_goes_on(source: Engine, target: Engine) -> None:
    """An imported run can be forked, written to, reduced and finalized like any other."""
    await imported(target, await exported(source))
    run = await target.run("nightly")
    branch = await run.fork("after")
    await branch.set_parameters({"lr": 1})
    await run.reduce([branch])
    await (await target.run("forked")).set_parameters({"x": 1})
    await run.finalize()

    assert (await target.verify()).problems == []
    assert await target.verify_views() == []


async def test_a_run_that_is_there_already_is_left_as_it_is(source: Engine, target: Engine) -> None:
    """An import skips a run that exists with identical events and imports the others."""
    await imported(target, await exported(source, "nightly"))
    found = await imported(target, await exported(source))

    assert [(run.run_id, run.existed) for run in found.runs] == [("nightly", True), ("forked", False), ("empty", False)]
    assert found.events == 2
    assert found.runs[0].branches == 4
    before = rows(target.path)
    assert all(run.existed for run in (await imported(target, await exported(source, readable=False))).runs)
    assert rows(target.path) == before


@pytest.mark.parametrize("moved", ["source", "target"])
async def test_a_run_with_another_history_is_refused(source: Engine, target: Engine, moved: str) -> None:
    """An import that meets a run with a longer or shorter history raises DifferentRunExists and records nothing."""
    await imported(target, await exported(source, "nightly"))
    await (await (source if moved == "source" else target).run("nightly")).set_parameters({"x": 1})
    before, export = rows(target.path), await exported(source)

    with pytest.raises(DifferentRunExists) as error:
        await imported(target, export)

    assert error.value.run_id == "nightly"
    assert f"line {error.value.line}: run 'nightly' exists" in str(error.value)
    assert rows(target.path) == before


async def test_another_run_of_the_same_name_is_refused(engine: Engine, target: Engine) -> None:
    """An import that meets another run of the same id raises DifferentRunExists, even if its content is equal."""
    for each in (engine, target):
        await each.create_run("r1", parameters={"lr": 0.1})

    with pytest.raises(DifferentRunExists, match=r"^line 3: run 'r1' exists"):
        await imported(target, await exported(engine))


async def test_a_fork_needs_what_it_was_forked_from(source: Engine, target: Engine) -> None:
    """Importing a forked run raises SourceMissing without its source at that version and hash."""
    alone = await exported(source, "forked")
    with pytest.raises(SourceMissing, match=r"^line 3: run 'forked' was forked from version 2 of run 'nightly'"):
        await imported(target, alone)
    await target.create_run("nightly")
    with pytest.raises(SourceMissing) as error:
        await imported(target, alone)
    assert (error.value.source_run_id, error.value.source_branch, error.value.source_version) == ("nightly", "fit", 2)
    assert [run.run_id for run in await target.runs()] == ["nightly"]


async def test_sources_go_along_when_asked(source: Engine, target: Engine) -> None:
    """An export with `with_sources` includes all direct and indirect sources, each before its forks."""
    await source.fork_run("forked", run_id="again")
    export = await exported(source, "again", with_sources=True)

    assert [line["run"] for line in documents(export) if line["line"] == "run"] == ["nightly", "forked", "again"]
    await imported(target, export)
    assert await (await target.run("again")).parameters() == await (await source.run("again")).parameters()
    await imported(target, await exported(source, "empty"))
    await assert_same_runs(source, target)


async def test_an_attempt_id_that_another_run_has_is_refused(engine: Engine, target: Engine) -> None:
    """An import with an attempt id that another run of the store has raises ImportedAttemptExists."""
    for each, run_id in ((engine, "r1"), (target, "r2")):
        await (await each.create_run(run_id)).start_attempt("train", attempt_id="a1")
    before = rows(target.path)

    with pytest.raises(ImportedAttemptExists, match=r"^line 5: attempt 'a1' already exists"):
        await imported(target, await exported(engine))

    assert rows(target.path) == before


async def test_an_attempt_id_may_have_been_another_runs_before(engine: Engine, target: Engine) -> None:
    """An attempt id that was freed with its step and reused can be imported, whichever run comes first."""
    for first, second in (("a", "b"), ("d", "c")):
        runs = {run_id: await engine.create_run(run_id) for run_id in sorted((first, second))}
        await runs[first].start_attempt("train", attempt_id=f"job-{first}")
        await runs[first].remove_step("train")
        await runs[second].start_attempt("train", attempt_id=f"job-{first}")
    await imported(target, await exported(engine))
    assert await target.verify_views() == []
    assert (await target.verify()).problems == []
    for run_id in "abcd":
        assert await (await target.run(run_id)).compile() == await (await engine.run(run_id)).compile()


async def test_more_ids_than_are_remembered(engine: Engine, target: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An import with more reused attempt ids than it can remember is refused and records nothing."""
    monkeypatch.setattr("engine.logs.sqlite_import._HELD_ELSEWHERE_MAX", 1)
    later, earlier = await engine.create_run("later"), await engine.create_run("earlier")
    for attempt_id in ("a1", "a2"):
        await earlier.start_attempt("train", attempt_id=attempt_id)
    await earlier.remove_step("train")
    for attempt_id in ("a1", "a2"):
        await later.start_attempt("train", attempt_id=attempt_id)
    with pytest.raises(ImportedAttemptExists, match="attempt 'a2' already exists"):
        await imported(target, await exported(engine))
    assert await target.last_position() == 0


async def test_an_unknown_run_cannot_be_exported(source: Engine) -> None:
    """Exporting an unknown run raises RunNotFound."""
    with pytest.raises(RunNotFound):
        await exported(source, "nightly", "r9")


async def test_an_empty_store_has_an_export(engine: Engine, target: Engine) -> None:
    """The export of an empty store can be imported and has no runs."""
    assert (await imported(target, await exported(engine))).runs == ()


async def test_what_was_erased_stays_erased(source: Engine, target: Engine) -> None:
    """An erased event is exported as its remainder and digest, and imports and verifies."""
    await source.erase("nightly", "", 2, "a secret")
    export = await exported(source)
    await imported(target, export)

    assert b"s3://bucket" not in base64.b64decode(documents(export)[3]["payload"])
    assert len(documents(export)[3]["digest"]) == 64
    assert await exported(target) == export
    assert (await target.verify()).problems == []
    assert await target.verify_views() == []


async def test_a_fork_of_a_run_that_was_deleted_stands_alone(source: Engine, target: Engine) -> None:
    """A fork whose source was deleted with `carry_over` is exported and imported without a source."""
    await source.fork_run("nightly", run_id="whole")
    await source.delete_run("nightly", "too old", carry_over=True)
    export = await exported(source, with_sources=True)
    await imported(target, export)

    assert await exported(target) == export
    assert (await target.verify()).problems == []
    assert await target.verify_views() == []
    await assert_same_runs(source, target)


async def test_what_a_fork_saw_is_what_it_saw_wherever_it_stands_in_the_file(engine: Engine, target: Engine) -> None:
    """An imported fork with carried-over steps shows the same steps in the same order at every version."""
    run = await engine.create_run("r")
    for step in ("a", "b", "c", "d", "e", "f"):
        async with run.attempt(step):
            pass
    fork = await engine.fork_run("r", run_id="fork")
    await fork.log_step("b", status="RUNNING")
    await fork.start_attempt("own")
    await engine.delete_run("r", "old", carry_over=True)
    await imported(target, await exported(engine))

    there = await target.run("fork")
    for version in (1, 2, 3, None):
        found = await there.compile(at=version)
        assert found == await fork.compile(at=version)
        assert list(found.steps) == list((await fork.compile(at=version)).steps)
    assert await there.all_attempts() == await fork.all_attempts()


async def test_a_run_that_was_deleted_can_come_back(source: Engine) -> None:
    """A deleted run can be imported from an export; its deletion stays on record."""
    export = await exported(source, "empty")
    await source.delete_run("empty", "a mistake")
    await imported(source, export)

    assert await exported(source, "empty") == export
    found = await source.verify()
    assert (found.problems, found.deleted) == ([], ["empty"])


async def test_a_run_erased_from_during_its_export_is_not_half_exported(
    source: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export raises ExportOvertaken when an event of the run is erased meanwhile."""
    monkeypatch.setattr("engine.logs.sqlite_export.CHUNK_EVENTS", 5)
    found = source.export_runs(["nightly"])
    await anext(found)
    await anext(found)
    await source.erase("nightly", "", 12, "a secret", compact=False)

    with pytest.raises(ExportOvertaken, match="'nightly'"):
        [lines async for lines in found]


async def test_a_run_deleted_during_its_export_is_not_half_exported(
    source: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export raises ExportOvertaken when the run is deleted meanwhile."""
    monkeypatch.setattr("engine.logs.sqlite_export.CHUNK_EVENTS", 5)
    found = source.export_runs(["nightly"])
    await anext(found)
    await anext(found)
    await source.delete_run("nightly", "a mistake", carry_over=True)

    with pytest.raises(ExportOvertaken, match="'nightly'"):
        [lines async for lines in found]


async def test_what_comes_during_an_export_is_left_out(
    source: Engine, target: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export leaves out events that are recorded after it began with the run."""
    export = await exported(source, "nightly")
    monkeypatch.setattr("engine.logs.sqlite_export.CHUNK_EVENTS", 5)
    found = source.export_runs(["nightly"])
    lines = [await anext(found), await anext(found)]
    await (await source.run("nightly")).set_parameters({"late": 1})

    assert b"".join(lines + [each async for each in found]) == export
    assert (await imported(target, export)).events == 28


async def test_pieces_are_as_good_as_the_whole(source: Engine, target: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports and imports in small pieces give the same result as in one."""
    export = await exported(source)
    monkeypatch.setattr("engine.logs.sqlite_export.CHUNK_BYTES", 1000)
    monkeypatch.setattr("engine.logs.sqlite_import.CHUNK_EVENTS", 3)

    assert await exported(source) == export
    await imported(target, export)
    assert await exported(target) == export
    assert await target.verify_views() == []


async def test_progress_is_told(source: Engine, target: Engine) -> None:
    """Progress is reported in events for an export and in bytes for an import, up to the total."""
    given, taken = list[tuple[int, int]](), list[tuple[int, int]]()
    export = await exported(source, progress=lambda *each: given.append(each))
    await target.import_runs(io.BytesIO(export), progress=lambda *each: taken.append(each))
    await asyncio.sleep(0)  # progress is told by callbacks of the event loop

    assert given[-1] == (30, 30)
    assert taken == sorted(taken)
    assert taken[-1][1] == len(export)


async def test_the_views_say_how_far_they_are(source: Engine, target: Engine) -> None:
    """After an import, every view's checkpoint is the last position."""
    await imported(target, await exported(source))

    last = await target.last_position()
    with closing(sqlite3.connect(target.path)) as connection:
        assert connection.execute("SELECT DISTINCT position FROM view_checkpoints").fetchall() == [(last,)]


async def test_another_engine_on_the_file_sees_what_was_imported(source: Engine, target: Engine) -> None:
    """Another engine on the target file can write to an imported run at once."""
    async with open_engine(target.path) as other:
        await other.create_run("mine")
        await imported(target, await exported(source))
        await (await other.run("nightly")).set_parameters({"x": 1})
        assert await other.verify_views() == []
        assert (await other.verify()).problems == []


async def test_followers_are_told(source: Engine, target: Engine) -> None:
    """A subscription yields imported events."""
    found = target.subscribe(run_id=None)
    coming = asyncio.ensure_future(anext(found))
    await imported(target, await exported(source))

    assert (await coming).run_id == "nightly"
    await found.aclose()


class _Held(io.BytesIO):
    """A file that blocks before its last lines; `reached` is set when a reader waits for them."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.reached, self.released = asyncio.Event(), threading.Event()
        self._loop = asyncio.get_running_loop()
        self._lines = len(content.splitlines()) - 4

    @override
    def readline(self, size: int | None = -1, /) -> bytes:
        self._lines -= 1
        if self._lines == 0:
            self._loop.call_soon_threadsafe(self.reached.set)
            self.released.wait()
        return super().readline(size)


async def test_an_import_lets_go_of_its_file(source: Engine, target: Engine) -> None:
    """Once the import has returned, nothing of the engine keeps its file in memory."""
    file = io.BytesIO(await exported(source))
    imported_from = weakref.ref(file)
    await target.import_runs(file)
    del file
    gc.collect()
    assert imported_from() is None


async def test_an_import_that_is_cancelled_leaves_nothing(
    source: Engine, target: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancelled import records nothing, and the store can be written to at once."""
    monkeypatch.setattr("engine.logs.sqlite_import.CHUNK_EVENTS", 1)
    file, before = _Held(await exported(source)), rows(target.path)
    importing = asyncio.ensure_future(target.import_runs(file))
    await file.reached.wait()
    importing.cancel()
    await asyncio.wait({importing}, timeout=0)
    file.released.set()

    with pytest.raises(asyncio.CancelledError):
        await importing
    assert rows(target.path) == before
    await target.create_run("after")
    assert await target.verify_views() == []
