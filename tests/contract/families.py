"""Runs whose child branches have set parameters, for the tests of lineage."""

from typing import Any

from engine import Branch, Engine, Run
from engine.commands import Record
from engine.events import ParametersSet
from engine.lineage import Lineage, Written
from engine.model import Parameter

Place = tuple[str, str, int]


def place(written: Written | None) -> Place | None:
    """Return the run id, branch and stream version of the event that wrote a value."""
    return None if written is None else (written.run_id, written.branch, written.stream_version)


def branches(written: list[Lineage] | list[Written]) -> list[str]:
    return [each.branch for each in written]


async def family(engine: Engine, values: dict[str, Any]) -> tuple[Run, list[Branch]]:
    """Create a run whose child branches each set `x` to a value of their own."""
    run = await engine.create_run("r")
    children = [await run.fork(name) for name in values]
    for child in children:
        await child.set_parameters({"x": values[child.name]})
    return run, children


def record(branch: str, value: Any, *, name: str = "x") -> Record:
    """Command to set one parameter of a branch."""
    return Record(branch=branch, events=(ParametersSet(branch=branch, values={name: Parameter(value)}),))
