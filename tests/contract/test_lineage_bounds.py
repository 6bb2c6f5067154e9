"""The limits, refusals and cost of lineage queries."""

import json
import sqlite3
from itertools import pairwise
from typing import Any

import pytest

from engine import Engine
from engine.commands import Command, Fork, Reduce
from engine.encoding.plain_json import plain
from engine.errors import InvalidName, InvalidValue, ParameterNotFound, PointNotFound
from engine.lineage import DEPTH_MAX, LIMIT_MAX, LineageQuery
from projections.lineage import read_lineage
from projections.own_parameters import LATEST
from projections.streams import find_stream
from tests.contract.families import family, place, record


class TestBounds:
    @pytest.mark.parametrize(
        ("rule", "limit", "taken", "passed_over", "more"),
        [("collect", 4, 4, 0, 6), ("min", 4, 1, 3, 6), ("min", 0, 0, 0, 10), ("collect", 10, 10, 0, 0)],
    )
    async def test_what_a_limit_leaves_out_is_counted(
        self, engine: Engine, rule: str, limit: int, taken: int, passed_over: int, more: int
    ) -> None:
        """`more` counts the values that the limit leaves out; sources take precedence over passed-over values."""
        run, _ = await family(engine, {f"b{number}": number for number in range(10)})
        await run.reduce(rules={"x": rule})
        found = await run.lineage("x", limit=limit)
        assert (len(found.sources), len(found.passed_over), found.more) == (taken, passed_over, more)

    async def test_going_on_from_where_a_depth_ended(self, engine: Engine) -> None:
        """The lineage of the last value's branch at its version continues where `depth` ended."""
        await nest(engine, 5)
        run = await engine.run("r")
        whole = list((await run.lineage("x")).walk())
        *above, last = (await run.lineage("x", depth=2)).walk()
        assert (len(above), last.sources, last.passed_over, last.more) == (2, [], [], 1)
        rest = (await run.branch(last.branch)).lineage("x", at=last.stream_version)
        assert [place(each) for each in [*above, *(await rest).walk()]] == [place(each) for each in whole]

    async def test_the_deepest_answer_can_be_printed_compared_and_encoded(self, engine: Engine) -> None:
        """A lineage of the greatest allowed depth can be compared, printed and encoded as JSON."""
        await nest(engine, DEPTH_MAX + 50)
        run = await engine.run("r")
        found = await run.lineage("x", depth=DEPTH_MAX)
        nodes = list(found.walk())
        assert (len(nodes), nodes[-1].more) == (DEPTH_MAX + 1, 1)
        assert found == await run.lineage("x", depth=DEPTH_MAX)
        assert repr(found).count("Lineage(") == len(nodes)
        assert json.dumps(plain(found), indent=2).count('"rule"') == len(nodes)

    async def test_a_history_of_thousands_is_a_flat_list(self, engine: Engine) -> None:
        """A history of ten thousand values is a flat list and can be encoded as JSON."""
        await engine.create_run("r")
        await engine.write("r", *(record("", value) for value in range(10_000)))
        found = await (await engine.run("r")).lineage("x", history=True, limit=LIMIT_MAX)
        assert [each.value.value for each in found.history] == list(range(9_998, -1, -1))
        assert found.history[-1].overwrote is None
        assert json.dumps(plain(found)).count('"rule"') == 10_000


class TestRefused:
    @pytest.mark.parametrize("at", [None, 1])
    async def test_an_unknown_name_is_an_error_that_says_where_it_was_looked_for(
        self, engine: Engine, at: int | None
    ) -> None:
        """ParameterNotFound carries run, branch and name; a parameter set later is unknown as of an earlier version."""
        run = await engine.create_run("r")
        child = await run.fork("a")
        await child.set_parameters({"x" if at else "y": 1})
        with pytest.raises(ParameterNotFound, match="no parameter 'x' in branch 'a' of run 'r'") as caught:
            await child.lineage("x", at=at)
        assert (caught.value.run_id, caught.value.branch, caught.value.name) == ("r", "a", "x")

    @pytest.mark.parametrize(
        ("asked", "error"),
        [
            ({"name": ""}, InvalidName),
            ({"name": 5}, InvalidName),
            ({"at": 3}, PointNotFound),
            ({"at": "x"}, InvalidValue),
            ({"history": 1}, InvalidValue),
            ({"depth": -1}, InvalidValue),
            ({"depth": DEPTH_MAX + 1}, InvalidValue),
            ({"depth": True}, InvalidValue),
            ({"limit": 1.5}, InvalidValue),
            ({"limit": LIMIT_MAX + 1}, InvalidValue),
        ],
    )
    async def test_an_invalid_query_is_refused(
        self, engine: Engine, asked: dict[str, Any], error: type[Exception]
    ) -> None:
        """An invalid name, point, `history`, `depth` or `limit` raises a typed error."""
        run = await engine.create_run("r", parameters={"x": 1})
        with pytest.raises(error):
            await run.lineage(**{"name": "x", **asked})


class TestCost:
    async def test_the_cost_does_not_grow_with_the_log(self, engine: Engine) -> None:
        """A lineage query takes as many SQLite steps after thousands of other events as before them."""
        run, children = await family(engine, {"a": 1, "b": 2})
        await run.reduce(rules={"x": "min"})
        expected = await run.lineage("x")
        steps = count_steps(engine, "r")
        for child in children:
            await engine.write("r", *(record(child.name, value) for value in range(500)))
        await engine.write("r", *(record("", value, name="y") for value in range(500)))
        await engine.create_run("other", parameters={"x": 1})
        await engine.write("other", *(record("", value) for value in range(1000)))
        assert count_steps(engine, "r") == steps
        assert await run.lineage("x") == expected

    async def test_ten_thousand_levels(self, engine: Engine) -> None:
        """In a nest of ten thousand branches, the lineage of the root and of a middle branch can be read."""
        await nest(engine, 10_000)
        run = await engine.run("r")
        assert len(list((await run.lineage("x")).walk())) == 33
        middle = await (await run.branch("b5000")).lineage("x", depth=0)
        assert (middle.how, middle.more) == ("reduced", 1)
        with pytest.raises(ParameterNotFound):
            await (await run.branch("b10000")).lineage("y")


async def nest(engine: Engine, levels: int) -> None:
    """Fork a chain of nested branches that each set `x`, and reduce it level by level up to the root."""
    await engine.create_run("r", parameters={"x": 0})
    parents = list(pairwise(["", *(f"b{level}" for level in range(1, levels + 1))]))
    commands: list[Command] = []
    for level, (parent, child) in enumerate(parents):
        commands += [Fork(branch=child, parent=parent), record(child, level)]
    await engine.write("r", *commands)
    await engine.write("r", *(Reduce(branch=parent) for parent, _ in reversed(parents)))


def count_steps(engine: Engine, run_id: str) -> int:
    """Count the SQLite instructions of a lineage query for `x`."""
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    connection = sqlite3.connect(engine.path)
    try:
        connection.set_progress_handler(step, 1)
        read_lineage(connection, find_stream(connection, run_id, ""), LATEST, LineageQuery("x"))
    finally:
        connection.close()
    return steps
