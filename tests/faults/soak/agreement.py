"""Comparison of the store after a soak with what its workers were acknowledged and its subscribers saw."""

import random
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from engine import Checkpoint, Engine
from engine.model import BranchLog, StepLog
from tests.faults.audit import assert_whole
from tests.faults.soak.acknowledged import Acknowledged, read_acknowledged, replay
from tests.faults.soak.journal import Noted, noted
from tests.faults.soak.model import Model, ModelStep
from tests.faults.soak.moves import SHARED
from tests.faults.soak.upkeep import is_deletion
from tests.property.naive_reduction import key as exactly

BY_THE_STORE: Final = ("PayloadErased", "SourceCarriedOver")
"""The events that a move at one run may record in another."""


class Agreed(Struct, frozen=True):
    """The acknowledged moves, and the numbers of all events, and of events and runs that are left or deleted."""

    acknowledged: Acknowledged
    events: int
    events_left: int
    runs_left: int
    runs_deleted: int


async def assert_agreement(folder: Path, engine: Engine) -> Agreed:
    """Assert that the store is exactly what the moves made it, and that every subscriber saw all of it."""
    last_position = await engine.last_position()
    acknowledged = read_acknowledged(folder, last_position)
    deleted = _assert_deleted_by_moves(engine.path, acknowledged)
    runs = await _runs(engine)
    assert runs == acknowledged.created - deleted
    events = [noted(each) async for each in engine.events()]
    _assert_acknowledged(events, acknowledged, runs)
    for path in sorted(folder.glob("*.all")):
        _assert_followed(path, events, acknowledged, runs)
    for path in sorted(folder.glob("*.shared")):
        seen, expected = list(_followed(path)), [each for each in events if each.run_id == SHARED]
        assert seen == expected, f"{path.name} does not hold the shared run's events"
    carried_over = [each for each in events if each.event_type == "SourceCarriedOver"]
    model = replay(folder, runs | {acknowledged.sources.get(each, each) for each in runs}, carried_over)
    for run_id in sorted(runs):
        await _assert_run(model, engine, run_id)
    await _assert_whole(engine, acknowledged)
    return Agreed(acknowledged, last_position, len(events), len(runs), len(deleted))


def _assert_deleted_by_moves(database: Path, acknowledged: Acknowledged) -> set[str]:
    """Assert that each deleted run was deleted by a move that named it or collected; return these runs."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        deleted = connection.execute("SELECT run_id, reason, events FROM deleted_runs").fetchall()
    finally:
        connection.close()
    for run_id, reason, events in deleted:
        assert acknowledged.removals[reason] in (None, run_id)
        assert acknowledged.events[run_id] <= events, run_id
    assert len(deleted) == len({run_id for run_id, _, _ in deleted})
    return {run_id for run_id, _, _ in deleted}


async def _runs(engine: Engine) -> set[str]:
    page = await engine.runs(limit=1000)
    found = {each.run_id for each in page}
    while page.cursor is not None:
        page = await engine.runs(limit=1000, cursor=page.cursor)
        found |= {each.run_id for each in page}
    return found


def _assert_acknowledged(events: list[Noted], acknowledged: Acknowledged, runs: Collection[str]) -> None:
    """Assert that exactly the acknowledged events are recorded, and that they are the same."""
    found, versions = Counter[str](), Counter[tuple[str, str]]()
    for each in events:
        mark = acknowledged.marks[each.position]
        assert mark == each.mark or (mark == 0 and each.event_type in BY_THE_STORE), f"no move was acknowledged {each}"
        found[each.run_id] += mark != 0
        versions[each.run_id, each.branch] += 1
        assert each.version == versions[each.run_id, each.branch]
    expected = {run_id: acknowledged.events[run_id] for run_id in runs}
    assert found == expected, f"acknowledged but missing: {Counter(expected) - found}"


def _followed(path: Path) -> Iterator[Noted]:
    with path.open("rb") as file:
        for line in file:
            yield msgspec.json.decode(line, type=Noted)


def _assert_followed(path: Path, events: list[Noted], acknowledged: Acknowledged, runs: Collection[str]) -> None:
    """Assert that a subscriber saw each event that is left once, in order, and of deleted runs only real events."""
    coming, last = iter(events), 0
    for seen in _followed(path):
        assert seen.position > last, f"{path.name}: {seen} came after {last}"
        last = seen.position
        if seen.run_id in runs:
            assert seen == next(coming, None), f"{path.name}: {seen} came too early"
        else:
            mark = acknowledged.marks[seen.position]
            unacknowledged = seen.event_type in BY_THE_STORE or seen.run_id in acknowledged.lost
            assert mark == seen.mark or (mark == 0 and unacknowledged), seen
    assert next(coming, None) is None, f"{path.name} ends too early"


def _assert_same(found: object, expected: object, *where: object) -> None:
    assert found == expected, f"at {where} there is {found}, not {expected}"


async def _assert_run(model: Model, engine: Engine, run_id: str) -> None:
    run = await engine.run(run_id)
    log = await run.compile()
    _assert_branch(model, run_id, log)
    for (of_run, name), branch in model.branches.items():
        if of_run == run_id:
            any_one = random.Random(f"{run_id} {name}").choice([1, *branch.writes])
            for version in {min(branch.writes, default=1), any_one}:
                found = await (await run.branch(name)).parameters(at=version)
                _assert_same(exactly(found), exactly(model.seen((run_id, name), version)), run_id, name, version)


def _assert_branch(model: Model, run_id: str, log: BranchLog) -> None:
    branch = model.branches[run_id, log.branch]
    _assert_same(log.status, branch.status, run_id, log.branch)
    _assert_same(exactly(log.parameters), exactly(model.seen((run_id, log.branch))), run_id, log.branch)
    for name, step in branch.steps.items():
        _assert_same(_as_found(log.steps[name], step.carried), _as_said(step), run_id, log.branch, name)
    inherited = {name: _as_inherited(step) for name, step in log.steps.items() if name not in branch.steps}
    stood = model.inherited_steps((run_id, log.branch))
    expected = {name: (each.status, each.message, each.attempts) for name, each in stood.items()}
    _assert_same(inherited, expected, run_id, log.branch)
    _assert_same(list(log.branches), branch.children, run_id, log.branch)
    for child in log.branches.values():
        _assert_branch(model, run_id, child)


def _as_found(step: StepLog, carried: int) -> object:
    """Return a step without the attempts carried over from a source, which have new ids."""
    attempts = [(each.attempt_id, each.status, each.external_id) for each in step.attempts[carried:]]
    return step.status, step.message, len(step.attempts), attempts


def _as_said(step: ModelStep) -> object:
    attempts = [(each.attempt_id, each.status, each.external_id) for each in step.attempts]
    return step.status, step.message, step.carried + len(attempts), attempts


def _as_inherited(step: StepLog) -> object:
    return step.status, step.message, len(step.attempts)


async def _assert_whole(engine: Engine, acknowledged: Acknowledged) -> None:
    """Assert that chains and views verify, and that the checkpoints taken on the way hold."""
    assert (await engine.verify()).problems == []
    assert await engine.verify_views() == []
    for since in acknowledged.checkpoints:
        verified = await engine.verify(since=Checkpoint.from_json(since))
        assert [each for each in verified.problems if not is_deletion(each)] == []
    assert_whole(engine.path)
