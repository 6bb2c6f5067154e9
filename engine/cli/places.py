"""Points of a branch on the command line: `RUN`, `RUN@POINT`, `RUN:BRANCH` or `RUN:BRANCH@POINT`."""

from collections.abc import Iterator

from msgspec import Struct

from engine import Branch, Engine
from engine.cli.escapes import visible
from engine.cli.options import as_point
from engine.cli.text import branch_text
from engine.errors import RunNotFound
from engine.names import ROOT
from engine.point import Point


class Named(Struct, frozen=True):
    """A place as the command line names it; `text` holds no branch, or no point, that is given separately."""

    text: str
    branch: str | None = None
    at: str | None = None


class Place(Struct, frozen=True):
    """A branch and a point of it; `text` is both as text for people."""

    branch: Branch
    at: Point
    text: str


async def find_place(engine: Engine, named: Named) -> Place:
    """Return the place that the command line names.

    A run's id may itself contain `@` and `:`: among the possible readings, the longest id of an existing run is taken.

    Raises:
        RunNotFound, BranchNotFound
        typer.BadParameter: the text after the last `@` is not a point.
    """
    for run_id, branch, at in _readings(named):
        try:
            run = await engine.run(run_id)
        except RunNotFound:
            continue
        point = as_point(at)
        return Place(await run.branch(branch), point, _place_text(run_id, branch or ROOT, at))
    raise RunNotFound(named.text)


def _readings(named: Named) -> Iterator[tuple[str, str | None, str | None]]:
    yield named.text, named.branch, named.at
    ends = [(named.text, named.at)]
    before, mark, behind = named.text.rpartition("@")
    if mark and named.at is None:
        ends.insert(0, (before, behind))
        yield before, named.branch, behind
    if named.branch is None:
        for text, at in ends:
            for place in reversed([place for place, character in enumerate(text) if character == ":"]):
                yield text[:place], text[place + 1 :], at


def _place_text(run_id: str, branch: str, at: str | None) -> str:
    where = visible(run_id) if branch == ROOT else f"{visible(run_id)}:{branch_text(branch)}"
    return where if at is None else f"{where}@{visible(at)}"
