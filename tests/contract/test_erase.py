"""Erasing: an event's payload is removed from the file for good, and all that refers to the event stays valid."""

import asyncio
import contextlib
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, Run, open_engine
from engine.codec import SCHEMA_VERSIONS, UPCASTERS, payload_digest
from engine.errors import (
    BranchNotFound,
    InvalidValue,
    NotErasable,
    PointNotFound,
    ReductionImpossible,
    RunNotFound,
    StoreBusy,
    TracesLeft,
    UnknownEventType,
)
from engine.events import ParametersSet, PayloadErased
from engine.logs import sqlite_removal, sqlite_scratch
from engine.logs.sqlite import SqliteEventLog
from engine.model import ERASED, Origin, Parameter, TaskSpec
from engine.proof.redaction import ERASED_DOCUMENT
from engine.removal import Erasure
from tests.golden.test_golden import DATABASE as YESTERDAYS

SECRET = "correct-horse-battery"


def sql(database: Path, statement: str, *values: object) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(database, isolation_level=None, timeout=30)) as connection:
        return connection.execute(statement, values).fetchall()


def assert_nowhere(database: Path, secret: str = SECRET) -> None:
    """Assert that no file of the database contains the secret; no engine of this process may have it open."""
    for path in database.parent.iterdir():
        assert secret.encode() not in path.read_bytes(), path


async def assert_sound(engine: Engine) -> None:
    """Assert that the hash chains are valid and that the views equal a rebuild from the events."""
    assert (await engine.verify()).problems == []
    assert await engine.verify_views() == []


async def version_of(run: Run) -> int:
    return (await run.head()).stream_version


async def test_what_was_erased_is_gone_and_its_place_is_not(database: Path) -> None:
    """Erasing removes the bytes from every file, keeps the event's hash, and records who erased it and why."""
    async with open_engine(database) as engine:
        run = await engine.create_run("r")
        await run.set_parameters({"key": SECRET, "lr": 0.1})
        before = await run.head()
        assert await engine.erase("r", None, 2, "a key was in it", by="ada") == Erasure(erased=True, carried=[])
        assert await run.parameters() == {"key": ERASED, "lr": ERASED}
        assert await run.head(at=2) == before
        (told,) = [each async for each in engine.events(types=[PayloadErased])]
        event = told.event
        assert isinstance(event, PayloadErased)
        assert (event.stream_version, event.event_type) == (2, "ParametersSet")
        assert (event.reason, event.by) == ("a key was in it", "ada")
        await assert_sound(engine)
    assert_nowhere(database)


async def _everything(engine: Engine, database: Path) -> Run:
    """Create a run that holds the secret in every field that can hold text."""
    run = await engine.create_run(
        "r", tag=SECRET, workspace_slug=SECRET, root_path=SECRET, description=SECRET, tags={"t": [SECRET]}
    )
    branch = await run.fork("a")
    await branch.set_parameters({"x": SECRET, "large": [SECRET * 400] * 20})
    await branch.describe({"d": SECRET})
    await run.reduce()
    await run.configure({"c": {"deep": SECRET}})
    await run.log_step("s", message=SECRET, details={"d": SECRET}, spec=TaskSpec(command=SECRET, env={"E": SECRET}))
    attempt = await run.start_attempt("s", external_id=SECRET, operator_data={"o": SECRET}, relative_path=SECRET)
    await attempt.update(outputs={"y": SECRET}, metrics={"m": SECRET}, details={"d": SECRET})
    await attempt.finish("FAILED", SECRET)
    await run.set_status("FAILED", SECRET)
    await engine.pin("r", SECRET)
    fork = await engine.fork_run("r", run_id="f", tag=SECRET)
    await fork.set_parameters({"x": SECRET})
    return run


async def _erase_all(engine: Engine) -> None:
    """Erase every event that can be erased."""
    for each in [each async for each in engine.events()]:
        with contextlib.suppress(NotErasable):
            await engine.erase(each.run_id, each.branch, each.stream_version, "all of it", compact=False)
    assert (await engine.compact()).complete


