"""One call of each operation of an engine and its handles, for tests of conditions that refuse them all."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from engine import Engine, Run


async def _first_subscribed(engine: Engine, _run: Run) -> object:
    async for recorded in engine.subscribe():
        return recorded
    return None


async def _all_events(engine: Engine, _run: Run) -> object:
    return [recorded async for recorded in engine.events()]


USES: Final[Mapping[str, Callable[[Engine, Run], Awaitable[Any]]]] = {
    "create_run": lambda engine, _: engine.create_run("other"),
    "fork_run": lambda engine, _: engine.fork_run("r", run_id="other"),
    "run": lambda engine, _: engine.run("r"),
    "runs": lambda engine, _: engine.runs(),
    "events": _all_events,
    "subscribe": _first_subscribed,
    "last_position": lambda engine, _: engine.last_position(),
    "rebuild": lambda engine, _: engine.rebuild(),
    "verify_views": lambda engine, _: engine.verify_views(),
    "close": lambda engine, _: engine.close(),
    "set_parameters": lambda _, run: run.set_parameters({"a": 2}),
    "parameters": lambda _, run: run.parameters(),
    "fork": lambda _, run: run.fork("b"),
    "reduce": lambda _, run: run.reduce(),
    "compile": lambda _, run: run.compile(),
    "start_attempt": lambda _, run: run.start_attempt("s"),
}
"""Each operation by its name; it takes an engine and that engine's run `r`."""
