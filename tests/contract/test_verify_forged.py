"""`Engine.verify` against forgers who recompute hashes: links and reductions no longer match."""

import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from engine import Engine
from engine.model import Head, Parameter, ParameterConflict, Source
from tests.forger import change, close_gaps, cut_off, rewrite
from tests.tampered import Tampered, found, record_three_runs, tampering

Forge = Callable[[sqlite3.Connection], None]


@pytest.fixture
async def store(engine: Engine, database: Path) -> AsyncIterator[Tampered]:
    """The rows of a store of three runs."""
    await record_three_runs(engine)
    with tampering(database) as tampered:
        yield tampered


def forged_values(connection: sqlite3.Connection) -> None:
    rewrite(connection, change(("r", "", 3), values={"x": Parameter(7), "y": Parameter(5)}))


def forged_sources(connection: sqlite3.Connection) -> None:
    sources = {"x": [Source("a", 3), Source("b", 1)], "y": [Source("a", 2), Source("b", 2)]}
    rewrite(connection, change(("r", "", 3), sources=sources))


def forged_rules(connection: sqlite3.Connection) -> None:
    rewrite(connection, change(("r", "", 3), rules={"x": "max", "y": "sum"}))


def unknown_rule(connection: sqlite3.Connection) -> None:
    rewrite(connection, change(("r", "", 3), rules={"x": "nothing", "y": "sum"}))


def rule_without_value(connection: sqlite3.Connection) -> None:
    rewrite(connection, change(("r", "", 3), rules={"x": "sum", "y": "sum", "w": "function"}))


def forged_conflicts(connection: sqlite3.Connection) -> None:
    rewrite(connection, change(("r", "", 3), conflicts=[ParameterConflict("x", "a", None, Parameter(0), Parameter(1))]))


def dropped_name(connection: sqlite3.Connection) -> None:
    fields: dict[str, Any] = {"values": {"x": Parameter(6)}, "rules": {"x": "sum"}}
    rewrite(connection, change(("r", "", 3), sources={"x": [Source("a", 3), Source("b", 2)]}, **fields))


@pytest.mark.parametrize(
    "forge",
    [forged_values, forged_sources, forged_rules, unknown_rule, rule_without_value, forged_conflicts, dropped_name],
)
async def test_a_forged_reduction(engine: Engine, store: Tampered, forge: Forge) -> None:
    """A forged reduction is found although all hashes and links are correct."""
    forge(store.connection)
    rewrite(store.connection, lambda _, event: event, relink=True)
    assert found(await engine.verify()) == [("reduction", "r", "", 3, 10)]


@pytest.mark.parametrize(("schema_version", "problems"), [(1, []), (2, [("reduction", "again", "")])])
async def test_a_conflict_that_was_none_before(
    engine: Engine, store: Tampered, schema_version: int, problems: list[Any]
) -> None:
    """A reduction of schema version 1 verifies under the old conflict rule, without the conflict of today's rule."""
    run = await engine.create_run("again", parameters={"x": 1})
    child = await run.fork("a")
    await child.set_parameters({"x": 1})
    await run.set_parameters({"x": 2})
    reduced = await run.reduce()
    assert [conflict.name for conflict in reduced.conflicts] == ["x"]

    store.connection.execute(
        "UPDATE events SET schema_version = ? WHERE event_type = 'ParametersReduced' AND position > 20",
        (schema_version,),
    )
    rewrite(store.connection, change(("again", "", reduced.stream_version), conflicts=[]), relink=True)
    assert [each[:3] for each in found(await engine.verify())] == problems


async def test_a_reduction_beside_an_erased_value(engine: Engine, store: Tampered) -> None:
    """A forged reduction is found, also if the parent's own value from before the fork was erased."""
    run = await engine.create_run("erased", parameters={"x": 1})
    await (await run.fork("a")).set_parameters({"x": 2})
    reduced = await run.reduce()
    await engine.erase("erased", "", 2, "asked to", compact=False)
    assert found(await engine.verify()) == []
    forge = change(("erased", "", reduced.stream_version), values={"x": Parameter(3)})
    rewrite(store.connection, forge, relink=True)
    assert [each[:3] for each in found(await engine.verify())] == [("reduction", "erased", "")]


@pytest.mark.parametrize("forged", ["x", "y"])
async def test_a_conflict_with_what_a_source_inherited(engine: Engine, store: Tampered, forged: str) -> None:
    """A forged conflict is found, also a later one whose base was inherited through several forked runs."""
    await engine.create_run("first", parameters={"x": 0, "y": 0})
    await engine.fork_run("first", run_id="second")
    run = await engine.fork_run("second", run_id="third")
    versions = {}
    for name in ("x", "y"):
        await (await run.fork(name)).set_parameters({name: 1})
        await run.set_parameters({name: 2})
        versions[name] = (await run.reduce([name])).stream_version
    assert found(await engine.verify()) == []
    rewrite(store.connection, change(("third", "", versions[forged]), conflicts=[]), relink=True)
    assert [each[:3] for each in found(await engine.verify())] == [("reduction", "third", "")]


async def test_a_source_that_lost_its_end(engine: Engine, store: Tampered) -> None:
    """A missing last event is reported in its own run, and not again in the run that was forked from it."""
    await engine.create_run("short", parameters={"x": 1})
    await engine.fork_run("short", run_id="fork of short")
    store.connection.execute(
        "DELETE FROM events WHERE (stream_id, stream_version) ="
        " (SELECT stream_id, version FROM streams WHERE run_id = 'short')"
    )
    problems = [each[:3] for each in found(await engine.verify())]
    assert problems == [("missing event", None, None), ("missing event", "short", "")]


