"""What handles and stores read: the protocol between them and the projections, and the data that only crosses it."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final, Protocol

from msgspec import Struct

from engine.lineage import Lineage, LineageWanted
from engine.model import AttemptLog, BranchLog, ExternalRun, Head, Origin, Parameter, RunInfo, RunLog, RunPage, StepLog
from engine.point import PlacedPoint, Point, Position
from engine.ports import Stream

STATE_SCHEMA_VERSION: Final = "4"
"""What `schema_info` says to those who read the state views with SQL: as a state store of that version has them."""


class PlacedAttempt(Struct, frozen=True):
    """An attempt and where it was made."""

    run_id: str
    branch: str
    log: AttemptLog


class ChildValues(Struct, frozen=True):
    """What children set themselves, read at one point: their heads, and name → values in the children's order."""

    heads: tuple[Head, ...]
    values: dict[str, list[Parameter]]


class TaskViews(Protocol):
    """What a state store reads: tasks, attempts and external runs by their ids alone, in any branch of any run.

    Each call is one consistent snapshot. A run that is not there has nothing.
    """

    async def places(self, task_id: str, run_id: str | None) -> list[tuple[str, str]]:
        """Return the run and the branch of every task of that id, in one run or in all.

        Where it is no task's, return those of every step of that name.
        """
        ...

    async def tasks(self, run_id: str) -> list[tuple[str, StepLog]]:
        """Return a run's tasks, each with its branch and without its attempts, in the order they were first logged."""
        ...

    async def attempt(self, attempt_id: str) -> PlacedAttempt | None: ...
    async def unfinished(self, run_id: str | None) -> list[PlacedAttempt]:
        """Return the attempts that have not ended, of one run or of all, in the order they were created."""
        ...

    async def attempted(self, run_id: str) -> set[str]:
        """Return the ids of what has had attempts in a run."""
        ...

    async def external_run(self, run_id: str, branch: str, task_id: str) -> ExternalRun | None: ...
    async def external_runs(self, run_id: str, *, at: Point = None) -> list[tuple[str, ExternalRun]]:
        """Return a run's external runs, each with its branch, in the order of the tasks' ids.

        Args:
            at: a point of the root branch.

        Raises:
            RunNotFound, PointNotFound: as of a point; of a run that is not there, there are none now.
        """
        ...


class Views(Protocol):
    """What handles read: each call one consistent snapshot that never waits for a writer.

    `at` is a point of the branch that is named, or else of the run's root: what spans branches is then as it stood when
    the point's event was recorded.

    Raises, where they apply: RunNotFound, BranchNotFound, StepNotFound, AttemptNotFound, PointNotFound,
    ParameterNotFound.
    """

    @property
    def tasks(self) -> TaskViews: ...

    async def stream(self, run_id: str, branch: str) -> Stream: ...
    async def head_at(self, run_id: str, branch: str, at: int | datetime | Position) -> Head: ...
    async def heads_of(self, run_id: str, versions: Collection[tuple[str, int]]) -> dict[str, tuple[Head, int]]:
        """Return where branches stood at these versions, and the positions of those events, of those that are there."""
        ...

    async def head_before(self, run_id: str, branch: str, step: str, *, at: Point) -> Head:
        """Return the head of a branch just before one of its steps began, looking no further than a point."""
        ...

    async def run_info(self, run_id: str, *, at: Point = None) -> RunInfo: ...
    async def configuration(self, run_id: str) -> dict[str, Any]:
        """Return a run's configuration: its own, over what the runs had that it was forked from."""
        ...

    async def runs(
        self,
        *,
        status: str | None,
        tag: str | None,
        created_from: datetime | None,
        created_until: datetime | None,
        limit: int,
        cursor: str | None,
    ) -> RunPage: ...
    async def parameters(
        self, run_id: str, branch: str, *, at: Point, names: Collection[str] | None, inherited: bool
    ) -> dict[str, Parameter]: ...
    async def resolved(self, run_id: str, branch: str, *, at: Point) -> dict[str, tuple[Parameter, Origin]]: ...
    async def lineage(self, run_id: str, branch: str, *, at: Point, wanted: LineageWanted) -> Lineage: ...
    async def parting(self, one: PlacedPoint, other: PlacedPoint) -> Origin | None:
        """Return the last version of a branch that both read through, None when nothing is behind both."""
        ...

    async def steps(self, run_id: str, branch: str, *, at: Point = None) -> dict[str, StepLog]: ...
    async def step(self, run_id: str, branch: str, step: str, *, at: Point = None) -> StepLog: ...
    async def attempts(
        self, run_id: str, branch: str | None, step: str | None, *, at: Point = None
    ) -> list[tuple[str, AttemptLog]]: ...
    async def attempt(self, run_id: str, attempt_id: str) -> tuple[str, AttemptLog]: ...
    async def children(self, run_id: str, branch: str, *, at: Point = None) -> list[str]: ...
    async def own_values(self, run_id: str, branch: str, children: Sequence[str] | None) -> ChildValues: ...
    async def compile(
        self, run_id: str, *, at: Point = None, nested: bool, inherited: bool, parameters: bool = True
    ) -> RunLog:
        """Return a run's log, without `parameters` for who only asks for the rest: then it has none."""
        ...

    async def compile_branch(
        self, run_id: str, branch: str, *, at: Point = None, nested: bool, inherited: bool
    ) -> BranchLog: ...
