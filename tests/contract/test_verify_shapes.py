"""`Engine.verify` on clean stores of every shape, on erased and deleted events, and on forgeries of these."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, open_engine
from engine.codec import encode_canonical, payload_digest
from engine.events import ParametersSet, RunFinalized
from engine.model import ERASED, AttemptDocument, Parameter
from tests.integration.recorded_tasks import record_tasks
from tests.tampered import found, record_three_runs, tampering

Shape = Callable[[Engine], Awaitable[Any]]


async def nothing(_: Engine) -> None:
    """A store without runs."""


async def empty_run(engine: Engine) -> None:
    await engine.create_run("r")


async def nested_forks(engine: Engine) -> None:
    branch = await engine.create_run("r", parameters={"x": 0})
    for depth in range(6):
        branch = await branch.fork(f"d{depth}")  # type: ignore[assignment]
        await branch.set_parameters({"x": depth, f"y{depth}": depth})
    run = await engine.run("r")
    for name in ("d0.d1.d2.d3.d4", "d0.d1.d2", "d0"):
        await (await run.branch(name)).reduce(default="sum")
    await run.reduce()


async def forks_of_forks(engine: Engine) -> None:
    run = await engine.create_run("r0", parameters={"x": 0})
    await (await run.fork("a")).set_parameters({"x": 1})
    for number in range(1, 5):
        run = await engine.fork_run(f"r{number - 1}", run_id=f"r{number}", branch="a", at=1 + number % 2)
        child = await run.fork("a")
        await child.set_parameters({"x": number, "y": number})
        await run.set_parameters({"x": -number})
        await run.reduce(on_conflict="parent")


async def every_rule(engine: Engine) -> None:
    run = await engine.create_run("r", parameters={"n": 1, "d": {}, "l": []})
    children = [await run.fork(name) for name in ("a", "b", "c")]
    for value, child in enumerate(children):
        await child.set_parameters({"n": value, "d": {str(value): value}, "l": [value], "s": "same", "f": float("nan")})
    for rule in ("last", "first", "collect", "sum", "min", "max", "mean"):
        await run.reduce(children, rules={"n": rule, "d": "merge", "l": "concat", "s": "unanimous", "f": "max"})
    await run.reduce(children[::-1], rules={"n": sorted, "f": len}, on_conflict="child")
    await run.reduce(children[:1], rules={"n": str}, on_conflict="parent")
    await run.reduce([])


async def reduced_while_written(engine: Engine) -> None:
    run = await engine.create_run("r", parameters={"x": 0})
    child = await run.fork("a")
    for value in range(4):
        await child.set_parameters({"x": value})
        await run.set_parameters({"x": -value})
        await run.reduce()


async def finalized_again(engine: Engine) -> None:
    run = await engine.create_run("r")
    await run.finalize("FAILED")
    await run.fork("a")
    await run.finalize("COMPLETED")
    await run.finalize()


async def steps_and_attempts(engine: Engine) -> None:
    run = await engine.create_run("r", tags={"a": [1, {"b": None}]})
    async with run.attempt("train", operator_key="local") as attempt:
        await attempt.update(external_id="7", outputs={"x": Parameter(1)})
    await run.log_step("train", message="again", attempts=[AttemptDocument(status="FAILED")])
    await run.set_step_status("train", "FAILED", "why")
    await run.remove_step("train")
    await run.configure({"a": 1})
    await run.log_job({"b": 2})
    await run.describe({"c": 3})


async def pinned(engine: Engine) -> None:
    await engine.create_run("r")
    await engine.pin("r")
    await engine.unpin("r", "enough")


async def erased(engine: Engine) -> None:
    await record_three_runs(engine)
    for branch, version in (("b", 2), ("a.inner", 2), ("", 2), ("", 1), ("", 3)):
        await engine.erase("r", branch, version, "asked to", compact=False)
    await (await engine.fork_run("r", run_id="g")).fork("a")


async def set_again_and_erased(engine: Engine) -> None:
    """An erased value still hides the value set before it."""
    run = await engine.create_run("r", parameters={"x": 0})
    child = await run.fork("a")
    await child.set_parameters({"x": 1})
    await child.set_parameters({"x": 2})
    await run.reduce()
    await engine.erase("r", "a", 3, "asked to", compact=False)


async def erased_at_the_source(engine: Engine) -> None:
    """A forked run has a conflict whose base was erased in its source."""
    source = await engine.create_run("r", parameters={"x": 0})
    await source.set_parameters({"x": 1})
    run = await engine.fork_run("r", run_id="f")
    await (await run.fork("a")).set_parameters({"x": 2})
    await run.set_parameters({"x": 3})
    await run.reduce()
    await engine.erase("r", "", 3, "asked to", compact=False)


async def bases_from_several_levels(engine: Engine) -> None:
    """A reduction has conflicts whose bases were set by different ancestors."""
    run = await engine.create_run("r", parameters={"x": 1, "y": 1})
    branch = await run.fork("a")
    await branch.set_parameters({"x": 2})
    below = await branch.fork("below")
    await below.set_parameters({"x": 3, "y": 3})
    await branch.set_parameters({"x": 4, "y": 4})
    reduced = await branch.reduce()
    assert {each.name: each.base and each.base.value for each in reduced.conflicts} == {"x": 2, "y": 1}


async def deleted(engine: Engine) -> None:
    await record_three_runs(engine)
    await engine.delete_run("q", "expired")


async def carried_over(engine: Engine) -> None:
    await record_three_runs(engine)
    run = await engine.run("f")
    child = await run.fork("a")
    await child.set_parameters({"y": 1, "x": 2})
    await run.set_parameters({"y": 0})
    await run.reduce()
    await engine.delete_run("r", "expired", carry_over=True)
    await run.reduce(on_conflict="parent")


SHAPES = [
    nothing,
    empty_run,
    nested_forks,
    forks_of_forks,
    every_rule,
    reduced_while_written,
    finalized_again,
    steps_and_attempts,
    pinned,
    erased,
    set_again_and_erased,
    erased_at_the_source,
    bases_from_several_levels,
    deleted,
    carried_over,
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
async def test_a_clean_store_of_every_shape(engine: Engine, shape: Shape) -> None:
    """A clean store of any shape verifies, as a whole since a checkpoint and run by run."""
    await shape(engine)
    verification = await engine.verify(since=await engine.checkpoint())
    assert verification.problems == []
    assert verification.events == len([each async for each in engine.events()])
    for info in (await engine.runs()).runs:
        assert (await engine.verify(info.run_id)).problems == []


async def test_a_store_of_tasks(database: Path) -> None:
    """A store with all that a state store records verifies."""
    await record_tasks(database)
    async with open_engine(database) as engine:
        assert (await engine.verify()).problems == []


async def test_a_run_finalized_in_parts(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finalization in several parts verifies."""
    monkeypatch.setattr("engine.decisions._FINALIZED_BYTES_MAX", 150)
    run = await engine.create_run("r")
    for number in range(7):
        await run.fork(f"b{number}")
    await run.finalize()
    parts = [each.event async for each in engine.events(types=[RunFinalized])]
    assert len(parts) > 2
    assert (await engine.verify()).problems == []


