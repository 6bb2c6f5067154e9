"""Lineage: the event that wrote a value, what it was made of, and what it overwrote."""

import contextlib
import sqlite3
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from engine import Branch, Engine, Run
from engine.commands import StartAttempt, UpdateAttempt
from engine.errors import ParameterNotFound
from engine.lineage import ForkPoint
from engine.model import ERASED, AttemptChanges, Parameter
from engine.stores import PartitionedRunLogStore
from tests.contract.families import branches, family, place, record


class TestEvent:
    async def test_a_value_names_the_event_that_set_it(self, engine: Engine) -> None:
        """A value's lineage has the run, branch, version, position, time, id and hash of the event that set it."""
        run = await engine.create_run("r", parameters={"y": 1})
        recorded = (await run.set_parameters({"x": Parameter(2, "metric")})).events[0]
        found = await run.lineage("x")
        assert (found.value, found.how, found.rule) == (Parameter(2, "metric"), "set", None)
        for fact in ("run_id", "branch", "stream_version", "position", "recorded_at", "event_id", "hash"):
            assert getattr(found, fact) == getattr(recorded, fact)

    async def test_a_set_value_was_made_of_nothing(self, engine: Engine) -> None:
        """A value that was set has no sources, conflicts or history, and overwrote nothing if it was the first."""
        run = await engine.create_run("r", parameters={"x": 1})
        found = await run.lineage("x")
        assert (found.sources, found.passed_over, found.more, found.conflicts) == ([], [], 0, [])
        assert (found.overwrote, found.history, found.inherited_through) == (None, [], [])

    async def test_the_value_is_the_events_own(self, engine: Engine, database: Path) -> None:
        """The lineage takes the value from the event, not from a view row that may have been changed."""
        run = await engine.create_run("r", parameters={"x": 1})
        with contextlib.closing(sqlite3.connect(database)) as outside, outside:
            outside.execute("UPDATE parameters SET value = '7'")
        assert (await run.lineage("x")).value == Parameter(1)

    @pytest.mark.parametrize(("at", "value"), [(2, 1), (3, 1), (4, 2), (None, 2)])
    async def test_a_value_is_that_of_the_point_that_is_asked_for(
        self, engine: Engine, at: int | None, value: int
    ) -> None:
        """The lineage is as of a version or a time if one is given, else as of now."""
        run = await engine.create_run("r", parameters={"x": 1})
        await run.set_status("RUNNING")
        later = await run.set_parameters({"x": 2})
        assert (await run.lineage("x", at=at)).value == Parameter(value)
        assert (await run.lineage("x", at=later.events[0].recorded_at)).value == Parameter(2)
        assert (await run.lineage("x", at=later.events[0].recorded_at - timedelta(microseconds=1))).value.value == 1


class TestForks:
    async def test_a_copy_names_what_was_carried_over_to_its_run(self, engine: Engine) -> None:
        """A copied parameter names the carried-over value as its source, although that was recorded later."""
        await engine.create_run("r0", parameters={"x": 1})
        run = await engine.fork_run("r0", run_id="r")
        await PartitionedRunLogStore(engine, inherited=False).copy_parameters_to_branch("r", None, "b")
        await engine.delete_run("r0", "old", carry_over=True)
        found = await (await run.branch("b")).lineage("x")
        assert (found.how, [(each.run_id, each.how) for each in found.sources]) == ("copied", [("r", "carried")])

    async def test_an_inherited_value_names_the_forks_that_it_came_through(self, engine: Engine) -> None:
        """An inherited value lists the fork points that it came through, nearest first, across runs."""
        source = await engine.create_run("r0", parameters={"x": 1})
        a = await source.fork("a")
        run = await engine.fork_run("r0", run_id="r", branch="a")
        b = await run.fork("b")
        await source.set_parameters({"x": 2})
        found = await b.lineage("x")
        assert place(found) == ("r0", "", 2)
        assert found.inherited_through == [ForkPoint("r", "", 1), ForkPoint("r0", a.name, 1), ForkPoint("r0", "", 2)]

    async def test_a_branchs_own_value_came_through_no_fork(self, engine: Engine) -> None:
        """A value that a branch set itself has no fork points."""
        run = await engine.create_run("r", parameters={"x": 1})
        child = await run.fork("a")
        await child.set_parameters({"x": 2})
        found = await child.lineage("x")
        assert (place(found), found.inherited_through) == (("r", "a", 2), [])

    async def test_a_childs_value_is_not_seen(self, engine: Engine) -> None:
        """The lineage of a parameter that only child branches have set raises ParameterNotFound."""
        run, _ = await family(engine, {"a": 1, "b": 2})
        with pytest.raises(ParameterNotFound):
            await run.lineage("x")

    async def test_the_trail_ends_where_a_source_was_deleted(self, engine: Engine) -> None:
        """For a value of a deleted source, the lineage ends at the event that carried it over."""
        source = await engine.create_run("r0", parameters={"x": 1, "y": 1})
        await source.set_parameters({"x": 2})
        run = await engine.fork_run("r0", run_id="r")
        child = await run.fork("a")
        await run.set_parameters({"y": 3})
        await engine.delete_run("r0", "no longer needed", carry_over=True)
        found = await child.lineage("x")
        kept = [each async for each in engine.events(run_id="r", types=["SourceCarriedOver"])]
        assert (found.value, found.how, found.hash) == (Parameter(2), "carried", kept[0].hash)
        assert (place(found), found.overwrote) == (("r", "", kept[0].stream_version), None)
        own = await run.lineage("y", history=True)
        assert [(each.how, each.value.value) for each in [own, *own.history]] == [("set", 3), ("carried", 1)]