async def test_every_way_of_saying_it_can_be_erased(database: Path) -> None:
    """After every event was erased, no file holds the secret, and verification since earlier checkpoints succeeds."""
    async with open_engine(database) as engine:
        checkpoint = await engine.checkpoint()
        run = await _everything(engine, database)
        seen = await engine.checkpoint()
        await _erase_all(engine)
        shown = f"{await run.compile()!r} {await run.info()!r} {[each async for each in engine.events()]!r}"
        assert SECRET not in shown
        await assert_sound(engine)
        for since in (checkpoint, seen):
            assert (await engine.verify(since=since)).problems == []
        await engine.rebuild()
        await assert_sound(engine)
    assert_nowhere(database)
    async with open_engine(database) as engine:
        await assert_sound(engine)


async def test_the_file_holds_no_trace_while_it_is_open(database: Path) -> None:
    """While an engine and a subscription are open, another process finds no trace in the file or its WAL."""
    async with open_engine(database) as engine:
        await _everything(engine, database)
        following = asyncio.create_task(anext(engine.subscribe(run_id="r", after=1_000)))
        await _erase_all(engine)
        search = await asyncio.create_subprocess_exec("grep", "-rac", SECRET, str(database.parent), stdout=-1)
        output, _ = await search.communicate()
        counts = dict(line.rsplit(":", 1) for line in output.decode().splitlines())
        assert {Path(path).name for path in counts} >= {"runs.db", "runs.db-wal", "runs.db-shm"}
        assert set(counts.values()) == {"0"}
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


@pytest.mark.parametrize("size", [10, 3_000, 50_000, 500_000], ids=str)
async def test_neighbours_and_sizes_make_no_difference(database: Path, size: int) -> None:
    """A payload of any size, recorded between other events, is erased from the file, and the other events stay."""
    async with open_engine(database) as engine:
        run = await engine.create_run("r")
        for number in range(30):
            await run.set_parameters({f"n{number}": number})
        await run.set_parameters({"x": SECRET + "x" * size})
        for number in range(30):
            await run.set_parameters({f"m{number}": number, "x": number})
        await engine.erase("r", None, 32, "a key")
        assert await run.parameters(names=["x"]) == {"x": Parameter(29)}
        assert await run.parameters(at=32, names=["x", "n3"]) == {"x": ERASED, "n3": Parameter(3)}
        await assert_sound(engine)
    assert_nowhere(database)


async def _overwriting_nothing(engine: Engine) -> None:
    """Turn off `secure_delete`, which some builds of SQLite turn on, so that deleted bytes stay in the file."""
    log = engine._log
    assert isinstance(log, SqliteEventLog)
    await log.exclusively(lambda connection: connection.execute("PRAGMA secure_delete = OFF").fetchall())


@pytest.mark.parametrize("size", [10, 3_000, 50_000], ids=str)
async def test_rows_that_were_written_over_before_leave_no_trace(database: Path, size: int) -> None:
    """Erasing also removes old bytes of view rows that were updated and that SQLite left in the file."""
    async with open_engine(database) as engine:
        await _overwriting_nothing(engine)
        run = await engine.create_run("r")
        for number in range(20):
            await run.log_step(f"s{number}", message=f"{SECRET} {'x' * size}")
        for number in range(20):
            await run.log_step(f"s{number}", message="")
        for number in range(20):
            await engine.erase("r", None, 2 + number, "a name", compact=number == 19)
        await assert_sound(engine)
    assert_nowhere(database)


