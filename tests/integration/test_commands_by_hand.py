"""Commands that a caller builds itself: `Engine.write` and `Branch.write` record only what can be read again."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from engine import Engine, Parameter, open_engine
from engine.commands import (
    ChangeAttempt,
    Command,
    Configure,
    CreateAttempt,
    DescribeBranch,
    Finalize,
    Fork,
    LogExternalRun,
    LogStep,
    LogTask,
    MergeParameters,
    OpenRun,
    Pin,
    Record,
    Reduce,
    SetStatus,
    StartAttempt,
    UpdateAttempt,
)
from engine.errors import AttemptExists, AttemptNotFound, InvalidInput, InvalidName, InvalidValue
from engine.events import (
    AttemptCreated,
    AttemptUpdated,
    BranchForked,
    BranchStatusChanged,
    ExternalRunRegistered,
    ParametersReduced,
    ParametersSet,
    PayloadErased,
    RunConfigured,
    RunCreated,
    RunFinalized,
    RunForked,
    RunStatusChanged,
    SourceCarriedOver,
    StepLogged,
)
from engine.model import AttemptChanges, AttemptDocument, Head, StepDocument, TaskSpec

ANYTHING: Any = object()
HERE: Any = {"branch": ""}


@pytest.fixture
async def engine(database: Path) -> AsyncIterator[Engine]:
    """An engine with a run of one step."""
    async with open_engine(database) as made:
        run = await made.create_run("r")
        await run.log_step("s")
        yield made


def of(event: type, **fields: Any) -> Command:
    """Return a command that records an event whose fields may have any types."""
    return Record(events=(event(**HERE | fields),))


def nested(levels: int) -> Any:
    """Return a list nested in lists, this many levels deep."""
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


NOT_OF_THE_TYPE: dict[str, Any] = {
    "no command": 5,
    "an event": StepLogged(branch="", step="s", name="s"),
    "a status": SetStatus(status=ANYTHING),
    "a number for text": SetStatus(status=7),  # type: ignore[arg-type]
    "a branch": SetStatus(status="x", branch=None),  # type: ignore[arg-type]
    "a specification": LogTask(task_id="t", spec="x"),  # type: ignore[arg-type]
    "a part of a specification": LogTask(task_id="t", spec=TaskSpec(image=5)),  # type: ignore[arg-type]
    "a literal": MergeParameters(values={}, unless="sometimes"),  # type: ignore[arg-type]
    "a parameter": MergeParameters(values={"x": 5}),  # type: ignore[dict-item]
    "a name": MergeParameters(values={5: Parameter(5)}),  # type: ignore[dict-item]
    "a document": LogStep(document=StepDocument(step="s", name="s", details=ANYTHING)),
    "a change": StartAttempt(step="s", attempt_id="a", status="x", fields=AttemptChanges(message=ANYTHING)),
    "a time without a zone": ChangeAttempt(attempt_id="a", changes=AttemptChanges(ended_at=datetime(2026, 1, 1))),  # noqa: DTZ001
    "events that are none": Record(events=(5,)),  # type: ignore[arg-type]
    "no events at all": Record(events=5),  # type: ignore[arg-type]
    "events of events": Record(events=((StepLogged(branch="", step="s", name="s"),),)),  # type: ignore[arg-type]
    "several events for one": OpenRun(event=(RunCreated(branch=""),)),  # type: ignore[arg-type]
    "an event's field": of(StepLogged, step="s", name=b"s"),
    "an event's parameters": of(ParametersSet, values=5),
}

NOT_TO_BE_RECORDED: dict[str, Any] = {
    "an object": MergeParameters(values={"x": Parameter(ANYTHING)}),
    "bytes": Configure(config={"x": b"x"}),
    "keys that are no text": Configure(config={"x": {1: 2}}),
    "an integer over 64 bits": of(ParametersSet, values={"x": Parameter(2**63)}),
    "an integer over 65 bits": of(ParametersSet, values={"x": Parameter(2**64)}),
    "many levels": DescribeBranch(details={"x": nested(200)}),
    "more levels than can be encoded": DescribeBranch(details={"x": nested(100_000)}),
    "half a character": SetStatus(status="\ud800"),
    "an event of another branch": of(StepLogged, branch="b", step="s", name="s"),
}

NO_NAMES: dict[str, Any] = {
    "a branch": Fork(branch="x\0y"),
    "a status": SetStatus(status=""),
    "a status of a step": UpdateAttempt(attempt_id="a", changes=AttemptChanges(), step_status=""),
    "a status among changes": UpdateAttempt(attempt_id="a", changes=AttemptChanges(status="a\nb")),
    "a status in a document": LogStep(document=StepDocument(step="s", name="s", attempts=[AttemptDocument(status="")])),
    "a step": StartAttempt(step="a\nb", attempt_id="a", status="x"),
    "a step's document": LogStep(document=StepDocument(step="", name="s")),
    "a task": LogTask(task_id="\u202e", spec=TaskSpec()),
    "an attempt": StartAttempt(step="s", attempt_id="", status="x"),
    "a parameter": MergeParameters(values={"": Parameter(1)}),
    "an event's parameter": of(ParametersSet, values={"\n": Parameter(1)}),
    "an event's step": of(StepLogged, step="", name="s"),
}

FOR_A_DECISION_TO_FIND_OUT: dict[str, Any] = {
    "a run": of(RunCreated),
    "a forked run": of(RunForked, source_run_id="r", source_branch="", source_version=1, source_hash=bytes(32)),
    "a branch": of(BranchForked, parent="", parent_version=1, parent_hash=bytes(32)),
    "heads": of(RunFinalized, heads=[Head("b", 1, bytes(32))]),
    "an erasure": of(PayloadErased, stream_version=1, event_type="RunCreated", reason="none"),
    "a reduction": of(ParametersReduced, children=[], rules={}, values={}, sources={}),
    "a source that is gone": of(SourceCarriedOver, values={}),
    "an external run as a run": OpenRun(
        event=ExternalRunRegistered(branch="", task_id="t", operator_type="o", status="x")  # type: ignore[arg-type]
    ),
    "a step as an external run": LogExternalRun(event=StepLogged(branch="", step="s", name="s")),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("command", [*NOT_OF_THE_TYPE.values()], ids=[*NOT_OF_THE_TYPE])
async def test_what_is_not_of_its_type_is_refused(engine: Engine, command: Any) -> None:
    """A command with a value of the wrong type raises InvalidValue, and nothing written with it is recorded."""
    await refused(engine, command)


@pytest.mark.parametrize("command", [*NOT_TO_BE_RECORDED.values()], ids=[*NOT_TO_BE_RECORDED])
async def test_what_cannot_be_recorded_is_refused(engine: Engine, command: Any) -> None:
    """A command with a value that cannot be recorded exactly raises InvalidValue, as a handle's method does."""
    await refused(engine, command)


