"""Forged links and reductions in any history, with every hash recomputed: each is reported at the forged event."""

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from msgspec import structs

from engine import open_engine
from engine.events import BranchForked, Event, ParametersReduced, RecordedEvent, RunFinalized, RunForked
from engine.model import Head, Parameter, ParameterConflict
from tests.forger import Place, change, rewrite
from tests.property.histories import HISTORIES, Move, grow
from tests.tampered import found, tampering

QUICK = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
MANY = settings(QUICK, max_examples=600)

Forgery: TypeAlias = tuple[str, Place, dict[str, Any]]

LIE = Parameter({"forged": True})


def forgeries(event: Event) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield false fields for an event, each with the kind of problem that verification should report."""
    match event:
        case BranchForked():
            yield "link", {"parent_hash": flipped(event.parent_hash)}
            yield "link", {"parent_version": event.parent_version + 1}
            yield "link", {"parent_version": event.parent_version - 1}
        case RunForked():
            yield "link", {"source_hash": flipped(event.source_hash)}
            yield "link", {"source_version": event.source_version + 1}
        case RunFinalized():
            yield "link", {"heads": event.heads[:-1]}
            yield from (("link", {"heads": heads}) for heads in lying(event.heads))
        case ParametersReduced():
            yield from (("link", {"children": heads}) for heads in lying(event.children))
            yield from (("reduction", fields) for fields in forged_outcomes(event))
        case _:
            return


def forged_outcomes(event: ParametersReduced) -> Iterator[dict[str, Any]]:
    """Yield false outcomes; the value that a caller's function returned cannot be checked, but its sources can."""
    for name, rule in event.rules.items():
        if rule != "function":
            yield {"values": {**event.values, name: LIE}}
        yield {"sources": {**event.sources, name: []}}
        yield {"rules": without(event.rules, name)}
        yield {each: without(getattr(event, each), name) for each in ("values", "rules", "sources")}
    if event.children:
        yield {"conflicts": [*event.conflicts, ParameterConflict("x", event.children[0].branch, None, LIE, LIE)]}


def without(mapping: dict[str, Any], name: str) -> dict[str, Any]:
    return {each: value for each, value in mapping.items() if each != name}


def lying(heads: Sequence[Head]) -> Iterator[list[Head]]:
    """Yield the heads, each time with one of them changed."""
    for place, head in enumerate(heads):
        for changed in ({"hash": flipped(head.hash)}, {"stream_version": head.stream_version + 1}):
            yield [*heads[:place], structs.replace(head, **changed), *heads[place + 1 :]]


def flipped(hashed: bytes) -> bytes:
    return bytes([hashed[0] ^ 1]) + hashed[1:]


def all_forgeries(events: Sequence[RecordedEvent]) -> list[Forgery]:
    return [
        (kind, (each.run_id, each.branch, each.stream_version), fields)
        for each in events
        for kind, fields in forgeries(each.event)
    ]


async def check_forgery(moves: Sequence[Move], choice: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.db"
        async with open_engine(path, durability="relaxed") as engine:
            # Erased values and links to a deleted source cannot be checked.
            await grow(engine, [move for move in moves if move.kind not in {"erase", "delete"}])
            possible = all_forgeries([each async for each in engine.events()])
            assume(possible)
            kind, where, fields = possible[choice % len(possible)]
            with tampering(path) as store:
                rewrite(store.connection, change(where, **fields), relink=True)
            assert (kind, *where) in [each[:4] for each in found(await engine.verify())]


@QUICK
@given(HISTORIES, st.integers(0, 10_000))
def test_a_forged_link_or_reduction_is_found(moves: list[Move], choice: int) -> None:
    """A forged link or reduction is reported at its event, although every hash in the file is right."""
    asyncio.run(check_forgery(moves, choice))


@pytest.mark.slow
@MANY
@given(HISTORIES, st.integers(0, 10_000))
def test_many_forged_links_and_reductions(moves: list[Move], choice: int) -> None:
    """In many more histories, a forged link or reduction is reported at its event."""
    asyncio.run(check_forgery(moves, choice))


async def check_honest_rewrite(moves: Sequence[Move]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.db"
        async with open_engine(path, durability="relaxed") as engine:
            await grow(engine, [move for move in moves if move.kind not in {"erase", "delete"}])
            checkpoint = await engine.checkpoint()
            hashes = [each.hash async for each in engine.events()]
            with tampering(path) as store:
                rewrite(store.connection, lambda _, event: event, relink=True)
            assert [each.hash async for each in engine.events()] == hashes
            assert (await engine.verify(since=checkpoint)).problems == []


@settings(QUICK, max_examples=10)
@given(HISTORIES)
def test_the_forger_changes_nothing_but_what_is_forged(moves: list[Move]) -> None:
    """A history rewritten without a forgery keeps its hashes and verifies, so the forger writes the true format."""
    asyncio.run(check_honest_rewrite(moves))