async def test_what_looks_erased_and_is_not_told_of(engine: Engine, database: Path) -> None:
    """A replaced or removed payload with its original digest, but no recorded erasure, is found."""
    await record_three_runs(engine)
    left = encode_canonical(ParametersSet(branch="b", values={"x": Parameter(6), "y": Parameter(2)}))
    with tampering(database) as store:
        ((payload,),) = store.connection.execute("SELECT payload FROM events WHERE position = 7").fetchall()
        store.connection.execute(
            "UPDATE events SET payload = ?, payload_digest = ? WHERE position = 7", (left, payload_digest(payload))
        )
        assert found(await engine.verify()) == [("payload", "r", "b", 2, 7)]
        store.connection.execute("UPDATE events SET payload = NULL WHERE position = 7")
        assert found(await engine.verify()) == [("payload", "r", "b", 2, 7)]


async def test_what_is_left_of_an_erased_event_is_held_to_what_was_left(engine: Engine, database: Path) -> None:
    """A changed or removed remainder of an erased event is found at that event."""
    await record_three_runs(engine)
    await engine.erase("r", "b", 2, "asked to")
    left = encode_canonical(ParametersSet(branch="b", values={"x": Parameter(6), "y": Parameter(2)}))
    with tampering(database) as store:
        store.connection.execute("UPDATE events SET payload = ? WHERE position = 7", (left,))
        assert found(await engine.verify()) == [("payload", "r", "b", 2, 7)]
        store.restore()
        store.run("UPDATE events SET payload = NULL WHERE position = 7")
        assert found(await engine.verify()) == [("payload", "r", "b", 2, 7)]


