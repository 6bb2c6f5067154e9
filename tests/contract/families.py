"""Runs whose children wrote, for the tests of where values came from."""

from typing import Any

from engine import Branch, Engine, Run
from engine.commands import Record
from engine.events import ParametersSet
from engine.lineage import Lineage, Written
from engine.model import Parameter

Place = tuple[str, str, int]


def place(written: Written | None) -> Place | None:
    """The event that wrote a value: run, branch and version."""
    return None if written is None else (written.run_id, written.branch, written.stream_version)


def branches(written: list[Lineage] | list[Written]) -> list[str]:
    return [each.branch for each in written]


async def family(engine: Engine, values: dict[str, Any]) -> tuple[Run, list[Branch]]:
    """A run whose children set `x`, each to its own value."""
    run = await engine.create_run("r")
    children = [await run.fork(name) for name in values]
    for child in children:
        await child.set_parameters({"x": values[child.name]})
    return run, children


def record(branch: str, value: Any, *, name: str = "x") -> Record:
    """Set one parameter of a branch."""
    return Record(branch=branch, events=(ParametersSet(branch=branch, values={name: Parameter(value)}),))
