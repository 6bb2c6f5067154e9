"""Errors about a request: the target does not exist, exists already, is invalid, or conflicts with the state."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors.root import AnabranchError, shown

if TYPE_CHECKING:  # the model imports the errors
    from engine.model import ParameterConflict


class NotFound(AnabranchError, ValueError):
    """The requested object does not exist."""


class RunNotFound(NotFound):
    """`deleted_at` and `reason` say when and why the run was deleted, if `Engine.run` finds that it was; else None."""

    def __init__(self, run_id: str, deleted_at: datetime | None = None, reason: str | None = None) -> None:
        self.run_id, self.deleted_at, self.reason = run_id, deleted_at, reason
        deleted = (
            "" if deleted_at is None else f": it was deleted at {deleted_at:%Y-%m-%d %H:%M:%S} UTC, {shown(reason)}"
        )
        super().__init__(f"no run {shown(run_id)}{deleted}")


def _branch_of(run_id: str, branch: str) -> str:
    return f"branch {shown(branch)} of run {shown(run_id)}"


class BranchNotFound(NotFound):
    def __init__(self, run_id: str, branch: str) -> None:
        self.run_id, self.branch = run_id, branch
        super().__init__(f"no branch {shown(branch)} in run {shown(run_id)}")


class StepNotFound(NotFound):
    def __init__(self, run_id: str, branch: str, step: str) -> None:
        self.run_id, self.branch, self.step = run_id, branch, step
        super().__init__(f"no step {shown(step)} in {_branch_of(run_id, branch)}")


class AttemptNotFound(NotFound):
    """`run_id` is None if all runs were searched."""

    def __init__(self, run_id: str | None, attempt_id: str) -> None:
        self.run_id, self.attempt_id = run_id, attempt_id
        super().__init__(f"no attempt {shown(attempt_id)}{_in_run(run_id)}")


class TaskNotFound(NotFound):
    """`run_id` is None if all runs were searched."""

    def __init__(self, run_id: str | None, task_id: str) -> None:
        self.run_id, self.task_id = run_id, task_id
        super().__init__(f"no task {shown(task_id)}{_in_run(run_id)}")


class ExternalRunNotFound(NotFound):
    def __init__(self, run_id: str | None, task_id: str) -> None:
        self.run_id, self.task_id = run_id, task_id
        super().__init__(f"no external run for task {shown(task_id)}{_in_run(run_id)}")


def _in_run(run_id: str | None) -> str:
    return "" if run_id is None else f" in run {shown(run_id)}"


class JobNotFound(NotFound):
    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(f"no job log in run {shown(run_id)}")


class ParameterNotFound(NotFound):
    def __init__(self, run_id: str, branch: str, name: str) -> None:
        self.run_id, self.branch, self.name = run_id, branch, name
        super().__init__(f"no parameter {shown(name)} in {_branch_of(run_id, branch)}")


class PointNotFound(NotFound):
    def __init__(self, run_id: str, branch: str, point: object, head_version: int) -> None:
        self.run_id, self.branch, self.point, self.head_version = run_id, branch, point, head_version
        position = getattr(point, "n", None)  # of a `Position`, whose module imports this one
        if isinstance(point, datetime):
            problem = f"did not exist at {point.isoformat()}"
        elif position is not None:
            problem = f"did not exist at position {position}, or the log does not reach it"
        else:
            problem = f"has no version {shown(repr(point))[1:-1]}; it has the versions 1 to {head_version}"
        super().__init__(f"{_branch_of(run_id, branch)} {problem}")


class AlreadyExists(AnabranchError):
    """The name is taken."""


class RunExists(AlreadyExists):
    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(f"run {shown(run_id)} already exists")


class BranchExists(AlreadyExists):
    def __init__(self, run_id: str, branch: str) -> None:
        self.run_id, self.branch = run_id, branch
        super().__init__(f"{_branch_of(run_id, branch)} already exists")


class AttemptExists(AlreadyExists):
    def __init__(self, attempt_id: str) -> None:
        self.attempt_id = attempt_id
        super().__init__(f"attempt {shown(attempt_id)} already exists")


class BackupExists(AlreadyExists):
    """`found` is the file in the way: the target itself, or one that SQLite would take for part of it."""

    def __init__(self, path: Path, found: Path) -> None:
        self.path, self.found = path, found
        what = "" if self.path == self.found else f", and SQLite would take it for part of {shown(self.path.name)}"
        super().__init__(f"{shown(found)} already exists{what}; a backup never overwrites a file")


class InvalidInput(AnabranchError, ValueError):
    """The input is invalid; nothing was recorded."""


class InvalidName(InvalidInput):
    def __init__(self, what: str, value: object, reason: str) -> None:
        self.what, self.value, self.reason = what, value, reason
        super().__init__(f"{what} {shown(value)} {reason}")


class InvalidValue(InvalidInput):
    def __init__(self, where: str, value: object, reason: str) -> None:
        self.where, self.value, self.reason = where, value, reason
        super().__init__(f"{where}: {shown(value)} {reason}")


class EventTooLarge(InvalidInput):
    def __init__(self, event_type: str, size_bytes: int, limit_bytes: int) -> None:
        self.event_type, self.size_bytes, self.limit_bytes = event_type, size_bytes, limit_bytes
        super().__init__(
            f"{event_type} is {size_bytes} bytes when encoded; the limit is {limit_bytes} bytes (event_bytes_max)"
        )


class NotErasable(InvalidInput):
    def __init__(
        self, event_type: str, reason: str = "holds nothing to erase: only its place and its links to other events"
    ) -> None:
        self.event_type, self.reason = event_type, reason
        super().__init__(f"{event_type} {reason}")


class CheckpointOfAnotherStore(InvalidInput):
    def __init__(self, checkpoint_store: str, store: str) -> None:
        self.checkpoint_store, self.store = checkpoint_store, store
        super().__init__(f"the checkpoint is of store {shown(checkpoint_store)}; this is store {shown(store)}")


class SignatureInvalid(InvalidInput):
    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the checkpoint cannot be trusted: {reason}")


class AmbiguousTask(InvalidInput):
    """`places` are the run and the branch of each task with that id."""

    def __init__(self, task_id: str, places: Sequence[tuple[str, str]]) -> None:
        self.task_id, self.places = task_id, tuple(places)
        found = " and ".join(
            f"run {shown(run_id)}{f', branch {shown(branch)}' if branch else ''}" for run_id, branch in self.places[:2]
        )
        more = f" and {len(self.places) - 2} more" if len(self.places) > 2 else ""  # noqa: PLR2004 - two are named
        super().__init__(f"task {shown(task_id)} exists in {found}{more}; name the run and the branch")


class ReductionImpossible(InvalidInput):
    def __init__(self, name: str, rule: str, reason: str) -> None:
        self.name, self.rule, self.reason = name, rule, reason
        super().__init__(f"cannot reduce {shown(name)} by rule {shown(rule)}: {reason}")


class Conflict(AnabranchError):
    """The state differs from what the caller expected; nothing was recorded."""


class VersionConflict(Conflict):
    def __init__(self, run_id: str, branch: str, expected: object, actual: int) -> None:
        self.run_id, self.branch, self.expected, self.actual = run_id, branch, expected, actual
        super().__init__(f"{_branch_of(run_id, branch)}: expected version {expected}, actual version {actual}")


class IdempotencyConflict(Conflict):
    def __init__(self, run_id: str, idempotency_key: str) -> None:
        self.run_id, self.idempotency_key = run_id, idempotency_key
        super().__init__(
            f"idempotency key {shown(idempotency_key)} of run {shown(run_id)} was already used for a different request"
        )


class HeadsMoved(Conflict):
    """Children have written since their values were passed to the caller's functions; reduce when they are idle."""

    def __init__(self, run_id: str, branch: str) -> None:
        self.run_id, self.branch = run_id, branch
        super().__init__(f"the children of {_branch_of(run_id, branch)} have written since their values were read")