@pytest.mark.parametrize("command", [*NO_NAMES.values()], ids=[*NO_NAMES])
async def test_what_is_no_name_is_refused(engine: Engine, command: Any) -> None:
    """A command with an invalid name raises InvalidName, as a handle's method does."""
    await refused(engine, command, InvalidName)


@pytest.mark.parametrize("field", ["status", "status_reason", "ended_at"])
async def test_an_attempt_does_not_begin_with_what_an_update_sets(engine: Engine, field: str) -> None:
    """A command that starts an attempt with a field which only an update sets raises InvalidValue."""
    given: Any = {field: datetime(2026, 1, 1, tzinfo=UTC) if field == "ended_at" else "x"}
    for command in (StartAttempt(step="s", attempt_id="a", status="x"), CreateAttempt(task_id="s", attempt_id="a")):
        await refused(engine, structs.replace(command, fields=AttemptChanges(**given)))


async def test_an_id_of_another_attempt_is_not_taken_for_fresh(engine: Engine) -> None:
    """`StartAttempt` with `fresh=True` and the id of an existing attempt raises AttemptExists."""
    await engine.write("r", StartAttempt(step="s", attempt_id="a", status="x"))
    await engine.create_run("other")
    with pytest.raises(AttemptExists):
        await engine.write("other", StartAttempt(step="s", attempt_id="a", status="x", fresh=True))


@pytest.mark.parametrize("command", [*FOR_A_DECISION_TO_FIND_OUT.values()], ids=[*FOR_A_DECISION_TO_FIND_OUT])
async def test_an_event_that_only_a_decision_can_make_is_refused(engine: Engine, command: Any) -> None:
    """An event that only a decision can derive, such as a fork or an erasure, cannot be recorded by a caller."""
    await refused(engine, command)


ABOUT_THE_RUN: dict[str, Command] = {
    "opening": OpenRun(branch="b", event=RunCreated(branch="b")),
    "its configuration": Configure(branch="b", config={"x": 1}),
    "pinning": Pin(branch="b", pinned=True),
    "its end": Finalize(branch="b"),
    "an event of its configuration": Record(branch="b", events=(RunConfigured(branch="b", config={"x": 1}),)),
    "an event of its status": Record(branch="b", events=(RunStatusChanged(branch="b", status="x"),)),
    "an event of a branch's status": Record(events=(BranchStatusChanged(branch="", status="x"),)),
}


@pytest.mark.parametrize("command", [*ABOUT_THE_RUN.values()], ids=[*ABOUT_THE_RUN])
async def test_what_is_about_the_run_stands_in_its_root_branch_and_nothing_else_does(
    engine: Engine, command: Command
) -> None:
    """Events about the run are recorded in the root branch only, and events of a branch's status never there."""
    await (await engine.run("r")).fork("b")
    await refused(engine, command, forked="c")