class TestReduction:
    @pytest.mark.parametrize(
        ("rule", "values", "taken", "passed_over"),
        [
            ("last", [1, 2, 3], ["c"], ["a", "b"]),
            ("first", [1, 2, 3], ["a"], ["b", "c"]),
            ("min", [2, 1, 3], ["b"], ["a", "c"]),
            ("max", [2, 1, 3], ["c"], ["a", "b"]),
            ("sum", [1, 2, 3], ["a", "b", "c"], []),
            ("mean", [1, 2, 3], ["a", "b", "c"], []),
            ("collect", [1, 2, 3], ["a", "b", "c"], []),
            ("concat", [[1], [], [3]], ["a", "b", "c"], []),
            ("merge", [{"k": 1}, {}, {"k": 3}], ["a", "b", "c"], []),
            ("unanimous", [1, 1, 1], ["a", "b", "c"], []),
        ],
    )
    async def test_a_reduced_value_names_what_it_was_made_of(
        self, engine: Engine, rule: str, values: list[Any], taken: list[str], passed_over: list[str]
    ) -> None:
        """A reduced value names the child events that the rule took and those that it passed over, in order."""
        run, _ = await family(engine, dict(zip("abc", values, strict=True)))
        reduction = await run.reduce(rules={"x": rule})
        found = await run.lineage("x")
        assert (found.how, found.rule, found.value) == ("reduced", rule, reduction.values["x"])
        assert (branches(found.sources), branches(found.passed_over), found.more) == (taken, passed_over, 0)
        assert [each.stream_version for each in found.sources] == [2] * len(taken)

    async def test_a_function_took_all_values(self, engine: Engine) -> None:
        """A value reduced by a function names all child events as sources and "function" as its rule."""
        run, _ = await family(engine, {"a": 1, "b": 2})
        await run.reduce(rules={"x": lambda values: {"of": values}})
        found = await run.lineage("x")
        assert (found.rule, branches(found.sources)) == ("function", ["a", "b"])

    async def test_children_that_wrote_nothing_under_the_name_have_no_part(self, engine: Engine) -> None:
        """A child that did not set the parameter is neither a source nor passed over."""
        run, (a, _) = await family(engine, {"a": 1, "b": 2})
        silent = await run.fork("silent")
        await silent.set_parameters({"y": 1})
        await run.reduce([a, silent])
        found = await run.lineage("x")
        assert (branches(found.sources), found.passed_over, found.more) == (["a"], [], 0)

    async def test_a_source_is_the_childs_value_at_the_reduction(self, engine: Engine) -> None:
        """Sources and passed-over values are the children's as of the reduction, whatever they set later."""
        run, children = await family(engine, {"a": 1, "b": 2})
        await run.reduce(rules={"x": "min"})
        for child in children:
            await child.set_parameters({"x": 100})
        found = await run.lineage("x")
        assert [(each.branch, each.value.value) for each in [*found.sources, *found.passed_over]] == [
            ("a", 1),
            ("b", 2),
        ]

    async def test_a_walk_is_in_the_order_of_the_answer(self, engine: Engine) -> None:
        """`walk` gives each value before its sources, and then what it overwrote, newest first."""
        run = await engine.create_run("r", parameters={"x": 0})
        children = [await run.fork(name) for name in "ab"]
        for values in ((1, 2), (3, 4)):
            for child, value in zip(children, values, strict=True):
                await child.set_parameters({"x": value})
            await run.reduce(rules={"x": "sum"})
        walked = (await run.lineage("x", history=True)).walk()
        assert [each.value.value for each in walked] == [7, 3, 4, 3, 1, 2, 0]

    async def test_a_reduction_is_followed_through_reductions(self, engine: Engine) -> None:
        """The lineage follows nested reductions down to the event that set the value, also from a forked run."""
        run = await engine.create_run("r")
        outer = await run.fork("outer")
        inner = await outer.fork("inner")
        await inner.set_parameters({"x": 1})
        await outer.reduce()
        await run.reduce()
        forked = await engine.fork_run("r", run_id="r2")
        found = await forked.lineage("x")
        assert [(each.run_id, each.branch, each.how) for each in found.walk()] == [
            ("r", "", "reduced"),
            ("r", "outer", "reduced"),
            ("r", "outer.inner", "set"),
        ]

    @pytest.mark.parametrize(("rule", "taken"), [("last", [False, True]), ("sum", [True, True])])
    async def test_conflicts_say_whose_value_was_taken(self, engine: Engine, rule: str, taken: list[bool]) -> None:
        """A reduced value's conflicts have their three sides and say whether the child's value was taken."""
        run = await engine.create_run("r", parameters={"x": 0})
        for number, name in enumerate("ab", start=1):
            child = await run.fork(name)
            await child.set_parameters({"x": number, "y": number})
        await run.set_parameters({"x": 10, "y": 20})
        await run.reduce(rules={"x": rule, "y": rule})
        found = await run.lineage("x")
        assert [(each.branch, each.taken) for each in found.conflicts] == list(zip("ab", taken, strict=True))
        sides = [(each.base, each.parent, each.child) for each in found.conflicts]
        assert sides == [(Parameter(0), Parameter(10), Parameter(number)) for number in (1, 2)]
        assert [each.base for each in (await run.lineage("y")).conflicts] == [None, None]


