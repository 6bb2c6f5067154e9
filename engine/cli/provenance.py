"""Where parameters come from: the event that set each, and the child events behind it if that was a reduction."""

from collections.abc import Mapping
from typing import TypeAlias

from msgspec import Struct

from engine import Branch, Engine
from engine.events import ParametersReduced
from engine.model import Origin, Parameter
from engine.point import Point

Reductions: TypeAlias = Mapping[Origin, "ReducedBy"]


class ReducedBy(Struct, frozen=True):
    """The rules and the child events of a reduction, by parameter name."""

    rules: dict[str, str]
    sources: dict[str, list[Origin]]


class Supplied(Struct, frozen=True):
    """A parameter, the event that set it on the branch or above it, and the events behind that one.

    `rule` is that of the reduction, None if the value was set directly. `supplied_by` are the events that the value
    came from: a reduction that took it from a single child event is followed to that event.
    """

    parameter: Parameter
    set_by: Origin
    rule: str | None
    supplied_by: list[Origin]


async def supplied_parameters(engine: Engine, branch: Branch, at: Point = None) -> dict[str, Supplied]:
    """Return the parameters that a branch sees at a point, with their sources, by name.

    Raises:
        PointNotFound
    """
    resolved = await engine.views.resolved(branch.run_id, branch.name, at=at)
    reductions: dict[Origin, ReducedBy] = {}
    for run_id in {origin.run_id for _, origin in resolved.values()}:
        reductions |= await _reductions(engine, run_id)
    return {name: _supplied(name, parameter, origin, reductions) for name, (parameter, origin) in resolved.items()}


async def _reductions(engine: Engine, run_id: str) -> dict[Origin, ReducedBy]:
    found = {}
    async for recorded in engine.events(run_id=run_id, types=[ParametersReduced]):
        event = recorded.event
        assert isinstance(event, ParametersReduced), "only these were asked for"
        sources = {
            name: [Origin(run_id, source.branch, source.stream_version) for source in each]
            for name, each in event.sources.items()
        }
        found[Origin(run_id, recorded.branch, recorded.stream_version)] = ReducedBy(event.rules, sources)
    return found


def _supplied(name: str, parameter: Parameter, set_by: Origin, reductions: Reductions) -> Supplied:
    reduced = reductions.get(set_by)
    if reduced is None:
        return Supplied(parameter, set_by, None, [set_by])
    return Supplied(parameter, set_by, reduced.rules.get(name), _sources_of(name, set_by, reductions))


def _sources_of(name: str, origin: Origin, reductions: Reductions) -> list[Origin]:
    # A child's event is older than the reduction that names it, so the loop ends.
    while (reduced := reductions.get(origin)) is not None:
        sources = reduced.sources.get(name, [])
        if len(sources) != 1:
            return sources
        origin = sources[0]
    return [origin]
