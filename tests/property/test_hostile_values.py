"""Values at and beyond the limits, and objects that are not values, through every public method that takes one."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import Engine
from engine.codec import EVENT_BYTES_MAX, encode_canonical, same
from engine.encoding.values import VALUE_DEPTH_MAX
from engine.errors import EventTooLarge, InvalidValue
from engine.events import ParametersSet
from engine.model import Parameter
from tests.property.attacked import World
from tests.property.hostile import BOTTOMLESS, EXTREMES, TRICKS, VALUES, nested
from tests.property.public_face import cases
from tests.property.test_forks import check

QUICK = settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
MANY = settings(QUICK, max_examples=10_000)

CASES = [case for case in cases() if case.takes == "value"]
PLACES = st.sampled_from(range(len(CASES)))

Attack: TypeAlias = Callable[[int, Any], None]


@pytest.fixture
def attack(tmp_path: Path) -> Iterator[Attack]:
    """Return a function that passes a value to a case's method, on a store that lasts for the whole test."""
    with asyncio.Runner() as runner:
        world = World(tmp_path)
        yield lambda place, given: _attack(runner, world, place, given)
        runner.run(world.close())


def _attack(runner: asyncio.Runner, world: World, place: int, given: Any) -> None:
    try:
        runner.run(world.attack(CASES[place], given))
    except Exception as error:
        error.add_note(str(CASES[place]))
        raise


def test_every_place_is_given_an_extreme(attack: Attack) -> None:
    """Every place for a value records, or refuses with a typed error, one extreme value and one 5,000 levels deep."""
    for place in range(len(CASES)):
        attack(place, EXTREMES[place % len(EXTREMES)])
        attack(place, BOTTOMLESS)


@QUICK
@given(place=PLACES, given=VALUES)
def test_a_hostile_value(attack: Attack, place: int, given: Any) -> None:
    """Anything passed as a value or a document is either recorded and readable, or refused with nothing recorded."""
    attack(place, given)


@pytest.mark.slow
@MANY
@given(place=PLACES, given=VALUES)
def test_ten_thousand_hostile_values(attack: Attack, place: int, given: Any) -> None:
    """Ten thousand drawn values are each recorded and readable, or refused with nothing recorded."""
    attack(place, given)


async def _comes_back(engine: Engine, value: Any) -> None:
    """Record a value as a parameter, a config and a detail; what is recorded reads back exactly after a rebuild."""
    run = await engine.create_run("r")
    with contextlib.suppress(InvalidValue, EventTooLarge):
        await run.set_parameters({"p": value})
        await run.configure({"p": value})
        await run.log_step("s", details={"p": value})
    await engine.rebuild()
    found = [event.event.values["p"].value async for event in engine.events(types=[ParametersSet])]  # type: ignore[union-attr]
    log = await run.compile()
    found += [each["p"] for each in (log.config, *(step.details for step in log.steps.values())) if "p" in each]
    found += [parameter.value for parameter in log.parameters.values()]
    for each in found:
        assert same(each, _as_recorded(value))


def _as_recorded(value: Any) -> Any:
    """Return a value with its tuples as lists, the only change that recording makes."""
    if isinstance(value, dict):
        return {name: _as_recorded(member) for name, member in value.items()}
    return [_as_recorded(member) for member in value] if isinstance(value, list | tuple) else value


@settings(max_examples=60)
@given(VALUES)
def test_a_value_is_exact_or_refused(value: Any) -> None:
    """A value reads back exactly, its tuples as lists, or is refused: it is never rounded, cut or turned into text."""
    check(lambda engine: _comes_back(engine, value))


@pytest.mark.slow
@settings(max_examples=1500)
@given(VALUES)
def test_many_values_are_exact_or_refused(value: Any) -> None:
    """Each of many more values reads back exactly, its tuples as lists, or is refused."""
    check(lambda engine: _comes_back(engine, value))


@pytest.mark.parametrize("depth", [VALUE_DEPTH_MAX - 1, VALUE_DEPTH_MAX])
async def test_the_greatest_depth(engine: Engine, depth: int) -> None:
    """Values up to 64 levels deep read back exactly; a 65th level is refused with an error that states the limit."""
    run = await engine.create_run("r")
    await run.set_parameters({"p": nested(depth)})
    assert same((await run.parameters())["p"].value, nested(depth))
    with pytest.raises(InvalidValue, match=f"deeper than {VALUE_DEPTH_MAX} levels"):
        await run.set_parameters({"p": nested(VALUE_DEPTH_MAX + 1)})


async def test_the_greatest_size(engine: Engine) -> None:
    """An event of 1 MiB is recorded and reads back; one byte more raises EventTooLarge, which states the limit."""
    run = await engine.create_run("r")
    around = len(encode_canonical(ParametersSet(branch="", values={"p": Parameter("x" * 100_000)}))) - 100_000
    fits = "x" * (EVENT_BYTES_MAX - around)
    await run.set_parameters({"p": fits})
    assert (await run.parameters())["p"].value == fits
    with pytest.raises(EventTooLarge, match=f"the limit is {EVENT_BYTES_MAX} bytes"):
        await run.set_parameters({"p": fits + "x"})


async def test_a_text_is_exact_or_refused(engine: Engine) -> None:
    """Any text is a valid value and reads back exactly, unless it contains a lone surrogate."""
    run = await engine.create_run("r")
    for number, trick in enumerate(trick for trick in TRICKS if len(trick) < 20_000):
        given = {f"{number}": trick, f"{number}, nested": [{"k": trick}]}
        if any("\ud800" <= character <= "\udfff" for character in trick):
            with pytest.raises(InvalidValue, match="lone surrogate"):
                await run.set_parameters(given)
        else:
            await run.set_parameters(given)
            found = await run.parameters(names=list(given))
            assert {name: each.value for name, each in found.items()} == given
