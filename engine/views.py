"""The reads of handles and stores: the protocol between them and the projections, and its data types."""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any, Final, Protocol, TypeVar

from msgspec import Struct

from engine.lineage import Lineage, LineageQuery
from engine.model import AttemptLog, BranchLog, ExternalRun, Head, Origin, Parameter, RunInfo, RunLog, RunPage, StepLog
from engine.point import PlacedPoint, Point, Position
from engine.ports import Stream

Result = TypeVar("Result")

STATE_SCHEMA_VERSION: Final = "4"
"""The version in `schema_info`, for SQL readers of the state views: their columns are those of that state store."""


class PlacedAttempt(Struct, frozen=True):
    """An attempt with its run and branch."""

    run_id: str
    branch: str
    log: AttemptLog


class ChildValues(Struct, frozen=True):
    """What children wrote themselves, in one snapshot: their heads, and name → values in the children's order."""

    heads: tuple[Head, ...]
    values: dict[str, list[Parameter]]


class TaskViews(Protocol):
    """The reads of a state store: tasks, attempts and external runs by id, in any branch of any run.

    Each call is one consistent snapshot. For a run that does not exist the results are empty.
    """

    async def places(self, task_id: str, run_id: str | None) -> list[tuple[str, str]]:
        """Return the run and the branch of every task with that id, in one run or in all.

        If there is no such task, return those of every step with that name.
        """
        ...

    async def tasks(self, run_id: str) -> list[tuple[str, StepLog]]:
        """Return a run's tasks, each with its branch and without its attempts, in the order they were first logged."""
        ...

    async def attempt(self, attempt_id: str) -> PlacedAttempt | None: ...
    async def unfinished(self, run_id: str | None) -> list[PlacedAttempt]:
        """Return the attempts that have not ended, of one run or of all, in order of creation."""
        ...

    async def attempted(self, run_id: str) -> set[str]:
        """Return the ids of the steps of a run that have attempts."""
        ...

    async def external_run(self, run_id: str, branch: str, task_id: str) -> ExternalRun | None: ...
    async def external_runs(self, run_id: str, *, at: Point = None) -> list[tuple[str, ExternalRun]]:
        """Return a run's external runs, each with its branch, ordered by task id.

        Args:
            at: a point of the root branch.

        Raises:
            RunNotFound, PointNotFound: only if `at` is given.
        """
        ...


class Views(Protocol):
    """The reads of handles: each call is one consistent snapshot that never waits for a writer.

    `at` is a point of the given branch, or else of the run's root; reads that span branches return them as of the
    moment when the point's event was recorded.

    The calls raise, where they apply: RunNotFound, BranchNotFound, StepNotFound, AttemptNotFound, PointNotFound,
    ParameterNotFound.
    """

    @property
    def tasks(self) -> TaskViews: ...

    async def stream(self, run_id: str, branch: str) -> Stream: ...
    async def head_at(self, run_id: str, branch: str, at: int | datetime | Position) -> Head: ...
    async def heads_of(self, run_id: str, versions: Collection[tuple[str, int]]) -> dict[str, tuple[Head, int]]:
        """Return the heads of branches at these versions, with the events' positions, as far as they exist."""
        ...

    async def head_before(self, run_id: str, branch: str, step: str, *, at: Point) -> Head:
        """Return the head of a branch just before one of its steps began, considering events up to a point."""
        ...

    async def run_info(self, run_id: str, *, at: Point = None) -> RunInfo: ...
    async def configuration(self, run_id: str) -> dict[str, Any]:
        """Return a run's configuration: its own, merged over the inherited one."""
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
    async def lineage(self, run_id: str, branch: str, *, at: Point, query: LineageQuery) -> Lineage: ...
    async def parting(self, one: PlacedPoint, other: PlacedPoint) -> Origin | None:
        """Return the last event that two histories share, None if they share none."""
        ...

    async def steps(self, run_id: str, branch: str, *, at: Point = None) -> dict[str, StepLog]: ...
    async def step(self, run_id: str, branch: str, step: str, *, at: Point = None) -> StepLog: ...
    async def attempts(
        self, run_id: str, branch: str | None, step: str | None, *, at: Point = None
    ) -> list[tuple[str, AttemptLog]]: ...
    async def attempt(self, run_id: str, attempt_id: str) -> tuple[str, AttemptLog]: ...
    async def children(self, run_id: str, branch: str, *, at: Point = None) -> list[str]: ...
    async def branch_names(self, run_id: str, *, limit: int) -> list[str]:
        """Return the names of a run's branches other than the root, sorted, at most `limit`. No run has none."""
        ...

    async def own_values(self, run_id: str, branch: str, children: Sequence[str] | None) -> ChildValues: ...
    async def compile(
        self, run_id: str, *, at: Point = None, nested: bool, inherited: bool, parameters: bool = True
    ) -> RunLog:
        """Return a run's compiled log; with `parameters=False`, without its parameters, which saves reading them."""
        ...

    async def compile_branch(
        self, run_id: str, branch: str, *, at: Point = None, nested: bool, inherited: bool
    ) -> BranchLog: ...
    async def compile_as(
        self, make: Callable[[RunLog], Result], run_id: str, *, nested: bool, inherited: bool
    ) -> Result:
        """Return what `make` makes of a run's compiled log, in the thread that reads it: a log may be long."""
        ...

    async def compile_branch_as(
        self, make: Callable[[BranchLog], Result], run_id: str, branch: str, *, nested: bool, inherited: bool
    ) -> Result: ...