class TestOverwritten:
    async def test_a_value_names_what_the_branch_saw_before(self, engine: Engine) -> None:
        """A value names as overwritten the branch's earlier value, or else the one inherited as of the fork."""
        run = await engine.create_run("r", parameters={"x": 0})
        child = await run.fork("a")
        await run.set_parameters({"x": 10})
        await child.set_parameters({"x": 1})
        await child.set_parameters({"x": 2})
        await run.reduce()
        found = await run.lineage("x")
        assert place(found.overwrote) == ("r", "", 3)
        assert place(found.sources[0].overwrote) == ("r", "a", 2)
        assert place((await child.lineage("x", at=2)).overwrote) == ("r", "", 2)

    async def test_history_goes_back_to_the_first(self, engine: Engine) -> None:
        """`history` lists the overwritten values, newest first, through the forks, each with its own sources."""
        run = await engine.create_run("r", parameters={"x": 0})
        child = await run.fork("a")
        await child.set_parameters({"x": 1})
        await run.reduce()
        below = await run.fork("b")
        await below.set_parameters({"x": 2})
        found = await below.lineage("x", history=True)
        assert [place(each) for each in found.history] == [("r", "", 3), ("r", "", 2)]
        assert [branches(each.sources) for each in found.history] == [["a"], []]
        assert [place(each.overwrote) for each in [found, *found.history]] == [("r", "", 3), ("r", "", 2), None]

    async def test_a_limit_shortens_history(self, engine: Engine) -> None:
        """`limit` shortens the history, whose last entry names what it overwrote."""
        run = await engine.create_run("r")
        for value in range(5):
            await run.set_parameters({"x": value})
        found = await run.lineage("x", history=True, limit=2)
        assert [each.value.value for each in found.history] == [3, 2]
        assert place(found.history[-1].overwrote) == ("r", "", 3)


