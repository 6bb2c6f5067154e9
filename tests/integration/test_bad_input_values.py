"""Input that can never be recorded: every argument refuses it with an error that names the value and the limit."""

import contextlib
import sqlite3
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import pytest
from typing_extensions import override

from engine import Engine, Position, Run
from engine.encoding.values import VALUE_DEPTH_MAX
from engine.errors import (
    InvalidInput,
    InvalidName,
    InvalidValue,
)
from engine.model import AttemptDocument, Parameter, TaskSpec
from engine.names import NAME_BYTES_MAX
from engine.stores import PartitionedRunLogStore, StateStore
from tests.integration.refusals import events, refused, subscribed

Call = Callable[[Engine, Run], Awaitable[Any]]


@pytest.fixture
async def run(engine: Engine) -> Run:
    """A run with a branch, a parameter, a step and an attempt."""
    run = await engine.create_run("r", parameters={"a": 1})
    await run.fork("b")
    await run.start_attempt("step", attempt_id="attempt")
    return run


BAD_NAMES = {
    "empty": "",
    "nul": "a\0b",
    "newline": "a\nb",
    "escape": "a\x1b[31mb",
    "bidi override": "a\u202eb",
    "zero width": "a\u200bb",
    "line separator": "a\u2028b",
    "lone surrogate": "a\ud800b",
    "too long": "x" * (NAME_BYTES_MAX + 1),
    "too long in UTF-8": "é" * (NAME_BYTES_MAX // 2 + 1),
    "number": 5,
    "bytes": b"r",
    "list": ["r"],
}

NAMED: dict[str, Callable[[Engine, Run, Any], Awaitable[Any]]] = {
    "run id": lambda e, r, name: e.create_run(name),
    "run id of a fork": lambda e, r, name: e.fork_run("r", run_id=name),
    "run id read": lambda e, r, name: e.run(name),
    "source run id": lambda e, r, name: e.fork_run(name, run_id="new"),
    "run id of events": lambda e, r, name: events(e, run_id=name),
    "branch": lambda e, r, name: r.fork(name),
    "parameter": lambda e, r, name: r.set_parameters({name: 1} if name != ["r"] else name),
    "parameter read": lambda e, r, name: r.parameters(names=[name]),
    "step": lambda e, r, name: r.log_step(name),
    "step of an attempt": lambda e, r, name: r.start_attempt(name),
    "step read": lambda e, r, name: r.step(name),
    "step removed": lambda e, r, name: r.remove_step(name),
    "attempt id": lambda e, r, name: r.start_attempt("s", attempt_id=name),
    "attempt id read": lambda e, r, name: r.find_attempt(name),
    "status": lambda e, r, name: r.set_status(name),
    "idempotency key": lambda e, r, name: r.set_parameters({"a": 1}, idempotency_key=name),
    "idempotency key of a run": lambda e, r, name: e.create_run("new", idempotency_key=name),
    "child": lambda e, r, name: r.reduce([name]),
}


@pytest.mark.parametrize("bad", BAD_NAMES)
@pytest.mark.parametrize("named", NAMED)
async def test_a_name_that_cannot_be_one_is_refused(engine: Engine, run: Run, named: str, bad: str) -> None:
    """A name that is not printable Unicode of 1 to 512 bytes is refused in every argument that takes one.

    `InvalidName` carries the name.
    """
    error = await refused(engine, NAMED[named](engine, run, BAD_NAMES[bad]))
    assert isinstance(error, InvalidName | InvalidValue)
    if isinstance(error, InvalidName):
        assert error.value == BAD_NAMES[bad]


async def test_a_name_of_the_greatest_length_is_accepted(engine: Engine) -> None:
    """A name of 512 bytes in UTF-8 is accepted; a nested branch's limit includes its parent's name."""
    name = "é" * (NAME_BYTES_MAX // 2)
    branch = await (await engine.create_run(name)).fork(name)
    assert branch.name == name
    with pytest.raises(InvalidName):
        await branch.fork("x")


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def _endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


BAD_VALUES = {
    "65 bits": 2**64,
    "unsigned 64 bits": 2**63,
    "negative 65 bits": -(2**63) - 1,
    "lone surrogate": "a\ud800",
    "surrogate in a list": ["a\ud800"],
    "surrogate as a key": {"a\ud800": 1},
    "number as a key": {1: 1},
    "bytes": b"a",
    "set": {1},
    "object": object(),
    "complex": 1j,
    "time": datetime(2000, 1, 1, tzinfo=UTC),
    "nested too deep": _nested(VALUE_DEPTH_MAX + 1),
    "endless": _endless(),
    "integer deep inside": {"a": [{"b": 2**64}]},
}

VALUED: dict[str, Callable[[Engine, Run, Any], Awaitable[Any]]] = {
    "create_run": lambda e, r, value: e.create_run("new", parameters={"p": value}),
    "tags": lambda e, r, value: e.create_run("new", tags={"p": value}),
    "set_parameters": lambda e, r, value: r.set_parameters({"fine": 1, "p": value}),
    "parameter": lambda e, r, value: r.set_parameters({"p": Parameter(value)}),
    "describe": lambda e, r, value: r.describe({"p": value}),
    "configure": lambda e, r, value: r.configure({"p": value}),
    "log_job": lambda e, r, value: r.log_job({"p": value}),
    "log_step": lambda e, r, value: r.log_step("s", details={"p": value}),
    "attempt outputs": lambda e, r, value: r.start_attempt("s", outputs={"p": value}),
    "operator data": lambda e, r, value: r.start_attempt("s", operator_data={"p": value}),
    "attempts of a step": lambda e, r, value: r.log_step("s", attempts=[AttemptDocument(details={"p": value})]),
    "files of a task": lambda e, r, value: r.log_step("s", spec=TaskSpec(files={"p": value})),
    "cores of a task": lambda e, r, value: r.log_step("s", spec=TaskSpec(cores=value)),
}


@pytest.mark.parametrize("bad", BAD_VALUES)
@pytest.mark.parametrize("valued", VALUED)
async def test_a_value_that_cannot_be_recorded_exactly_is_refused(
    engine: Engine, run: Run, valued: str, bad: str
) -> None:
    """A value that cannot be recorded exactly is refused in every argument that takes one.

    Allowed is JSON of 64-bit integers, floats and UTF-8 texts, nested at most 64 levels deep.
    """
    error = await refused(engine, VALUED[valued](engine, run, BAD_VALUES[bad]))
    assert isinstance(error, InvalidValue)
    assert len(str(error)) < 1000


_BEYOND = datetime.max.replace(tzinfo=timezone(-timedelta(hours=1)))

WRONG_TYPES: dict[str, Call] = {
    "parameters": lambda e, r: r.set_parameters(["a"]),  # type: ignore[arg-type]
    "object parameter": lambda e, r: r.set_parameters({"p": Parameter(5, "object")}),
    "kind": lambda e, r: r.set_parameters({"p": Parameter(5, "other")}),  # type: ignore[arg-type]
    "document": lambda e, r: r.configure(["a"]),  # type: ignore[arg-type]
    "tag": lambda e, r: e.create_run("new", tag=5),  # type: ignore[arg-type]
    "naive time": lambda e, r: e.create_run("new", created_at=datetime(2000, 1, 1)),  # noqa: DTZ001 - the mistake under test
    "time as text": lambda e, r: e.create_run("new", created_at="now"),  # type: ignore[arg-type]
    "time of an attempt": lambda e, r: _updated(r, ended_at="now"),
    "point as text": lambda e, r: r.parameters(at="now"),  # type: ignore[arg-type]
    "point as naive time": lambda e, r: r.parameters(at=datetime(2000, 1, 1)),  # noqa: DTZ001 - the mistake under test
    "use_cached": lambda e, r: e.create_run("new", use_cached="1"),  # type: ignore[arg-type]
    "mock": lambda e, r: r.log_step("s", mock="1"),  # type: ignore[arg-type]
    "exist_ok": lambda e, r: e.create_run("new", exist_ok="no"),  # type: ignore[arg-type]
    "exist_ok under a key": lambda e, r: e.create_run("new", exist_ok=[object()], idempotency_key="k"),  # type: ignore[arg-type]
    "inherited": lambda e, r: r.parameters(inherited=1),  # type: ignore[arg-type]
    "nested": lambda e, r: r.compile(nested="no"),  # type: ignore[arg-type]
    "inherited in a log": lambda e, r: r.compile(inherited=None),  # type: ignore[arg-type]
    "descendants": lambda e, r: events(e, run_id="r", branch="", descendants=0),
    "parameters as a number": lambda e, r: e.create_run("new", parameters=0),  # type: ignore[arg-type]
    "tags as a text": lambda e, r: e.create_run("new", tags=""),  # type: ignore[arg-type]
    "details as a number": lambda e, r: r.log_step("s", details=0),  # type: ignore[arg-type]
    "rules as a number": lambda e, r: r.reduce(rules=0),  # type: ignore[arg-type]
    "attempts as nothing": lambda e, r: r.log_step("s", attempts=None),  # type: ignore[arg-type]
    "attempts as a text": lambda e, r: r.log_step("s", attempts="ab"),  # type: ignore[arg-type]
    "branch to part from": lambda e, r: r.parting(None),  # type: ignore[arg-type]
    "checkpoint": lambda e, r: e.verify(since=3),  # type: ignore[arg-type]
    "file": lambda e, r: e.import_runs(None),  # type: ignore[arg-type]
    "progress of a verification": lambda e, r: e.verify(progress=0),  # type: ignore[arg-type]
    "progress of a comparison": lambda e, r: e.verify_views(0),  # type: ignore[arg-type]
    "progress of a rebuild": lambda e, r: e.rebuild(0),  # type: ignore[arg-type]
    "progress of a backup": lambda e, r: e.backup("b", 0),  # type: ignore[arg-type]
    "progress of an import": lambda e, r: e.import_runs(BytesIO(), progress=0),  # type: ignore[arg-type]
    "progress of an export": lambda e, r: _exported(e, None, progress=0),
    "unknown field": lambda e, r: _updated(r, colour="red"),
    "null status": lambda e, r: _updated(r, status=None),
    "field to begin with": lambda e, r: r.start_attempt("s", ended_at=None),  # type: ignore[call-arg]
    "reason": lambda e, r: r.set_status("X", 5),  # type: ignore[arg-type]
    "spec": lambda e, r: r.log_step("s", spec=TaskSpec(image=5)),  # type: ignore[arg-type]
    "event type": lambda e, r: events(e, types=["Nonsense"]),
    "branch of no run": lambda e, r: events(e, branch="b"),
    "branch of events": lambda e, r: events(e, run_id="r", branch="\ud800"),
    "position as text": lambda e, r: events(e, after="1"),
    "position of 65 bits": lambda e, r: events(e, after=2**64),
    "last position as a flag": lambda e, r: events(e, until=True),
    "time beyond the year 9999": lambda e, r: e.create_run("new", created_at=_BEYOND),
    "position to subscribe from": lambda e, r: subscribed(e, after=2**64),
    "limit": lambda e, r: e.runs(limit=0),
    "limit as a fraction": lambda e, r: e.runs(limit=1.5),  # type: ignore[arg-type]
    "limit as text": lambda e, r: e.runs(limit="5"),  # type: ignore[arg-type]
    "limit as a flag": lambda e, r: e.runs(limit=True),
    "cursor as a number": lambda e, r: e.runs(cursor=5),  # type: ignore[arg-type]
    "no commands": lambda e, r: e.write("r"),
    "no commands of a branch": lambda e, r: r.write(),
    "spec as a mapping": lambda e, r: r.log_step("s", spec={"image": "i"}),  # type: ignore[arg-type]
    "cursor": lambda e, r: e.runs(cursor="x"),
    "cursor of 65 bits": lambda e, r: e.runs(cursor=str(2**64)),
    "status to filter": lambda e, r: e.runs(status="\ud800"),
    "tag to filter": lambda e, r: e.runs(tag="\ud800"),
    "on_conflict": lambda e, r: r.reduce(on_conflict="mine"),  # type: ignore[arg-type]
    "rule": lambda e, r: r.reduce(rules={"a": "median"}),
    "rule that is none": lambda e, r: r.reduce(rules={"a": None}),  # type: ignore[dict-item]
    "rules as a list": lambda e, r: r.reduce(rules=["sum"]),  # type: ignore[arg-type]
    "rule of no name": lambda e, r: r.reduce(rules={5: "sum"}),  # type: ignore[dict-item]
    "default rule": lambda e, r: r.reduce(default="median"),
    "a child twice": lambda e, r: r.reduce(["b", "b"]),
    "children as a number": lambda e, r: r.reduce(5),  # type: ignore[arg-type]
    "children as a text": lambda e, r: r.reduce("b"),
    "default rule as a list": lambda e, r: r.reduce(default=["sum"]),  # type: ignore[arg-type]
    "rule of a name without end": lambda e, r: r.reduce(rules={"x" * 10_000: None}),  # type: ignore[dict-item]
    "event types as a number": lambda e, r: events(e, types=5),
    "event types as a text": lambda e, r: events(e, types="RunCreated"),
    "an event type that is an object": lambda e, r: events(e, types=[object()]),
    "event types to subscribe to": lambda e, r: subscribed(e, types=""),
    "runs to export as a number": lambda e, r: _exported(e, 5),
    "runs to export as a text": lambda e, r: _exported(e, "r"),
    "key of an attempt": lambda e, r: r.start_attempt("s", idempotency_key="\ud800"),
    "list without end": lambda e, r: r.configure(_endless()),  # type: ignore[arg-type]
    "what nobody can write down": lambda e, r: r.configure(_nested(5000)),
}


async def _updated(run: Run, **changes: Any) -> None:
    await (await run.find_attempt("attempt")).update(**changes)


async def _exported(engine: Engine, run_ids: Any, **how: Any) -> None:
    async for _ in engine.export_runs(run_ids, **how):
        pass


@pytest.mark.parametrize("case", WRONG_TYPES)
async def test_what_a_field_cannot_hold_is_refused(engine: Engine, run: Run, case: str) -> None:
    """An argument of the wrong type or range raises InvalidInput with a short message."""
    error = await refused(engine, WRONG_TYPES[case](engine, run))
    assert isinstance(error, InvalidInput)
    assert len(str(error)) < 1000


TOLD: dict[str, Callable[[Any, Any], Awaitable[Any]]] = {
    "older_than: 30 is int, not a timedelta or a datetime": lambda e, r: e.collect(30),
    "since: 3 is int, not a Checkpoint": lambda e, r: e.verify(since=3),
    "reason: 5 is int, not text": lambda e, r: r.set_status("X", 5),
    "default: <built-in function max> is a function; functions must be given by name in rules": (
        lambda e, r: r.reduce(default=max)
    ),
    "parameter 'x': Column() is Column, which is not JSON; its tolist() is": (
        lambda e, r: r.set_parameters({"x": Column()})
    ),
}


@pytest.mark.parametrize("message", TOLD)
async def test_what_people_get_wrong_is_told_with_the_way_out(engine: Engine, run: Run, message: str) -> None:
    """The message for a common mistake names the argument and says what it takes."""
    assert str(await refused(engine, TOLD[message](engine, run))) == message


class Column:
    """An array that has a `tolist`, as numpy's have."""

    def tolist(self) -> list[int]:
        return [1]

    @override
    def __repr__(self) -> str:
        return "Column()"


@pytest.mark.parametrize(
    ("store", "twin"), [(StateStore, "SQLiteStateStore"), (PartitionedRunLogStore, "BlockingRunLogStore")]
)
def test_an_async_store_takes_an_engine(store: Any, twin: str) -> None:
    """An async store that is given a path raises InvalidValue, which names the blocking twin that takes one."""
    with pytest.raises(InvalidValue, match=f"engine: 'runs.db' is str, not an open engine; {twin} takes a path"):
        store("runs.db")


async def test_a_position_is_no_version(engine: Engine, run: Run) -> None:
    """`erase` refuses a `Position`: it takes a version, and the same number would name another event."""
    error = await refused(engine, engine.erase("r", None, Position(2), "why"))  # type: ignore[arg-type]
    assert str(error) == "version: Position(2) is not a version, a 64-bit integer"


async def test_a_position_beyond_all_is_no_position(engine: Engine, run: Run) -> None:
    """A position of 71 bits is InvalidValue, not damage of the file."""
    assert isinstance(await refused(engine, events(engine, after=Position(2**70))), InvalidValue)


async def test_a_position_says_after_what(engine: Engine, run: Run) -> None:
    """`events` takes a `Position` for `after` and `until`."""
    found = await events(engine, run_id="r", after=Position(1), until=Position(3))
    assert [each.position for each in found] == [2, 3]


class Text(str):
    """A subclass of `str` that is no enumeration but behaves like a member of `StrEnum`."""

    __slots__ = ()


async def test_texts_of_other_types_are_recorded_as_plain_text(engine: Engine, run: Run) -> None:
    """A status, message, step name or attempt id of a `str` subclass is recorded as plain text."""
    status = Text("COMPLETED")
    await run.set_status(status, Text("done"))
    attempt = await run.find_attempt(Text("attempt"))
    await attempt.update(message=Text("m"))
    await attempt.finish(status, Text("done"))
    async with run.attempt(Text("block")) as inside:
        await inside.finish(status)
    await run.log_step("s", status=status, attempts=[AttemptDocument(status=status, message=Text("m"))])
    assert {step.status for step in (await run.steps()).values()} == {"COMPLETED"}
    assert [each.status for each in await run.attempts()] == ["COMPLETED"] * 3
    assert await events(engine)
    assert await engine.verify_views() == []


async def test_words_of_a_reduction_may_be_texts_of_other_types(engine: Engine, run: Run) -> None:
    """A reduction accepts `str` subclasses as default rule, `on_conflict` and key; the kept rule is a plain `str`."""
    child = await run.fork("words")
    await child.set_parameters({"words": 2})
    reduced = await run.reduce(
        [child], default=Text("sum"), on_conflict=cast("Any", Text("parent")), idempotency_key=Text("key")
    )
    assert reduced.rules == {"words": "sum"}
    assert type(reduced.rules["words"]) is str


async def test_plain_values_in_an_attempts_document_are_parameters(engine: Engine, run: Run) -> None:
    """Plain values in an `AttemptDocument` become parameters, as in `set_parameters`, and can be read back."""
    attempt = AttemptDocument(inputs={"a": 1}, outputs={"b": [2]})  # type: ignore[dict-item]
    await run.log_step("s", attempts=[attempt])
    assert (await run.step("s")).attempts[0].inputs == {"a": Parameter(1)}
    assert await events(engine)
    assert await engine.verify_views() == []


async def test_a_name_that_is_sql_stays_a_name(engine: Engine, database: Path) -> None:
    """A name that contains SQL and path syntax is bound as data: it reads back unchanged and harms no table."""
    evil = "'; DROP TABLE events; -- ../../etc"
    run = await engine.create_run(evil)
    await (await run.fork(evil)).set_parameters({evil: evil})
    assert (await (await run.branch(evil)).parameters())[evil].value == evil
    with contextlib.closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (3,)


async def test_a_rule_is_no_coroutine_function(engine: Engine, run: Run) -> None:
    """A reduction refuses an async function as a rule before calling it, so that no coroutine is left unawaited."""

    async def summed(values: list[int]) -> int:
        raise AssertionError(values)

    child = await run.fork("summed")
    await child.set_parameters({"x": 1})
    error = await refused(engine, run.reduce([child], rules={"x": summed}))
    assert str(error).endswith("is an async function; it must be a plain function")