async def test_erased_reads_as_erased_everywhere(engine: Engine) -> None:
    """An erased parameter reads as erased in every read, also in the past, in branches, in forks and in SQL."""
    run = await engine.create_run("r", parameters={"x": SECRET})
    branch = await run.fork("a")
    fork = await engine.fork_run("r", run_id="f")
    origin = (await run.sources())["x"]
    await engine.erase("r", None, 2, "a key")
    for reader in (run, branch, fork):
        assert await reader.parameters() == {"x": ERASED}
        assert (await reader.compile()).parameters == {"x": ERASED}
        assert (await reader.sources()) == {"x": origin}
        assert (await reader.lineage("x")).value == ERASED
    assert await run.parameters(at=2) == {"x": ERASED}
    assert (await run.compile(at=2)).parameters == {"x": ERASED}
    rows = sql(engine.path, "SELECT run_id, branch, kind, value FROM resolved_parameters ORDER BY 1, 2")
    assert rows == [(each.run_id, each.name, "erased", "null") for each in (fork, run, branch)]
    (recorded,) = [each async for each in engine.events(run_id="r", types=[ParametersSet])]
    assert recorded.event == ParametersSet(branch="", values={"x": ERASED})


async def test_what_came_later_stands(engine: Engine) -> None:
    """Erasing an overwritten value leaves the current and the earlier value, and reads as erased in its own time."""
    run = await engine.create_run("r", parameters={"x": 1})
    await run.set_parameters({"x": 2})
    await run.set_parameters({"x": 3})
    await engine.erase("r", None, 3, "wrong")
    assert await run.parameters() == {"x": Parameter(3)}
    assert await run.parameters(at=2) == {"x": Parameter(1)}
    assert await run.parameters(at=3) == {"x": ERASED}


async def test_reductions_that_took_the_value_are_named(engine: Engine) -> None:
    """Erasing names the reductions that carry the value, direct and indirect; they can be erased in any order."""
    run = await engine.create_run("r")
    branch = await run.fork("a")
    inner = await branch.fork("inner")
    await inner.set_parameters({"x": 1, "y": 2})
    await branch.reduce()
    await run.reduce()
    carried = [Origin("r", "a", 2), Origin("r", "", 2)]
    assert (await engine.erase("r", "a.inner", 2, "a key")).carried == carried
    assert (await run.parameters())["x"] == Parameter(1)
    assert (await engine.erase("r", "", 2, "a key")).carried == []
    assert (await engine.erase("r", "a.inner", 2, "a key")).carried == carried[:1]
    assert (await engine.erase("r", "a", 2, "a key")).carried == []
    assert await run.parameters() == {"x": ERASED, "y": ERASED}
    await assert_sound(engine)


async def test_reductions_that_conflicted_on_the_value_are_named(database: Path) -> None:
    """Erasing names a reduction that keeps the value as a conflict's base, parent or child side, in forks too."""
    async with open_engine(database) as engine:
        source = await engine.create_run("s", parameters={"x": f"{SECRET} 0"})
        run = await engine.fork_run("s", run_id="r")
        child = await run.fork("a")
        await child.set_parameters({"x": f"{SECRET} 1"})
        await run.set_parameters({"x": f"{SECRET} 2"})
        await run.reduce(on_conflict="parent")
        await source.set_parameters({"x": 0})
        named = [Origin("r", "", 3)]
        for run_id, branch, version in (("s", "", 2), ("r", "a", 2), ("r", "", 2)):
            assert (await engine.erase(run_id, branch, version, "a key")).carried == named
        assert (await engine.erase("s", "", 3, "not it")).carried == []
        await engine.erase("r", "", 3, "a key")
        assert (await engine.erase("s", "", 2, "a key")).carried == []
        await assert_sound(engine)
    assert_nowhere(database)


async def test_erasing_twice_erases_once(engine: Engine) -> None:
    """Erasing an event again returns `erased=False` and records nothing."""
    await engine.create_run("r", parameters={"x": SECRET})
    first = await engine.erase("r", None, 2, "a key")
    second = await engine.erase("r", None, 2, "again")
    assert (first.erased, second.erased) == (True, False)
    assert len([each async for each in engine.events(types=[PayloadErased])]) == 1


