"""`Engine.verify` with a checkpoint: rewritten stores that are valid in themselves are found."""

import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from engine import Engine, open_engine
from engine.errors import CheckpointOfAnotherStore, InvalidValue
from engine.model import Parameter
from tests.forger import change, close_gaps, cut_off, delete_run, rewrite
from tests.tampered import Tampered, found, record_three_runs, tampering

Forge = Callable[[sqlite3.Connection], None]


@pytest.fixture
async def store(engine: Engine, database: Path) -> AsyncIterator[Tampered]:
    """The rows of a store of three runs."""
    await record_three_runs(engine)
    with tampering(database) as tampered:
        yield tampered


def tail_cut_off(connection: sqlite3.Connection) -> None:
    cut_off(connection, "f", "", 1)


def tail_written_anew(connection: sqlite3.Connection) -> None:
    rewrite(connection, change(("f", "", 2), values={"z": Parameter(2)}))


def last_run_deleted(connection: sqlite3.Connection) -> None:
    delete_run(connection, "f")


def another_run_instead(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE streams SET run_id = 'F' WHERE run_id = 'f'")
    rewrite(connection, lambda _, event: event)


def run_deleted_and_renumbered(connection: sqlite3.Connection) -> None:
    delete_run(connection, "q")
    close_gaps(connection)


def all_written_anew(connection: sqlite3.Connection) -> None:
    rewrite(connection, change(("q", "", 2), values={"z": Parameter(2)}), relink=True)


REWRITES = [
    tail_cut_off,
    tail_written_anew,
    last_run_deleted,
    another_run_instead,
    run_deleted_and_renumbered,
    all_written_anew,
]


@pytest.mark.parametrize("forge", REWRITES)
async def test_what_only_a_checkpoint_shows(engine: Engine, store: Tampered, forge: Forge) -> None:
    """A careful rewrite is found only by verification since a checkpoint."""
    checkpoint = await engine.checkpoint()
    forge(store.connection)
    assert found(await engine.verify()) == []
    problems = (await engine.verify(since=checkpoint)).problems
    assert [(problem.kind, problem.position) for problem in problems] == [("checkpoint", 15)]


@pytest.mark.parametrize("forge", REWRITES)
async def test_what_was_rewritten_and_grew_again(engine: Engine, database: Path, forge: Forge) -> None:
    """A careful rewrite is found since a checkpoint even after new events took the old positions."""
    await record_three_runs(engine)
    checkpoint = await engine.checkpoint()
    with tampering(database) as store:
        forge(store.connection)
    run = await engine.run("r")
    for value in range(4):
        await run.set_parameters({"w": value})
    assert found(await engine.verify()) == []
    assert [problem.kind for problem in (await engine.verify(since=checkpoint)).problems] == ["checkpoint"]


async def test_what_came_after_the_checkpoint_is_fine(engine: Engine, store: Tampered) -> None:
    """New runs, branches and events after a checkpoint are no problem."""
    checkpoints = [await engine.checkpoint()]
    run = await engine.run("r")
    await (await run.fork("late")).set_parameters({"x": 1})
    checkpoints.append(await engine.checkpoint())
    await engine.create_run("new")
    await run.reduce()
    for checkpoint in [*checkpoints, await engine.checkpoint()]:
        assert found(await engine.verify(since=checkpoint)) == []


async def test_a_checkpoint_of_nothing(engine: Engine) -> None:
    """A checkpoint of an empty store holds, also after runs were recorded."""
    checkpoint = await engine.checkpoint()
    assert (checkpoint.position, checkpoint.runs) == (0, 0)
    assert found(await engine.verify(since=checkpoint)) == []
    await record_three_runs(engine)
    assert found(await engine.verify(since=checkpoint)) == []


async def test_a_checkpoint_for_another_store_or_one_run(engine: Engine, tmp_path: Path) -> None:
    """A checkpoint of another store, or one given together with a run, is refused."""
    await record_three_runs(engine)
    async with open_engine(tmp_path / "other.db") as other:
        checkpoint = await other.checkpoint()
        with pytest.raises(CheckpointOfAnotherStore) as caught:
            await engine.verify(since=checkpoint)
    assert (caught.value.checkpoint_store, caught.value.store) == (
        checkpoint.store_id,
        (await engine.checkpoint()).store_id,
    )
    with pytest.raises(InvalidValue):
        await engine.verify("r", await engine.checkpoint())
