"""`Engine.verify` finds no problem in a clean store, and the right problem for each kind of tampering."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine import Engine
from engine.errors import RunNotFound
from engine.logs import sqlite_audit
from tests.forger import delete_run
from tests.tampered import Found, Tampered, found, record_three_runs, tampering


@pytest.fixture
async def store(engine: Engine, database: Path) -> AsyncIterator[Tampered]:
    """The rows of the store of `record_three_runs`."""
    await record_three_runs(engine)
    with tampering(database) as tampered:
        yield tampered


async def test_a_clean_store_has_no_problem(engine: Engine, store: Tampered) -> None:
    """A clean store has no problems, and every run, stream and event is checked."""
    verification = await engine.verify()
    assert found(verification) == []
    assert (verification.runs, verification.streams, verification.events) == (3, 6, 15)
    assert (verification.position, verification.deleted) == (15, [])
    assert verification.root == (await engine.checkpoint()).root
    assert verification.store_id == (await engine.checkpoint()).store_id


ROW = "UPDATE events SET {} WHERE position = {}"
STREAM = "UPDATE streams SET {} WHERE run_id = '{}' AND branch = '{}'"
FLIPPED = "payload = CAST(substr(payload, 1, length(payload) - 1) || x'07' AS BLOB)"

TAMPERINGS: dict[str, tuple[str, list[Found]]] = {
    "a value": (ROW.format(FLIPPED, 7), [("content", "r", "b", 2, 7)]),
    "a payload that is none": (ROW.format("payload = x'c1'", 7), [("payload", "r", "b", 2, 7)]),
    "a payload that is not canonical": (
        ROW.format("payload = CAST(payload || x'00' AS BLOB)", 7),
        [("payload", "r", "b", 2, 7)],
    ),
    "no payload": (ROW.format("payload = NULL", 7), [("payload", "r", "b", 2, 7)]),
    "a digest instead of a payload": (
        ROW.format("payload = NULL, payload_digest = zeroblob(32)", 7),
        [("content", "r", "b", 2, 7)],
    ),
    "an event type": (ROW.format("event_type = 'StepRemoved'", 7), [("header", "r", "b", 2, 7)]),
    "an unknown event type": (ROW.format("event_type = 'Nothing'", 7), [("header", "r", "b", 2, 7)]),
    "an event type that is no text": (
        ROW.format("event_type = CAST(x'ff' AS TEXT)", 7),
        [("header", "r", "b", 2, 7)],
    ),
    "a schema version": (ROW.format("schema_version = 3", 7), [("header", "r", "b", 2, 7)]),
    "a last event's id": (ROW.format("event_id = zeroblob(16)", 7), [("content", "r", "b", 2, 7)]),
    "an event's id of another length": (ROW.format("event_id = x'00'", 7), [("header", "r", "b", 2, 7)]),
    "a time": (ROW.format("recorded_at = recorded_at + 1", 8), [("content", "r", "a", 2, 8)]),
    "a stored hash": (ROW.format("hash = zeroblob(32)", 8), [("hash", "r", "a", 2, 8)]),
    "the stored hash of a last event": (ROW.format("hash = zeroblob(32)", 13), [("content", "q", "", 2, 13)]),
    "a stored hash of no length": (ROW.format("hash = x''", 8), [("hash", "r", "a", 2, 8)]),
    "a stream version": (ROW.format("stream_version = 7", 8), [("missing event", "r", "a", 2, 8)]),
    "a stream version that is taken": (ROW.format("stream_version = 1", 8), [("order", "r", "a", 1, 8)]),
    "an event in the middle": (
        "DELETE FROM events WHERE position = 8",
        [("missing event", None, None, None, 8), ("missing event", "r", "a", 2, 9)],
    ),
    "an event moved to another stream": (
        ROW.format("stream_id = (SELECT stream_id FROM streams WHERE branch = 'b')", 8),
        [("order", "r", "b", 2, 8), ("missing event", "r", "a", 2, 9)],
    ),
    "an event moved to another run": (
        ROW.format("root_id = (SELECT root_id FROM streams WHERE run_id = 'q')", 8),
        [("missing event", "r", "a", 2, 9), ("order", "q", None, 2, 8)],
    ),
    "an event moved to a run that is not there": (
        ROW.format("root_id = 99", 8),
        [("missing stream", None, None, None, 8), ("missing event", "r", "a", 2, 9)],
    ),
    "an event moved to a stream that is not there": (
        ROW.format("stream_id = 99", 8),
        [("missing stream", "r", None, 2, 8), ("missing event", "r", "a", 2, 9)],
    ),
    "an event put at the end": (
        ROW.format("position = 16", 8),
        [("missing event", None, None, None, 8), ("order", "r", "a", 3, 9)],
    ),
    "an event before all": (
        ROW.format("position = -1", 13),
        [("order", None, None, None, -1), ("missing event", None, None, None, 13), ("missing event", "q", "", 2, None)],
    ),
    "a branch without its row": (
        "DELETE FROM streams WHERE branch = 'b'",
        [("missing stream", "r", None, 1, 4), ("link", "r", "", 3, 10)],
    ),
    "a run without its row": (
        "DELETE FROM streams WHERE run_id = 'q'",
        [("missing stream", None, None, None, 12)],
    ),
    "a root without its row": (
        "DELETE FROM streams WHERE run_id = 'r' AND branch = ''",
        [
            ("missing stream", None, None, None, 1),
            ("missing stream", "r", "a", None, None),
            ("missing stream", "r", "b", None, None),
            ("missing stream", "r", "a.inner", None, None),
        ],
    ),
    "another parent": (STREAM.format("parent_id = 3", "r", "a.inner"), [("link", "r", "a.inner", 1, 5)]),
    "no parent": (STREAM.format("parent_id = NULL", "r", "b"), [("link", "r", "b", 1, 4)]),
    "a parent where there is none": (STREAM.format("parent_id = 1", "q", ""), [("link", "q", "", 1, 12)]),
    "no source": (STREAM.format("parent_id = NULL, parent_version = 0", "f", ""), [("link", "f", "", 1, None)]),
    "another source": (STREAM.format("parent_id = 1", "f", ""), [("link", "f", "", 1, 14)]),
    "another version of the parent": (STREAM.format("parent_version = 1", "r", "b"), [("link", "r", "b", 1, 4)]),
    "another version of the source": (STREAM.format("parent_version = 1", "f", ""), [("link", "f", "", 1, 14)]),
    "a row that stands further": (STREAM.format("version = 9", "q", ""), [("missing event", "q", "", 3, None)]),
    "a row that stands behind": (STREAM.format("version = 1", "q", ""), [("head", "q", "", 2, None)]),
    "a row with another hash": (STREAM.format("hash = zeroblob(32)", "q", ""), [("head", "q", "", 2, None)]),
    "a branch's row of another run": (STREAM.format("root_id = 5", "r", "b"), [("head", "r", "b", None, None)]),
    "a root's row of another run": (STREAM.format("root_id = 1", "q", ""), [("head", "q", "", None, None)]),
    "a run with another name": (STREAM.format("run_id = 'Q'", "q", ""), [("content", "Q", "", 1, 12)]),
    "a stream without events": (
        "INSERT INTO streams VALUES (99, 1, 'r', 'new', 1, 2, 1, zeroblob(32))",
        [("missing event", "r", "new", 1, None)],
    ),
}


@pytest.mark.parametrize("name", TAMPERINGS)
async def test_each_kind_of_tampering_is_found_where_it_was_done(engine: Engine, store: Tampered, name: str) -> None:
    """Each kind of tampering is reported where it was done and nowhere else."""
    statement, expected = TAMPERINGS[name]
    store.run(statement)
    assert sorted(map(str, found(await engine.verify()))) == sorted(map(str, expected))


async def test_two_versions_that_changed_places(engine: Engine, store: Tampered) -> None:
    """Two swapped stream versions are reported as one order problem."""
    store.run(ROW.format("stream_version = 5 - stream_version", 8), ROW.format("stream_version = 2", 9))
    assert found(await engine.verify()) == [("order", "r", "a", 3, 8)]


async def test_a_branch_that_is_gone_with_its_events(engine: Engine, store: Tampered) -> None:
    """A branch deleted with its events leaves missing positions and a broken link of the reduction."""
    store.run(
        "DELETE FROM events WHERE stream_id = (SELECT stream_id FROM streams WHERE branch = 'b')",
        "DELETE FROM streams WHERE branch = 'b'",
    )
    assert found(await engine.verify()) == [
        ("missing event", None, None, None, 4),
        ("missing event", None, None, None, 7),
        ("link", "r", "", 3, 10),
    ]
    assert found(await engine.verify("r")) == [("link", "r", "", 3, 10)]


async def test_a_run_that_is_gone_with_its_events(engine: Engine, store: Tampered) -> None:
    """A run deleted with its events leaves missing positions; if it was the last, nothing is found."""
    delete_run(store.connection, "q")
    assert found(await engine.verify()) == [("missing event", None, None, None, 12)]
    delete_run(store.connection, "f")
    assert found(await engine.verify()) == []


async def test_a_source_that_is_gone(engine: Engine, store: Tampered) -> None:
    """A fork whose source run was deleted has a broken link."""
    delete_run(store.connection, "r")
    assert ("link", "f", "", 1, 14) in found(await engine.verify())
    assert found(await engine.verify("f")) == [("link", "f", "", 1, 14)]


async def test_only_the_run_that_was_asked_for(engine: Engine, store: Tampered) -> None:
    """Verifying one run ignores problems of other runs; an unknown run raises RunNotFound."""
    store.run(ROW.format("payload = NULL", 13))
    verification = await engine.verify("r")
    assert (verification.problems, verification.runs, verification.events) == ([], 1, 11)
    assert found(await engine.verify("q")) == [("payload", "q", "", 2, 13)]
    with pytest.raises(RunNotFound):
        await engine.verify("nobody")


async def test_only_the_first_of_a_stream(engine: Engine, store: Tampered) -> None:
    """Of several bad events in one stream, only the first is reported."""
    store.run("UPDATE events SET recorded_at = 7 WHERE position > 5")
    assert [(problem.branch, problem.position) for problem in (await engine.verify("r")).problems] == [
        ("a.inner", 6),
        ("b", 7),
        ("a", 8),
        ("", 10),
    ]


async def test_pieces_of_any_size_find_the_same(
    engine: Engine, store: Tampered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size of the pieces in which a store is read does not change the result."""
    checkpoint = await engine.checkpoint()
    whole = await engine.verify(since=checkpoint)
    store.run(ROW.format("payload = NULL", 8))
    broken = found(await engine.verify())
    store.restore()
    monkeypatch.setattr(sqlite_audit, "CHUNK_RUNS", 1)
    for events in (1, 2, 3, 11):
        monkeypatch.setattr(sqlite_audit, "CHUNK_EVENTS", events)
        assert await engine.verify(since=checkpoint) == whole
        store.run(ROW.format("payload = NULL", 8))
        assert found(await engine.verify()) == broken
        store.restore()