class SourceReplaced(Conflict):
    """A retry reads the fork point again, which may be another or may not exist."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(f"run {shown(run_id)} was deleted and recreated while it was being forked; fork it again")


class ReductionConflict(Conflict):
    """`conflicts` holds a `model.ParameterConflict` for each conflict."""

    def __init__(self, run_id: str, branch: str, conflicts: "Sequence[ParameterConflict]") -> None:
        self.run_id, self.branch, self.conflicts = run_id, branch, tuple(conflicts)
        names = ", ".join(sorted({shown(getattr(conflict, "name", conflict)) for conflict in conflicts}))
        super().__init__(f"reduction into {_branch_of(run_id, branch)} conflicts on {names}")


class RunKept(Conflict):
    """The run cannot be deleted."""


class RunNotExpired(RunKept):
    def __init__(self, run_id: str, status: str) -> None:
        self.run_id, self.status = run_id, status
        super().__init__(f"run {shown(run_id)} has not expired: its status is {shown(status)}")


class RunIsPinned(RunKept):
    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(f"run {shown(run_id)} is pinned")


class RunHasForks(RunKept):
    """`forks` are the runs that were forked from it and read through it."""

    def __init__(self, run_id: str, forks: Sequence[str]) -> None:
        self.run_id, self.forks = run_id, tuple(forks)
        names = ", ".join(shown(fork) for fork in self.forks[:3])
        more = f" and {len(self.forks) - 3} more" if len(self.forks) > 3 else ""  # noqa: PLR2004 - three are named
        super().__init__(f"run {shown(run_id)} is the source of {names}{more}; delete it with carry_over")
