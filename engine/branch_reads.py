"""What can be read of one branch: its parameters, steps, attempts and children, now or as of a point.

A point is a version of the branch's own stream, an aware time, a `Position` of the log, or None for now. What spans
several branches is then as it stood when the point's event was recorded; a time means the last event of the run that
was recorded by then.

Parameters, their sources and lineage, heads and children of a point are looked up. Steps, attempts and compiled logs
are folded anew, in memory, from the events up to there, those of the branch or of its whole run: that takes time in
proportion to their number, and the file is only read.
"""

from collections.abc import Collection

from typing_extensions import override

from engine.errors import InvalidValue
from engine.lineage import DEPTH_DEFAULT, DEPTH_MAX, LIMIT_DEFAULT, LIMIT_MAX, Lineage, LineageWanted
from engine.model import AttemptLog, BranchLog, Head, Origin, Parameter, StepLog
from engine.names import check_name
from engine.point import PlacedPoint, Point
from engine.values import check_flag, check_whole
from engine.views import Views


class BranchReads:
    """The reading half of `Branch`.

    Every read that takes `at` raises `PointNotFound` for a point that the branch's stream does not reach, or that lies
    before its beginning, and `InvalidValue` for what is no point.
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
        """Return the full names of the branches forked from this one, in the order they were forked."""
        return await self._views.children(self._run_id, self._name, at=at)

    async def parameters(
        self, *, at: Point = None, names: Collection[str] | None = None, inherited: bool = True
    ) -> dict[str, Parameter]:
        """Return what this branch sees, by name.

        Args:
            at: as of a version of this branch's stream, an aware time, or a `Position`; None for now.
            names: only these.
            inherited: also what comes through the forks; False for what the branch set or reduced itself.

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
        """Return for every parameter this branch sees the event that set or reduced it.

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
        """Return where the value came from that this branch sees under a name, back through forks and reductions.

        Args:
            at: as of a point, as `parameters` takes it; None for now.
            history: with all that the value overwrote, newest first.
            depth: how many levels of reductions are followed, 0 to 100.
            limit: how many children of reductions are looked into in all, and how many overwritten values, 0 to
                100,000. What depth and limit leave out is counted in `more`; ask the branch there to go on.

        Raises:
            ParameterNotFound, PointNotFound
        """
        name = check_name(name, "parameter name")
        history = check_flag(history, "history")
        depth, limit = check_whole(depth, "depth", DEPTH_MAX), check_whole(limit, "limit", LIMIT_MAX)
        wanted = LineageWanted(name, history, depth, limit)
        return await self._views.lineage(self._run_id, self._name, at=at, wanted=wanted)

    async def steps(self, *, at: Point = None) -> dict[str, StepLog]:
        """Return this branch's steps by internal name, in the order they were first logged.

        The root branch of a forked run first has the steps that had succeeded where it was forked from, marked by
        `inherited_from`, unless it has logged or removed a step of that name itself.
        """
        return await self._views.steps(self._run_id, self._name, at=at)

    async def step(self, step: str, *, at: Point = None) -> StepLog:
        """Return one of the `steps`, with its attempts.

        Raises:
            StepNotFound
        """
        return await self._views.step(self._run_id, self._name, check_name(step, "step name"), at=at)

    async def attempts(self, step: str | None = None, *, at: Point = None) -> list[AttemptLog]:
        """Return the attempts made on this branch, or those at one step, in the order they were created."""
        if step is not None:
            step = check_name(step, "step name")
        found = await self._views.attempts(self._run_id, self._name, step, at=at)
        return [attempt for _, attempt in found]

    async def compile(self, *, at: Point = None, nested: bool = True, inherited: bool = True) -> BranchLog:
        """Return the compiled log of this branch and all below it; of a run, its run log.

        Args:
            at: as of a version of this branch's stream, an aware time, or a `Position`; None for now.
            nested: with the branches below it.
            inherited: with the parameters that come through the branches' forks, not only those that each set itself.
        """
        nested, inherited = check_flag(nested, "nested"), check_flag(inherited, "inherited")
        return await self._views.compile_branch(self._run_id, self._name, at=at, nested=nested, inherited=inherited)

    async def parting(self, other: "BranchReads", *, at: Point = None, other_at: Point = None) -> Origin | None:
        """Return the event after which this branch and another go their own ways, None when they share no history.

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
