"""Reads of one branch: its parameters, steps, attempts and children, now or as of a point.

A point is a version of the branch's stream, an aware time, a `Position` of the log, or None for now. A time means the
last event of the run recorded by then. A read that spans several branches returns them as of the moment when the
point's event was recorded.

Parameters, their sources and lineage, heads and children as of a point are lookups. Steps, attempts and compiled logs
are folded in memory from the events of the branch, or of its whole run, up to the point: the time is proportional to
the number of events, and the file is only read.
"""

from collections.abc import Collection

from typing_extensions import override

from engine.encoding.values import check_flag, check_whole
from engine.errors import InvalidValue
from engine.lineage import DEPTH_DEFAULT, DEPTH_MAX, LIMIT_DEFAULT, LIMIT_MAX, Lineage, LineageQuery
from engine.model import AttemptLog, BranchLog, Head, Origin, Parameter, StepLog
from engine.names import check_name
from engine.point import PlacedPoint, Point
from engine.views import Views


class BranchReads:
    """The reads of a `Branch`.

    Every read that takes `at` raises `PointNotFound` for a point outside the history of the branch's stream, and
    `InvalidValue` for a value that is not a point.
    """

    def __init__(self, views: Views, run_id: str, name: str) -> None:
        self._views = views
        self._run_id = run_id
        self._name = name

    @override
    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._run_id!r} {self._name!r}>"

    @property
    def run_id(self) -> str:
        return self._run_id

    @property
    def name(self) -> str:
        """The branch's full name; `""` for the root branch."""
        return self._name

    async def head(self, *, at: Point = None) -> Head:
        """Return the stream's last version and hash, or those at a point."""
        if at is not None:
            return await self._views.head_at(self._run_id, self._name, at)
        stream = await self._views.stream(self._run_id, self._name)
        return Head(stream.branch, stream.version, stream.hash)

    async def children(self, *, at: Point = None) -> list[str]:
        """Return the full names of the branches forked from this one, in fork order."""
        return await self._views.children(self._run_id, self._name, at=at)

    async def parameters(
        self, *, at: Point = None, names: Collection[str] | None = None, inherited: bool = True
    ) -> dict[str, Parameter]:
        """Return the parameters that this branch sees, by name.

        Args:
            at: as of a version of this branch's stream, an aware time, or a `Position`; None for now.
            names: only these.
            inherited: include inherited parameters; False returns only those that the branch set or reduced itself.

        Raises:
            PointNotFound
        """
        if names is not None:
            if isinstance(names, str) or not isinstance(names, Collection):
                raise InvalidValue("names", names, "is not a collection of names")
            names = [check_name(name, "parameter name") for name in names]
        inherited = check_flag(inherited, "inherited")
        return await self._views.parameters(self._run_id, self._name, at=at, names=names, inherited=inherited)

    async def sources(self, *, at: Point = None) -> dict[str, Origin]:
        """Return, for every parameter that this branch sees, the event that set or reduced it.

        Args:
            at: as of a version of this branch's stream, an aware time, or a `Position`; None for now.

        Raises:
            PointNotFound
        """
        resolved = await self._views.resolved(self._run_id, self._name, at=at)
        return {name: origin for name, (_, origin) in resolved.items()}

    async def lineage(
        self,
        name: str,
        *,
        at: Point = None,
        history: bool = False,
        depth: int = DEPTH_DEFAULT,
        limit: int = LIMIT_DEFAULT,
    ) -> Lineage:
        """Return the origin of a parameter that this branch sees, traced back through forks and reductions.

        Args:
            at: a point, as for `parameters`; None for now.
            history: include all values that this one overwrote, newest first.
            depth: the number of reduction levels to follow, 0 to 100.
            limit: the largest total number of reduced children, and of overwritten values, to look into, 0 to 100,000.
                `more` counts the children that depth and limit leave out; to go on, ask for their own lineage.

        Raises:
            ParameterNotFound, PointNotFound
        """
        name = check_name(name, "parameter name")
        history = check_flag(history, "history")
        depth, limit = check_whole(depth, "depth", DEPTH_MAX), check_whole(limit, "limit", LIMIT_MAX)
        query = LineageQuery(name, history, depth, limit)
        return await self._views.lineage(self._run_id, self._name, at=at, query=query)

    async def steps(self, *, at: Point = None) -> dict[str, StepLog]:
        """Return this branch's steps by internal name, in the order they were first logged.

        For the root branch of a forked run, the source's steps that had succeeded at the fork come first, marked by
        `inherited_from`, except those that this branch has logged or removed itself.
        """
        return await self._views.steps(self._run_id, self._name, at=at)

    async def step(self, step: str, *, at: Point = None) -> StepLog:
        """Return one of the `steps`, with its attempts.

        Raises:
            StepNotFound
        """
        return await self._views.step(self._run_id, self._name, check_name(step, "step name"), at=at)

    async def attempts(self, step: str | None = None, *, at: Point = None) -> list[AttemptLog]:
        """Return the attempts of this branch, or of one of its steps, in order of creation.

        Those of an inherited step are the source's: `step`, `steps` and `compile` return them.
        """
        if step is not None:
            step = check_name(step, "step name")
        found = await self._views.attempts(self._run_id, self._name, step, at=at)
        return [attempt for _, attempt in found]

    async def compile(self, *, at: Point = None, nested: bool = True, inherited: bool = True) -> BranchLog:
        """Return the compiled log of this branch and all its descendants; for a run, the run log.

        Args:
            at: as of a version of this branch's stream, an aware time, or a `Position`; None for now.
            nested: include the descendants.
            inherited: include inherited parameters; False gives each branch only those that it set itself.
        """
        nested, inherited = check_flag(nested, "nested"), check_flag(inherited, "inherited")
        return await self._views.compile_branch(self._run_id, self._name, at=at, nested=nested, inherited=inherited)

    async def parting(self, other: "BranchReads", *, at: Point = None, other_at: Point = None) -> Origin | None:
        """Return the last event that the histories of this branch and another share, None if they share none.

        For a forked run and its source, or two forks of one branch, that is the last event that both read through;
        for two points of one branch, the earlier of them.

        Args:
            other: a branch of this run or another.
            at, other_at: points of this branch and of the other.
        """
        if not isinstance(other, BranchReads):
            raise InvalidValue("other", other, f"is {type(other).__name__}, not a branch")
        one = PlacedPoint(self._run_id, self._name, at)
        return await self._views.parting(one, PlacedPoint(other.run_id, other.name, other_at))