async def test_which_attempt_was_open_does_not_change_with_the_times_it_is_given(engine: Engine) -> None:
    """Which attempt was open when a value was set follows from the order of events, not from the attempt's times."""
    run = await engine.create_run("r")
    attempt = await run.start_attempt("train")
    await run.set_parameters({"x": 1})
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    await attempt.update(status="COMPLETED", submitted_at=long_ago, ended_at=long_ago)
    await run.set_parameters({"y": 1})
    during = [(await run.lineage(name)).during for name in "xy"]
    assert [each and each.step for each in during] == ["train", None]


class TestErased:
    async def test_what_was_erased_is_shown_as_erased(self, engine: Engine) -> None:
        """Erased values are shown as erased in the lineage; hashes, rules and sources stay."""
        run, _ = await family(engine, {"a": 1, "b": 2})
        await run.reduce(rules={"x": "sum"})
        before = await run.lineage("x")
        await engine.erase("r", "", 2, "asked to")
        await engine.erase("r", "a", 2, "asked to")
        found = await run.lineage("x")
        assert [each.value for each in found.walk()] == [ERASED, ERASED, Parameter(2)]
        assert [(each.hash, each.rule) for each in found.walk()] == [(each.hash, each.rule) for each in before.walk()]


class TestDuring:
    """An event is recorded during an attempt if that is the only open attempt of its branch."""

    @staticmethod
    async def inside(child: Branch, _run: Run) -> None:
        async with child.attempt("s"):
            await child.set_parameters({"x": 1})

    @staticmethod
    async def retried(child: Branch, _run: Run) -> None:
        async with child.attempt("s"):
            pass
        async with child.attempt("s"):
            await child.set_parameters({"x": 1})

    @staticmethod
    async def left_open(child: Branch, _run: Run) -> None:
        await child.start_attempt("s")
        await child.set_parameters({"x": 1})

    @staticmethod
    async def updated(child: Branch, _run: Run) -> None:
        attempt = await child.start_attempt("s")
        await attempt.update(message="half way")
        await child.set_parameters({"x": 1})

    @staticmethod
    async def reopened(child: Branch, _run: Run) -> None:
        attempt = await child.start_attempt("s")
        await attempt.finish("FAILED")
        await attempt.update(status="RUNNING", ended_at=None)
        await child.set_parameters({"x": 1})

    @staticmethod
    async def in_one_transaction(child: Branch, _run: Run) -> None:
        await child.write(
            StartAttempt(branch="a", step="s", attempt_id="i", status="RUNNING"),
            record("a", 1),
            UpdateAttempt(branch="a", attempt_id="i", changes=AttemptChanges(status="COMPLETED")),
        )

    @staticmethod
    async def after(child: Branch, _run: Run) -> None:
        async with child.attempt("s"):
            pass
        await child.set_parameters({"x": 1})

    @staticmethod
    async def before(child: Branch, _run: Run) -> None:
        await child.set_parameters({"x": 1})
        await child.start_attempt("s")

    @staticmethod
    async def two_open(child: Branch, _run: Run) -> None:
        await child.start_attempt("s")
        await child.start_attempt("t")
        await child.set_parameters({"x": 1})

    @staticmethod
    async def on_another_branch(child: Branch, run: Run) -> None:
        async with run.attempt("s"):
            await child.set_parameters({"x": 1})

    @pytest.mark.parametrize(
        ("write", "index"),
        [
            (inside, 1),
            (retried, 2),
            (left_open, 1),
            (updated, 1),
            (reopened, 1),
            (in_one_transaction, 1),
            (after, 0),
            (before, 0),
            (two_open, 0),
            (on_another_branch, 0),
        ],
        ids=lambda each: getattr(each, "__name__", ""),
    )
    async def test_the_attempt_that_was_open(
        self, engine: Engine, write: Callable[[Branch, Run], Awaitable[None]], index: int
    ) -> None:
        """`during` names the attempt if exactly one was open on the branch, else it is None."""
        run = await engine.create_run("r")
        child = await run.fork("a")
        await write(child, run)
        during = (await child.lineage("x")).during
        attempts = {each.attempt_index: each for each in await child.attempts("s")}
        if not index:
            assert during is None
        else:
            assert during is not None
            assert (during.step, during.attempt_index) == ("s", index)
            assert during.attempt_id == attempts[index].attempt_id
            assert during.status == attempts[index].status