async def test_a_child_that_is_rewritten(engine: Engine, store: Tampered) -> None:
    """A rewritten child, with its own hashes correct, breaks the link of its reduction."""
    rewrite(store.connection, change(("r", "b", 2), values={"x": Parameter(6), "y": Parameter(2)}), only=[("r", "b")])
    assert found(await engine.verify()) == [("link", "r", "", 3, 10)]


async def test_a_child_that_is_rewritten_with_its_links(engine: Engine, store: Tampered) -> None:
    """A rewritten child, with all hashes and links correct, no longer matches its reduction's values."""
    rewrite(store.connection, change(("r", "b", 2), values={"x": Parameter(6), "y": Parameter(2)}), relink=True)
    assert found(await engine.verify()) == [("reduction", "r", "", 3, 10)]


async def test_a_parent_that_is_rewritten(engine: Engine, store: Tampered) -> None:
    """A rewritten parent breaks the links of its forks and of its finalization."""
    rewrite(store.connection, change(("r", "", 2), values={"x": Parameter(9)}), only=[("r", "")])
    assert found(await engine.verify()) == [
        ("link", "r", "a", 1, 3),
        ("link", "r", "b", 1, 4),
        ("link", "r", "", 4, 11),
    ]


async def test_a_source_that_is_rewritten(engine: Engine, store: Tampered) -> None:
    """A rewritten source branch breaks the links of its reduction and of the run forked from it."""
    rewrite(store.connection, change(("r", "a", 2), values={"y": Parameter(4)}), only=[("r", "a")])
    assert found(await engine.verify()) == [("link", "r", "", 3, 10), ("link", "f", "", 1, 14)]


FORGED_LINKS: dict[str, tuple[tuple[str, str, int], dict[str, Any], tuple[str, str, int, int]]] = {
    "a version of the parent": (("r", "b", 1), {"parent_version": 1}, ("r", "b", 1, 4)),
    "the greatest version": (("r", "b", 1), {"parent_version": 2**63 - 1}, ("r", "b", 1, 4)),
    "a parent": (("r", "b", 1), {"parent": "a"}, ("r", "b", 1, 4)),
    "a parent that is not there": (("r", "b", 1), {"parent": "z"}, ("r", "b", 1, 4)),
    "a parent that came later": (("r", "b", 1), {"parent": "a.inner"}, ("r", "b", 1, 4)),
    "a hash of the parent": (("r", "b", 1), {"parent_hash": bytes(32)}, ("r", "b", 1, 4)),
    "a source run": (("f", "", 1), {"source_run_id": "q"}, ("f", "", 1, 14)),
    "a source that is not there": (("f", "", 1), {"source_run_id": "z"}, ("f", "", 1, 14)),
    "a source version": (("f", "", 1), {"source_version": 1}, ("f", "", 1, 14)),
    "the greatest source version": (("f", "", 1), {"source_version": 2**63 - 1}, ("f", "", 1, 14)),
    "a source that is its own": (("f", "", 1), {"source_run_id": "f", "source_branch": ""}, ("f", "", 1, 14)),
    "a source hash": (("f", "", 1), {"source_hash": b""}, ("f", "", 1, 14)),
    "no child": (("r", "", 3), {"children": []}, ("r", "", 3, 10)),
    "a child twice": (("r", "", 3), {"children": [Head("b", 2, b"")] * 2}, ("r", "", 3, 10)),
    "heads of a finalisation": (("r", "", 4), {"heads": []}, ("r", "", 4, 11)),
    "the branch of an event": (("r", "b", 2), {"branch": "a"}, ("r", "b", 2, 7)),
}


@pytest.mark.parametrize("name", FORGED_LINKS)
async def test_a_forged_link(engine: Engine, store: Tampered, name: str) -> None:
    """A forged link is found at its event although all hashes of its stream are correct."""
    where, fields, expected = FORGED_LINKS[name]
    rewrite(store.connection, change(where, **fields), only=[where[:2]])
    kinds = {problem.kind for problem in (await engine.verify()).problems}
    assert found(await engine.verify())[0][1:] == expected
    assert kinds <= {"link", "reduction"}


async def test_a_grandchild_is_no_child(engine: Engine, store: Tampered) -> None:
    """A forged reduction of a grandchild is found as a broken link."""
    rows = store.connection.execute("SELECT hash FROM events WHERE position = 6").fetchall()
    fields = {"rules": {"x": "last"}, "values": {"x": Parameter(1)}, "sources": {"x": [Source("a.inner", 2)]}}
    children = [Head("a.inner", 2, rows[0][0])]
    rewrite(store.connection, change(("r", "", 3), children=children, conflicts=[], **fields), only=[("r", "")])
    assert found(await engine.verify()) == [("link", "r", "", 3, 10)]


async def test_a_cut_off_tail(engine: Engine, store: Tampered) -> None:
    """A cut-off tail is found by missing positions and by links to it; at the end of the log it is not found."""
    cut_off(store.connection, "r", "b", 1)
    assert found(await engine.verify()) == [("missing event", None, None, None, 7), ("link", "r", "", 3, 10)]
    store.restore()
    cut_off(store.connection, "f", "", 1)
    assert found(await engine.verify()) == []


async def test_positions_that_were_numbered_anew(engine: Engine, store: Tampered) -> None:
    """If positions are renumbered after a cut, only the broken link of the reduction is found."""
    cut_off(store.connection, "r", "b", 1)
    close_gaps(store.connection)
    assert found(await engine.verify()) == [("link", "r", "", 3, 9)]