async def test_progress_ends_at_the_end(engine: Engine, store: Tampered, monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress counts the events of the store, or of the one run, up to the total."""
    monkeypatch.setattr(sqlite_audit, "CHUNK_EVENTS", 4)
    told: list[tuple[int, int]] = []
    await engine.verify(progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1] == (15, 15)
    told.clear()
    await engine.verify("r", progress=lambda done, total: told.append((done, total)))
    assert told == [(4, 11), (8, 11), (11, 11)]


async def test_verifying_changes_nothing(engine: Engine, store: Tampered, database: Path) -> None:
    """Verification changes no table of a tampered store."""
    store.run(ROW.format("payload = x'c1'", 8))
    before = list(store.connection.iterdump())
    await engine.verify()
    assert list(store.connection.iterdump()) == before


SWAP = (
    "UPDATE events SET position = -position WHERE position IN ({0}, {1})",
    "UPDATE events SET position = {0} + {1} + position WHERE position < 0",
)


async def swapped(engine: Engine, database: Path, one: int, other: int) -> list[Found]:
    """Exchange the positions of two events and return the problems found."""
    with tampering(database) as store:
        store.run(*(statement.format(one, other) for statement in SWAP))
    return found(await engine.verify())


async def test_a_fork_that_changed_places_with_its_parents_next_event(engine: Engine, database: Path) -> None:
    """A fork swapped in position with a later event of its parent is found."""
    run = await engine.create_run("r")
    await run.fork("a")
    await run.set_parameters({"x": 1})
    assert await swapped(engine, database, 2, 3) == [("link", "r", "a", 1, 3)]


async def test_a_forked_run_before_its_source(engine: Engine, database: Path) -> None:
    """A forked run whose position comes before its source's event is found."""
    await (await engine.create_run("r")).set_parameters({"x": 1})
    await engine.fork_run("r", run_id="f")
    assert await swapped(engine, database, 2, 3) == [("link", "f", "", 1, 2)]


async def test_order_that_nothing_ties(engine: Engine, database: Path) -> None:
    """A known limit: two unrelated runs that swap positions are not found."""
    await engine.create_run("r")
    await engine.create_run("q")
    assert await swapped(engine, database, 1, 2) == []


async def test_a_broken_source_is_reported_once(engine: Engine, database: Path) -> None:
    """A broken source is reported once, and a fork's reduction over it is not reported as well."""
    await (await engine.create_run("r", parameters={"x": 0})).set_parameters({"x": 1})
    run = await engine.fork_run("r", run_id="f", at=2)
    await (await run.fork("a")).set_parameters({"x": 2})
    await run.set_parameters({"x": 3})
    await run.reduce()
    with tampering(database) as store:
        store.run(ROW.format(FLIPPED, 2))
        assert found(await engine.verify()) == [("payload", "r", "", 2, 2)]


async def test_a_run_that_is_said_to_be_deleted_is_checked(engine: Engine, store: Tampered) -> None:
    """A run that is recorded as deleted but still exists is checked."""
    store.run(
        "INSERT INTO deleted_runs SELECT stream_id, 'q', stream_id, 12, 13, 2, hash, 13, 0, 'x', x'' FROM streams"
        " WHERE run_id = 'q'",
        ROW.format(FLIPPED, 13),
    )
    assert ("payload", "q", "", 2, 13) in found(await engine.verify())