async def test_a_retry_of_what_was_erased_is_still_a_retry(engine: Engine) -> None:
    """A retry under the key of an erased event is a duplicate and returns the erased event."""
    run = await engine.create_run("r")
    await run.set_parameters({"x": SECRET}, idempotency_key="k")
    await engine.erase("r", None, 2, "a key")
    again = await run.set_parameters({"x": SECRET}, idempotency_key="k")
    assert (again.duplicate, again.events[0].event) == (True, ParametersSet(branch="", values={"x": ERASED}))
    assert await run.parameters() == {"x": ERASED}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("nobody", None, 1, "why"), RunNotFound),
        (("r", "nowhere", 1, "why"), BranchNotFound),
        (("r", None, 0, "why"), PointNotFound),
        (("r", None, 4, "why"), PointNotFound),
        (("r", "a", 1, "why"), NotErasable),
        (("r", None, 3, "why"), NotErasable),
        (("r", None, 2, " "), InvalidValue),
        (("r", None, 2, None), InvalidValue),
        (("r", None, True, "why"), InvalidValue),
        (("r", None, "2", "why"), InvalidValue),
    ],
)
async def test_what_cannot_be_erased_is_refused_by_name(engine: Engine, arguments: Any, error: type[Exception]) -> None:
    """Erasing what is not there or not erasable, or with a bad argument, raises a typed error and changes nothing."""
    run = await engine.create_run("r", parameters={"x": 1})
    await run.fork("a")
    await engine.erase("r", None, 1, "its texts", compact=False)
    position = await engine.last_position()
    with pytest.raises(error):
        await engine.erase(*arguments)
    assert await engine.last_position() == position
    await assert_sound(engine)


async def test_an_event_that_cannot_be_read_is_not_erased(engine: Engine) -> None:
    """Erasing an event of an unknown type raises UnknownEventType with the type and the position."""
    await engine.create_run("r", parameters={"x": SECRET})
    sql(engine.path, "UPDATE events SET event_type = 'FromTomorrow' WHERE position = 2")
    with pytest.raises(UnknownEventType) as raised:
        await engine.erase("r", None, 2, "a key")
    assert (raised.value.event_type, raised.value.position) == ("FromTomorrow", 2)


async def test_nobody_can_set_an_erased_value(engine: Engine) -> None:
    """Setting a parameter to the erased value raises InvalidValue."""
    run = await engine.create_run("r")
    with pytest.raises(InvalidValue):
        await run.set_parameters({"x": ERASED})


@pytest.mark.parametrize("rule", ["sum", "mean", "collect", "concat", "merge", "unanimous", "min", "last", len])
async def test_an_erased_value_is_not_reduced(engine: Engine, rule: str | Callable[[list[Any]], Any]) -> None:
    """A reduction whose rule would take an erased value is refused; once the child sets a new value, it succeeds."""
    run = await engine.create_run("r")
    a, b = await run.fork("a"), await run.fork("b")
    await a.set_parameters({"x": 1})
    await b.set_parameters({"x": 1})
    await engine.erase("r", "b", 2, "wrong", compact=False)
    with pytest.raises(ReductionImpossible, match="erased"):
        await run.reduce(rules={"x": rule})
    assert (await run.head()).stream_version == 1
    await b.set_parameters({"x": 3})
    assert (await run.reduce()).values == {"x": Parameter(3)}


async def test_no_function_is_called_with_an_erased_value(engine: Engine) -> None:
    """A reduction by a function is refused, and the function not called, when a value was erased."""
    called: list[list[Any]] = []
    run = await engine.create_run("r")
    await (await run.fork("a")).set_parameters({"x": 1})
    await engine.erase("r", "a", 2, "wrong", compact=False)
    with pytest.raises(ReductionImpossible, match="erased"):
        await run.reduce(rules={"x": called.append})
    assert called == []


@pytest.mark.parametrize(("rule", "erased", "value"), [("first", "b", 1), ("last", "a", 2)])
async def test_a_rule_that_does_not_take_it_reduces_the_others(
    engine: Engine, rule: str, erased: str, value: int
) -> None:
    """The rules `first` and `last` succeed when the erased value is not the one that they take."""
    run = await engine.create_run("r")
    a, b = await run.fork("a"), await run.fork("b")
    await a.set_parameters({"x": 1})
    await b.set_parameters({"x": 2})
    await engine.erase("r", erased, 2, "wrong", compact=False)
    assert (await run.reduce(rules={"x": rule})).values == {"x": Parameter(value)}
    await assert_sound(engine)


