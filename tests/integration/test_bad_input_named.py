"""An error about a bad argument names the argument as the caller wrote it."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from engine import AttemptDocument, Engine, Parameter, Run
from engine.blocking import BlockingEngine
from engine.commands import MergeParameters, OpenRun
from engine.errors import InvalidValue
from engine.stores import StateStore

NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001 - the mistake under test
LIST: Any = ["loss"]

Call = Callable[[Engine, Run], Awaitable[object]]


async def _attempt(run: Run, **changes: Any) -> None:
    await (await run.start_attempt("s")).update(**changes)


async def _logged(run: Run, **fields: Any) -> None:
    await run.log_step("s", attempts=[AttemptDocument(**fields)])


NAMED: dict[str, tuple[str, Call]] = {
    "a run's creation": ("created_at", lambda e, r: e.create_run("new", created_at=NAIVE)),
    "first of a page": ("created_from", lambda e, r: e.runs(created_from=NAIVE)),
    "last of a page": ("created_until", lambda e, r: e.runs(created_until=NAIVE)),
    "age": ("older_than", lambda e, r: e.collect(NAIVE)),
    "point": ("at", lambda e, r: r.parameters(at=NAIVE)),
    "point of a log": ("at", lambda e, r: r.compile(at=NAIVE)),
    "point of a fork": ("at", lambda e, r: e.fork_run("r", run_id="f", at=NAIVE)),
    "submission": ("submitted_at", lambda e, r: _attempt(r, submitted_at=NAIVE)),
    "end": ("ended_at", lambda e, r: _attempt(r, ended_at=NAIVE)),
    "a document's beginning": ("began_at", lambda e, r: _logged(r, began_at=NAIVE)),
    "a document's end": ("ended_at", lambda e, r: _logged(r, ended_at=NAIVE)),
    "inputs": ("inputs", lambda e, r: r.start_attempt("s", inputs=LIST)),
    "outputs": ("outputs", lambda e, r: _attempt(r, outputs=LIST)),
    "a document's metrics": ("metrics", lambda e, r: _logged(r, metrics=LIST)),
    "a store's clock": ("clock", lambda e, r: StateStore(e, clock=lambda: NAIVE).find_orphaned_attempts("r")),
}


@pytest.mark.parametrize("case", NAMED)
async def test_an_error_names_the_argument(engine: Engine, case: str) -> None:
    """An error about a time, or about an attempt's parameters, names the argument that is wrong, and says how."""
    run = await engine.create_run("r")
    name, call = NAMED[case]
    with pytest.raises(InvalidValue, match=r"has no time zone|is not a mapping") as caught:
        await call(engine, run)
    assert (caught.value.where, str(caught.value).partition(":")[0]) == (name, name)


async def test_an_age_is_named_too(engine: Engine) -> None:
    """An age before the year 1 is an error about `older_than`."""
    with pytest.raises(InvalidValue, match=r"^older_than: .* reaches back before the year 1"):
        await engine.collect(timedelta(days=999_999))


async def test_a_plain_value_in_a_command_is_named(engine: Engine) -> None:
    """A command takes `Parameter`s only: an error about a plain value names it, and what it should be."""
    run = await engine.create_run("r")
    values: Any = {"lr": Parameter(0.1), "epochs": 3}
    with pytest.raises(InvalidValue, match=r"cannot be recorded: 'epochs' is 3, not a Parameter$"):
        await run.write(MergeParameters(values=values))
    with pytest.raises(InvalidValue, match=r"cannot be recorded: 'epochs' is 3, not a Parameter$"):
        await engine.write("new", OpenRun(parameters=values))
    assert await engine.last_position() == 1


class Nameless:
    @override
    def __getattribute__(self, name: str) -> Any:
        raise KeyError(name)

    @override
    def __repr__(self) -> str:
        raise KeyError


async def test_a_value_that_says_nothing_of_itself_is_named_too(engine: Engine) -> None:
    """A value whose class and text cannot be asked for is an InvalidValue like any other."""
    run = await engine.create_run("r")
    values: Any = {"x": Nameless()}
    with pytest.raises(InvalidValue, match=r"'x' is <Nameless>, not a Parameter$"):
        await run.write(MergeParameters(values=values))


async def test_an_export_that_is_opened_as_text_is_refused(engine: Engine, tmp_path: Path) -> None:
    """An export opened without "rb" is an error about the file's mode, not about the export in it."""
    path = tmp_path / "runs.jsonl"
    await engine.create_run("r")
    path.write_bytes(b"".join([lines async for lines in engine.export_runs()]))
    with path.open() as file, pytest.raises(InvalidValue, match=r"^file: .* is open for text, not for bytes"):
        await engine.import_runs(file)  # type: ignore[arg-type]


def test_a_coroutine_in_place_of_a_function_is_refused(database: Path) -> None:
    """`BlockingEngine.call` takes a function of the engine; a coroutine raises InvalidValue."""

    async def work() -> int:
        return 1

    coroutine: Any = work()
    with BlockingEngine(database) as engine, pytest.raises(InvalidValue, match=r"is coroutine, not a function"):
        engine.call(coroutine)
    coroutine.close()
