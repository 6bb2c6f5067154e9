"""Reductions through the handles: what is folded, in which order, and what is refused."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from engine import Branch, Engine
from engine.errors import BranchNotFound, InvalidValue, ReductionConflict, ReductionImpossible
from engine.model import Parameter, Source


async def family(engine: Engine) -> tuple[Branch, list[Branch]]:
    """Create a parent with two children that have each set `x`; the parent has changed `stale` since."""
    run = await engine.create_run("r", parameters={"x": 0, "stale": "old"})
    children = [await run.fork(name) for name in ("a", "b")]
    for number, child in enumerate(children, start=1):
        await child.set_parameters({"x": number})
    await run.set_parameters({"stale": "fresh"})
    return run, children


class TestReduction:
    async def test_a_stale_inherited_copy_overwrites_nothing(self, engine: Engine) -> None:
        """A reduction folds only what the children set themselves, not inherited values."""
        run, _ = await family(engine)
        reduction = await run.reduce(rules={"x": "sum"})
        assert reduction.values == {"x": Parameter(3)}
        assert reduction.sources == {"x": [Source("a", 2), Source("b", 2)]}
        assert await run.parameters() == {"x": Parameter(3), "stale": Parameter("fresh")}

    async def test_children_are_taken_in_the_order_given(self, engine: Engine) -> None:
        """Children are reduced in the order given, as handles or by name."""
        run, (a, b) = await family(engine)
        assert (await run.reduce([b, a])).values == {"x": Parameter(1)}
        assert (await run.reduce(["b"])).values == {"x": Parameter(2)}
        assert (await run.reduce([])).values == {}

    async def test_a_branch_of_another_run_is_refused(self, engine: Engine) -> None:
        """A branch of another run raises InvalidValue, even if this run has a branch of that name."""
        run, _ = await family(engine)
        other = await engine.create_run("other")
        stranger = await other.fork("a")
        with pytest.raises(InvalidValue, match="'a' is a branch of another run, 'other'"):
            await run.reduce([stranger])

    async def test_conflicts_can_be_an_error_or_left_to_the_parent(self, engine: Engine) -> None:
        """`on_conflict="error"` names every conflict and its values, and records nothing; `"parent"` keeps its own."""
        run, _ = await family(engine)
        await run.set_parameters({"x": 100})
        last = await engine.last_position()
        with pytest.raises(ReductionConflict) as caught:
            await run.reduce(on_conflict="error")
        assert [(each.branch, each.parent.value) for each in caught.value.conflicts] == [("a", 100), ("b", 100)]
        assert await engine.last_position() == last
        kept = await run.reduce(on_conflict="parent")
        assert (kept.values, len(kept.conflicts)) == ({}, 2)
        assert (await run.parameters())["x"] == Parameter(100)

    @pytest.mark.parametrize("erased", ["base parent", "parent child", "child", "base parent child"])
    async def test_what_was_erased_agrees_with_nothing(self, engine: Engine, erased: str) -> None:
        """An erased base, parent or child value always counts as a conflict; `"parent"` keeps the parent's value."""
        run = await engine.create_run("r", parameters={"x": "base"})
        child = await run.fork("a")
        await child.set_parameters({"x": "child"})
        await run.set_parameters({"x": "parent"})
        places = {"base": ("", 2), "parent": ("", 3), "child": ("a", 2)}
        for name in erased.split():
            await engine.erase("r", *places[name], "asked to")
        with pytest.raises(ReductionImpossible if "child" in erased else ReductionConflict):
            await run.reduce(on_conflict="error")
        kept = await run.reduce(on_conflict="parent")
        assert (kept.values, [conflict.name for conflict in kept.conflicts]) == ({}, ["x"])
        assert (await engine.verify()).problems == []

    async def test_what_a_child_set_as_it_was_is_its_own_write(self, engine: Engine) -> None:
        """Setting a parameter to its inherited value is a write and conflicts with a change of the parent."""
        run = await engine.create_run("r", parameters={"x": 1})
        child = await run.fork("a")
        await child.set_parameters({"x": 1})
        await run.set_parameters({"x": 2})
        with pytest.raises(ReductionConflict, match="conflicts on 'x'"):
            await run.reduce(on_conflict="error")
        assert (await run.reduce(on_conflict="parent")).values == {}
        assert (await run.parameters())["x"].value == 2
        assert (await run.reduce()).values == {"x": Parameter(1)}

    @pytest.mark.parametrize(
        ("ask", "error"),
        [
            (lambda run: run.reduce(["nobody"]), BranchNotFound),
            (lambda run: run.reduce(["nobody"], rules={"x": max}), BranchNotFound),
            (lambda run: run.reduce(["a", "a"]), InvalidValue),
            (lambda run: run.reduce("a"), InvalidValue),
            (lambda run: run.parameters(names="a"), InvalidValue),
            (lambda run: run.parameters(names=5), InvalidValue),
            (lambda run: run.log_step("s", attempts=[{"status": "FAILED"}]), InvalidValue),
            (lambda run: run.reduce(rules={"x": "median"}), ReductionImpossible),
            (lambda run: run.reduce(default="median"), ReductionImpossible),
            (lambda run: run.reduce(rules={"x": "merge"}), ReductionImpossible),
            (lambda run: run.reduce(on_conflict="both"), InvalidValue),
            (lambda run: run.reduce(rules={"x": lambda values: object()}), InvalidValue),
        ],
    )
    async def test_what_cannot_be_reduced_is_refused(
        self, engine: Engine, ask: Callable[[Branch], Awaitable[Any]], error: type[Exception]
    ) -> None:
        """An invalid child, name, rule, option or result raises a typed error and records nothing."""
        run, _ = await family(engine)
        last = await engine.last_position()
        with pytest.raises(error):
            await ask(run)
        assert await engine.last_position() == last

    async def test_a_grandchild_is_reduced_by_its_parent(self, engine: Engine) -> None:
        """A branch can be reduced only into the branch that it was forked from."""
        run = await engine.create_run("r")
        outer = await run.fork("outer")
        inner = await outer.fork("inner")
        await inner.set_parameters({"x": 1})
        with pytest.raises(InvalidValue, match=r"'outer\.inner' is not forked from branch ''"):
            await run.reduce([inner])
        await outer.reduce()
        await run.reduce()
        assert await run.parameters() == {"x": Parameter(1)}