async def test_a_reduction_of_what_was_erased_later_still_verifies(engine: Engine) -> None:
    """A reduction verifies after its sources, its conflicts or the reduction itself were erased."""
    run = await engine.create_run("r", parameters={"x": 0})
    a, b = await run.fork("a"), await run.fork("b")
    await a.set_parameters({"x": 1})
    await a.set_parameters({"x": 2})
    await b.set_parameters({"x": 3})
    await run.set_parameters({"x": 9})
    await run.reduce(rules={"x": "sum"})
    for branch, version in ((None, 2), ("a", 3), ("b", 2), (None, 3)):
        await engine.erase("r", branch, version, "wrong", compact=False)
        await assert_sound(engine)


def _untold(position: int) -> str:
    return f"UPDATE events SET payload_digest = zeroblob(32) WHERE position = {position}"


TAMPERINGS = {
    "what is left says something again": "UPDATE events SET payload = (SELECT payload FROM events WHERE position = 3)"
    " WHERE position = 2",
    "what is left is gone": "UPDATE events SET payload = NULL WHERE position = 2",
    "the digest is another": "UPDATE events SET payload_digest = zeroblob(32) WHERE position = 2",
    "the mark is gone": "UPDATE events SET payload_digest = NULL WHERE position = 2",
    "another event is marked": _untold(3),
    "the event that tells of it is marked": _untold(4),
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
async def test_tampering_with_an_erasure_is_found(engine: Engine, tampering: str) -> None:
    """Verification finds a changed erasure mark, digest or remainder, and an event marked without being erased."""
    run = await engine.create_run("r", parameters={"x": 1})
    await run.set_parameters({"x": 2})
    await engine.erase("r", None, 2, "wrong", compact=False)
    assert (await engine.verify()).problems == []
    sql(engine.path, TAMPERINGS[tampering])
    assert (await engine.verify()).problems != []


async def test_a_marked_event_of_whose_erasure_nothing_tells_is_found(engine: Engine) -> None:
    """Verification reports an event that is marked with its correct digest but has no recorded erasure."""
    await engine.create_run("r", parameters={"x": 1})
    (payload,) = sql(engine.path, "SELECT payload FROM events WHERE position = 2")[0]
    digest = payload_digest(payload)
    sql(engine.path, "UPDATE events SET payload_digest = ? WHERE position = 2", digest)
    (problem,) = (await engine.verify()).problems
    assert (problem.kind, problem.stream_version) == ("payload", 2)


async def test_who_reads_an_older_state_is_told_of(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a reader holds an old snapshot, erasing raises TracesLeft; erasing again afterwards removes the bytes."""
    monkeypatch.setattr(sqlite_removal, "READERS_WAITED_FOR_SECONDS", 0)
    async with open_engine(database) as engine:
        run = await engine.create_run("r", parameters={"x": SECRET})
        with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM events").fetchone()
            with pytest.raises(TracesLeft) as raised:
                await engine.erase("r", None, 2, "a key")
            assert (raised.value.run_id, raised.value.branch, raised.value.stream_version) == ("r", "", 2)
            assert await run.parameters() == {"x": ERASED}
            assert not (await engine.compact()).complete
        assert not (await engine.erase("r", None, 2, "a key")).erased
    assert_nowhere(database)


async def test_writers_go_on_while_a_reader_is_waited_for(database: Path) -> None:
    """An erasure that waits for a reader does not block writers, and completes when the reader is done."""
    async with open_engine(database) as engine, open_engine(database, busy_timeout=1) as other:
        run = await engine.create_run("r", parameters={"x": SECRET})
        reader = sqlite3.connect(database, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM events").fetchone()
        erasing = asyncio.create_task(engine.erase("r", None, 2, "a key"))
        while await run.parameters(names=["x"]) != {"x": ERASED}:
            pass
        for number in range(5):
            await (await other.run("r")).set_parameters({"n": number})
        assert not erasing.done()
        reader.close()
        assert (await erasing).erased
    assert_nowhere(database)


@pytest.fixture
def erased_while_folding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let another engine erase and delete, once, what a rebuild or a comparison has already folded."""
    catch_up = sqlite_scratch.Scratch.catch_up
    overtaken: list[bool] = []

    async def catch_up_and_be_overtaken(scratch: sqlite_scratch.Scratch, progress: Any) -> bool:
        up_to_date = await catch_up(scratch, progress)
        if not overtaken:
            overtaken.append(True)
            async with open_engine(scratch._source_path) as other:
                await other.erase("r", None, 2, "a key")
                await other.delete_run("gone", "a key")
        return up_to_date

    monkeypatch.setattr(sqlite_scratch.Scratch, "catch_up", catch_up_and_be_overtaken)


@pytest.mark.usefixtures("erased_while_folding")
@pytest.mark.parametrize("work", [Engine.rebuild, Engine.verify_views])
async def test_folding_that_is_under_way_does_not_bring_it_back(database: Path, work: Any) -> None:
    """A rebuild or comparison that another engine's erasure overtakes leaves no trace and finds no difference."""
    async with open_engine(database) as engine:
        run = await engine.create_run("r", parameters={"x": SECRET})
        gone = await engine.create_run("gone", parameters={"x": SECRET})
        assert await work(engine) in ([], 5)
        assert await run.parameters() == {"x": ERASED}
        with pytest.raises(RunNotFound):
            await gone.parameters()
        await assert_sound(engine)
        await engine.compact()
    assert_nowhere(database)


async def test_what_a_killed_rebuild_has_left_goes_too(database: Path) -> None:
    """Erasing removes the scratch files that a killed rebuild or comparison has left."""
    leftover = database.with_name("runs.db-rebuild")
    compared = database.with_name("runs.db-compare-0123456789abcdef")
    async with open_engine(database) as engine:
        await engine.create_run("r", parameters={"x": SECRET})
        leftover.write_text(SECRET)
        compared.write_text(SECRET)
        await engine.erase("r", None, 2, "a key")
    assert_nowhere(database)


async def test_a_file_that_another_program_writes_to_is_busy(database: Path) -> None:
    """An erasure or a deletion raises StoreBusy while another program holds the write lock, and succeeds later."""
    async with open_engine(database, busy_timeout=0.01) as engine:
        await engine.create_run("r", parameters={"x": SECRET})
        with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for removal in (engine.erase("r", None, 2, "a key"), engine.delete_run("r", "old")):
                with pytest.raises(StoreBusy):
                    await removal
        assert (await engine.erase("r", None, 2, "a key")).erased
        await assert_sound(engine)


async def test_other_engines_notice_at_once(database: Path) -> None:
    """Another engine that has read and written the value sees it as erased at once and writes none of it back."""
    async with open_engine(database) as engine, open_engine(database) as other:
        run = await other.create_run("r", description=SECRET, parameters={"x": SECRET})
        await run.log_step("s", message=SECRET)
        for version in (1, 2, 3):
            await engine.erase("r", None, version, "a key")
        assert await run.parameters() == {"x": ERASED}
        await run.set_step_status("s", "RUNNING")
        await run.set_status("RUNNING")
        await assert_sound(other)
    assert_nowhere(database)


async def test_deciding_on_what_was_erased_by_another_is_no_way_back(database: Path) -> None:
    """A deletion with `carry_over` does not carry over what another engine has erased."""
    async with open_engine(database) as engine, open_engine(database) as other:
        await other.create_run("r", description=SECRET, parameters={"x": SECRET})
        fork = await other.fork_run("r", run_id="f")
        await engine.erase("r", None, 1, "a key")
        await engine.erase("r", None, 2, "a key")
        await other.delete_run("r", "old", carry_over=True)
        assert await fork.parameters() == {"x": ERASED}
        await assert_sound(other)
        await other.compact()
    assert_nowhere(database)


async def test_what_is_left_may_be_larger_than_what_was_said(database: Path) -> None:
    """The remainder of an erased event may exceed the size limit of an event."""
    async with open_engine(database, event_bytes_max=4000) as engine:
        run = await engine.create_run("r")
        await run.set_parameters({f"p{number}": 1 for number in range(160)})
        await engine.erase("r", None, 2, "wrong")
        assert set((await run.parameters()).values()) == {ERASED}
        await assert_sound(engine)


async def test_events_of_an_older_version_are_erased_too(database: Path) -> None:
    """Events of older schema versions can be erased, and the remainder is still read and verified."""
    shutil.copyfile(YESTERDAYS, database)
    async with open_engine(database) as engine:
        versions = dict(sql(database, "SELECT event_type, min(schema_version) FROM events GROUP BY 1"))
        assert versions["StepLogged"] < SCHEMA_VERSIONS["StepLogged"]
        for each in [each async for each in engine.events()]:
            with contextlib.suppress(NotErasable):
                await engine.erase(each.run_id, each.branch, each.stream_version, "all", compact=False)
        await assert_sound(engine)
        for info in await engine.runs():
            await (await engine.run(info.run_id)).compile()


def _named(old: dict[str, Any]) -> dict[str, Any]:
    return {**old, "message": f"lifted: {old.get('message', '')}"}


def _moved(old: dict[str, Any]) -> dict[str, Any]:
    return {**old, "message": old["details"]["text"]}


@pytest.mark.parametrize("upcaster", [_named, _moved])
async def test_what_would_be_lifted_twice_is_not_erased(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, upcaster: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    """Erasing an old event is refused when its upcaster would misread the remainder.

    The remainder has today's shape under the old schema version.
    """
    monkeypatch.setitem(SCHEMA_VERSIONS, "StepLogged", 1)
    await (await engine.create_run("r")).log_step("s", message="secret", details={"text": "secret"})
    monkeypatch.undo()
    monkeypatch.setitem(UPCASTERS, ("StepLogged", 1), upcaster)
    before = sql(engine.path, "SELECT * FROM events")
    with pytest.raises(NotErasable, match="StepLogged of version 1 would be decoded wrongly"):
        await engine.erase("r", None, 2, "a secret")
    assert sql(engine.path, "SELECT * FROM events") == before


async def test_copies_that_were_carried_over_are_named(engine: Engine) -> None:
    """Erasing names the copy in a run whose source was deleted with `carry_over`."""
    run = await engine.create_run("r1")
    await run.set_parameters({"token": "TOPSECRET"})
    await engine.fork_run("r1", run_id="r2")
    await engine.fork_run("r2", run_id="r3")
    await engine.delete_run("r2", "old", carry_over=True)

    erasure = await engine.erase("r1", None, 2, "a person asked")

    assert [(each.run_id, each.branch) for each in erasure.carried] == [("r3", "")]
    for copy in erasure.carried:
        await engine.erase(copy.run_id, copy.branch, copy.stream_version, "a person asked")
    assert b"TOPSECRET" not in engine.path.read_bytes()


async def test_descriptions_of_a_step_that_say_the_same_are_named(engine: Engine) -> None:
    """Erasing a step's description names the later events that repeat it, in the run and in its forks."""
    run = await engine.create_run("r1")
    await run.log_step("s", status="COMPLETED", details={"token": "TOPSECRET"})
    await run.log_step("s", message="done")
    await run.log_step("t", details={"token": "of another step"})
    fork = await engine.fork_run("r1", run_id="r2")
    await (await run.fork("b")).log_step("s", details={"token": "TOPSECRET"})
    await fork.set_step_status("s", "PENDING")

    erasure = await engine.erase("r1", None, 2, "a person asked")

    assert erasure.carried == [Origin("r1", "", 3), Origin("r2", "", 2)]
    for copy in erasure.carried:
        await engine.erase(copy.run_id, copy.branch, copy.stream_version, "a person asked")
    assert (await fork.step("s")).details == ERASED_DOCUMENT
    await assert_sound(engine)
