"""An error about a bad argument names the argument as the caller wrote it."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from engine import AttemptDocument, Engine, Run
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