async def test_what_was_made_of_what_is_left_is_not_named_before_it(engine: Engine, database: Path) -> None:
    """A forged remainder of an erased event is reported instead of the reduction that does not follow from it.

    The erasure is recorded later in the same branch than the reduction.
    """
    run = await engine.create_run("r", parameters={"x": 1})
    child = await run.fork("a")
    await run.set_parameters({"x": 2})
    await child.set_parameters({"x": 3})
    await run.reduce([child], on_conflict="child")
    await engine.erase("r", "", 3, "asked to")
    left = encode_canonical(ParametersSet(branch="", values={"w": ERASED}))
    with tampering(database) as store:
        store.connection.execute("UPDATE events SET payload = ? WHERE stream_version = 3", (left,))
        assert found(await engine.verify()) == [("payload", "r", "", 3, 4)]


async def test_links_hold_in_what_is_left_of_an_erased_event(engine: Engine, database: Path) -> None:
    """A child's changed last hash is reported at that event even if the reduction over it was erased."""
    await record_three_runs(engine)
    await engine.erase("r", "", 3, "asked to")
    with tampering(database) as store:
        store.run("UPDATE events SET hash = zeroblob(32) WHERE position = 7")
        store.run("UPDATE streams SET hash = zeroblob(32) WHERE branch = 'b'")
        assert found(await engine.verify()) == [("content", "r", "b", 2, 7)]


async def test_a_deletion_is_told_and_leaves_its_checkpoints_true(engine: Engine) -> None:
    """Verification since a checkpoint names a run deleted later and has no other problem."""
    await record_three_runs(engine)
    checkpoint = await engine.checkpoint()
    await engine.delete_run("q", "expired")
    verification = await engine.verify(since=checkpoint)
    assert [(each.kind, each.run_id) for each in verification.problems] == [("deleted", "q")]
    assert verification.deleted == ["q"]


async def test_more_is_missing_than_was_deleted(engine: Engine, database: Path) -> None:
    """Events missing besides a recorded deletion are found, and so is a changed or removed deletion record."""
    await record_three_runs(engine)
    await engine.delete_run("q", "expired")
    with tampering(database) as store:
        store.run("DELETE FROM events WHERE position = 7")
        assert ("missing event", None, None, None, 7) in found(await engine.verify())
        store.restore()
        store.run("UPDATE deleted_runs SET events = 1")
        assert found(await engine.verify()) == [
            ("missing event", None, None, None, 12),
            ("checksum", "q", None, None, None),
        ]
        store.restore()
        store.run("DELETE FROM deleted_runs")
        assert found(await engine.verify()) == [("missing event", None, None, None, 12)]


async def test_runs_of_any_creation_time_verify(engine: Engine) -> None:
    """Runs with any creation time verify."""
    for number, year in enumerate((1, 1970, 9999)):
        await engine.create_run(f"r{number}", created_at=datetime(year, 1, 2, tzinfo=UTC))
    assert (await engine.verify()).problems == []


async def test_nothing_left_of_an_erased_event(engine: Engine, database: Path) -> None:
    """A removed remainder of an erased event is reported alone, not the reduction over it, in a fork too."""
    await erased_at_the_source(engine)
    with tampering(database) as store:
        store.run("UPDATE events SET payload = NULL WHERE position = 3")
        assert found(await engine.verify()) == [("payload", "r", "", 3, 3)]
        assert found(await engine.verify("f")) == [("payload", "r", "", 3, 3)]


async def test_a_fork_is_checked_with_what_it_reads_through(engine: Engine, database: Path) -> None:
    """Verifying a fork also checks its direct and indirect sources."""
    run = await engine.create_run("r", parameters={"x": "AAAA"})
    await engine.fork_run(run.run_id, run_id="f")
    await engine.fork_run("f", run_id="g")
    with tampering(database) as store:
        store.run("UPDATE events SET payload = CAST(replace(payload, 'AAAA', 'BBBB') AS BLOB) WHERE position = 2")
        for run_id in ("f", "g"):
            assert {(kind, name) for kind, name, *_ in found(await engine.verify(run_id))} >= {("content", "r")}


async def test_a_reduction_over_a_tampered_source_is_not_called_forged(engine: Engine, database: Path) -> None:
    """A tampered source is reported alone, not a fork's reduction whose conflict has its value as base."""
    await engine.create_run("r", parameters={"x": "AAAA"})
    fork = await engine.fork_run("r", run_id="f")
    child = await fork.fork("a")
    await child.set_parameters({"x": 1})
    await fork.set_parameters({"x": 2})
    await fork.reduce()  # a conflict, whose base is the source's value
    with tampering(database) as store:
        store.run("UPDATE events SET payload = CAST(replace(payload, 'AAAA', 'BBBB') AS BLOB) WHERE position = 2")
        assert found(await engine.verify()) == found(await engine.verify("f")) == [("content", "r", "", 2, 2)]