@pytest.mark.parametrize("together", [False, True], ids=["by itself", "with the other"])
async def test_an_event_creates_no_attempt_of_an_id_that_another_has(engine: Engine, together: bool) -> None:  # noqa: FBT001 - a parametrized column
    """Recording a second `AttemptCreated` with the same id raises AttemptExists, in one command or in two."""
    other = await engine.create_run("other")
    await other.log_step("s")
    created = AttemptCreated(branch="", step="s", attempt_id="a", attempt_index=1)
    again = structs.replace(created, attempt_index=2)
    if together:
        asked = other.write(Record(events=(created, again)))
    else:
        await engine.write("r", Record(events=(created,)))
        asked = other.write(Record(events=(again,)))
    with pytest.raises(AttemptExists):
        await asked
    assert await other.attempts() == []


async def test_an_event_updates_an_attempt_at_its_own_step(engine: Engine) -> None:
    """`AttemptUpdated` needs an attempt of that id at that step, created before or by the same command.

    Otherwise it raises AttemptNotFound.
    """
    created = AttemptCreated(branch="", step="s", attempt_id="a", attempt_index=1)
    updated = AttemptUpdated(branch="", step="s", attempt_id="a", changes=AttemptChanges(message="m"))
    elsewhere = structs.replace(updated, step="t")
    run = await engine.run("r")
    await run.log_step("t")
    with pytest.raises(AttemptNotFound):
        await run.write(Record(events=(created, elsewhere)))
    await run.write(Record(events=(created, updated)))
    await run.write(Record(events=(structs.replace(updated, changes=AttemptChanges(message="n")),)))
    for event in (elsewhere, structs.replace(updated, attempt_id="b")):
        with pytest.raises(AttemptNotFound):
            await run.write(Record(events=(event,)))
    assert [attempt.message for attempt in await run.attempts()] == ["n"]


async def refused(engine: Engine, command: Any, error: type[InvalidInput] = InvalidValue, *, forked: str = "b") -> None:
    """Check that `Engine.write` and `Branch.write` refuse a command, and record nothing written with it."""
    before = await engine.last_position()
    run = await engine.run("r")
    for write in (engine.write("r", Fork(branch=forked), command), run.write(SetStatus(status="x"), command)):
        with pytest.raises(error, match="command: " if error is InvalidValue else None):
            await write
    assert await engine.last_position() == before


async def test_what_is_recorded_is_the_callers_no_longer(engine: Engine) -> None:
    """Changing a mapping during or after its write does not change what is recorded."""
    config: dict[str, Any] = {"x": {"y": 1}}
    writing = asyncio.ensure_future(engine.write("r", Configure(config=config)))
    await asyncio.sleep(0)
    config["x"]["y"] = 2
    recorded = await writing
    config["x"]["y"] = 3
    (event,) = [each.event for each in recorded.events]
    assert event == RunConfigured(branch="", config={"x": {"y": 1}})
    assert [each.event async for each in engine.events(types=[RunConfigured])] == [event]
    assert await engine.verify_views() == []


async def test_every_type_of_command_can_be_made_by_hand(engine: Engine) -> None:
    """A caller can build every type of command, including those with heads, times and events."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    await engine.write(
        "made",
        OpenRun(event=RunCreated(branch="", created_at=now), parameters={"x": Parameter(1)}),
        Fork(branch="b"),
        of(ParametersSet, values={"y": Parameter([1.5, None, "z"])}),
    )
    child = await (await engine.run("made")).branch("b")
    set_ = await child.write(Record(branch="b", events=(ParametersSet(branch="b", values={"x": Parameter(2)}),)))
    head = Head("b", set_.stream_version, set_.events[-1].hash)
    await engine.write("made", Reduce(children=("b",), relies_on=(head,), rules={"x": "max"}))
    fields = AttemptChanges(details={"k": [1]})
    await child.write(
        StartAttempt(branch="b", step="s", attempt_id="a", status="RUNNING", fields=fields),
        ChangeAttempt(branch="b", attempt_id="a", changes=AttemptChanges(status="COMPLETED", ended_at=now)),
    )
    await child.write(LogTask(branch="b", task_id="t", spec=TaskSpec(command="run", cores=2)))
    run = await engine.run("made")
    assert {name: value.value for name, value in (await run.parameters()).items()} == {"x": 2, "y": [1.5, None, "z"]}
    assert [each.ended_at for each in (await child.steps())["s"].attempts] == [now]
    assert (await engine.verify()).problems == []
    assert await engine.verify_views() == []


async def test_a_branch_takes_commands_of_its_own_only(engine: Engine) -> None:
    """`Branch.write` refuses a command for another branch; a command that names no branch is the root's."""
    run = await engine.create_run("own")
    child = await run.fork("a")
    head = await child.head()
    for writing in (child.write(SetStatus(status="x")), run.write(SetStatus(branch="a", status="x"))):
        with pytest.raises(InvalidValue, match="is its branch"):
            await writing
    await child.write(SetStatus(branch="a", status="x"))
    assert (await run.info()).status == "CREATED"
    assert (await child.head()).stream_version == head.stream_version + 1
