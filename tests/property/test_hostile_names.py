"""Texts that mean something elsewhere, through every public method: each comes back exactly or is refused."""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from engine import Engine, Run, open_engine
from engine.errors import AnabranchError
from tests.exports import exported, imported
from tests.property.attacked import World, texts_of
from tests.property.hostile import NAMES, TEXTS, TRICKS, may_be_a_name
from tests.property.public_face import FACES, NO_NAMES, Case, cases
from tests.property.test_forks import check

QUICK = settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
MANY = settings(QUICK, max_examples=10_000)

CASES = [case for case in cases() if case.takes == "name"]

_NOT_RECORDED = {"idempotency_key", "handle.operator_type"}
"""Places of texts that no event holds. An update of an external run keeps its operator, whatever the handle says."""

Attack: TypeAlias = Callable[[Case, Any], None]


@pytest.fixture
def attack(tmp_path: Path) -> Iterator[Attack]:
    """Return a function that passes an object to a case's method, on a store that lasts for the whole test."""
    with asyncio.Runner() as runner:
        world = World(tmp_path)
        yield lambda case, given: runner.run(_attacked(world, case, given))
        runner.run(world.close())


async def _attacked(world: World, case: Case, given: Any) -> None:
    recorded = await world.attack(case, given)
    if recorded and given and isinstance(given, str) and case.place not in _NOT_RECORDED:
        assert any(text == given or text.endswith(f".{given}") for each in recorded for text in texts_of(each))


def _fits(case: Case, given: Any) -> bool:
    """Return whether Python can pass the arguments: keys must be hashable, and names of keyword arguments texts."""
    try:
        return all(isinstance(name, str) for name in case.make(given))
    except TypeError:
        return False


def test_all_that_is_public_is_attacked() -> None:
    """The cases include known places on seven faces, and every parameter that `NO_NAMES` lists exists."""
    parameters = {
        name
        for face in FACES
        for _, method in inspect.getmembers(face, inspect.isfunction)
        for name in inspect.signature(method).parameters
    }
    assert NO_NAMES.keys() <= parameters
    attacked = {str(case) for case in CASES}
    assert {
        "Engine.pin(run_id)",
        "Run.fork(name)",
        "Branch.set_parameters(values.key)",
        "Attempt.update(status)",
        "PartitionedRunLogStore.add_step_log(step_log.internal_name)",
        "SQLiteStateStore.create_run(handle.run_id)",
        "AnabranchRunLogStore.get_parameters(internal_branch_name)",
    } <= attacked


def test_every_place_is_given_a_trick(attack: Attack) -> None:
    """Every place for a name, given one trick, records it exactly or raises an engine error and records nothing."""
    for number, case in enumerate(CASES):
        attack(case, TRICKS[number % len(TRICKS)])


@QUICK
@given(case=st.sampled_from(CASES), given=NAMES)
def test_a_hostile_name(attack: Attack, case: Case, given: Any) -> None:
    """Whatever is passed as a name is recorded exactly, or nothing is recorded."""
    assume(_fits(case, given))
    attack(case, given)


@pytest.mark.slow
@MANY
@given(case=st.sampled_from(CASES), given=NAMES)
def test_ten_thousand_hostile_names(attack: Attack, case: Case, given: Any) -> None:
    """Each of ten thousand drawn names is recorded exactly, or nothing is recorded."""
    assume(_fits(case, given))
    attack(case, given)


async def _comes_back(engine: Engine, name: str) -> None:
    """Use one name for everything that has a name, and read it back exactly from everywhere."""
    run = await engine.create_run(name, parameters={name: name}, tag=name, status=name)
    branch = await run.fork(name, status=name)
    await branch.set_parameters({name: 1}, idempotency_key=name)
    attempt = await branch.start_attempt(name, attempt_id=name, status=name, operator_key=name)
    await run.reduce([branch], rules={name: "last"})
    await run.set_status(name, name)
    fork = await engine.fork_run(name, run_id=f"{name[:100]}, again", branch=name, from_step=name)
    await _is_found(engine, run, name)
    assert (await run.find_attempt(name)).step == attempt.step == name
    assert (await fork.info()).original_run_id == name
    assert (await branch.set_parameters({name: 1}, idempotency_key=name)).duplicate
    await _goes_along(engine, name)


async def _is_found(engine: Engine, run: Run, name: str) -> None:
    assert name in [each.run_id for each in await engine.runs(tag=name)]
    assert await run.children() == [name]
    assert (await run.parameters(names=[name]))[name].value == 1
    assert list(await (await run.branch(name)).steps()) == [name]
    assert (await run.lineage(name)).sources[0].branch == name
    assert (await run.info()).status == name
    assert [each.branch async for each in engine.events(run_id=name, branch=name)] == [name] * 4


async def _goes_along(engine: Engine, name: str) -> None:
    export = await exported(engine)
    async with open_engine(engine.path.with_name("other.db"), durability="relaxed") as other:
        await imported(other, export)
        assert await exported(other) == export
        await other.pin(name, name)
        await other.unpin(name, name)
        await other.delete_run(name, f"because of {name}", carry_over=True)
        with pytest.raises(AnabranchError):
            await other.run(name)
        assert await other.verify_views() == []


@settings(max_examples=15)
@given(TEXTS.filter(may_be_a_name).filter(lambda name: len(name.encode()) < 400))
def test_a_name_means_only_itself(name: str) -> None:
    """An accepted name comes back exactly from every read, and from an export and an import."""
    check(lambda engine: _comes_back(engine, name))


@pytest.mark.slow
@settings(max_examples=500)
@given(TEXTS.filter(may_be_a_name).filter(lambda name: len(name.encode()) < 400))
def test_many_names_mean_only_themselves(name: str) -> None:
    """Each of many more accepted names comes back exactly from every read, and from an export and an import."""
    check(lambda engine: _comes_back(engine, name))


async def test_look_alikes_stay_apart(engine: Engine) -> None:
    """Look-alike names (composed and decomposed, Cyrillic and Latin, wide and narrow, in both cases) stay distinct."""
    names = sorted({text for text in TRICKS if may_be_a_name(text)})
    for name in names:
        await engine.create_run(name)
    run = await engine.run(names[0])
    for name in names:
        await run.fork(name)
    await run.set_parameters({name: name for name in names})
    assert sorted(each.run_id for each in await engine.runs(limit=1000)) == names
    assert sorted(await run.children()) == names
    assert {name: each.value for name, each in (await run.parameters()).items()} == {name: name for name in names}


@given(TEXTS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hostile_paths(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """A relative path creates its file below the current folder, or raises an error with a printable message."""
    folder = tmp_path_factory.mktemp("folder")
    monkeypatch.chdir(folder)
    assume(not Path(path).is_absolute() and ".." not in Path(path).parts and not path.startswith("file:"))
    asyncio.run(_opened(path, folder))


async def _opened(path: str, folder: Path) -> None:
    refused: AnabranchError | None = None
    try:
        async with open_engine(path) as engine:
            await engine.create_run("r")
            assert engine.path.is_relative_to(folder)
            assert engine.path.is_file()
    except AnabranchError as error:
        refused = error
    assert str(refused).isprintable()
