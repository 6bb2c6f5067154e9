"""The documents of a state store: runs, tasks, attempts and external runs, with the hosts' own attribute names.

A store accepts any object with these attributes, or a mapping with these keys. It returns these structs, or what the
host's own factories make of the same fields.
"""

import inspect
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from msgspec import Struct, field, structs

from engine import model
from engine.encoding.values import check_flag
from engine.errors import InvalidValue
from engine.model import CREATED, TaskSpec
from engine.views import PlacedAttempt

Made = TypeVar("Made", bound=Struct)


class RunHandle(Struct, frozen=True, kw_only=True):
    """A run's id, and where its files are; the other fields are None for a run that no state store created."""

    run_id: str
    workspace_slug: str | None
    root_path: Path | None


class RunMetadata(Struct, frozen=True, kw_only=True):
    """`created_at`, like all times, is aware and in UTC unless `Factories.naive_times` is set."""

    created_at: datetime
    status: str = CREATED
    tags: dict[str, Any] = field(default_factory=dict)
    description: str | None = None


class Task(Struct, frozen=True, kw_only=True):
    """A task of a run. `dependencies` are task ids."""

    task_id: str
    image: str
    command: str
    files: dict[str, Any]
    env: dict[str, str]
    dependencies: frozenset[str]
    cores: int | None
    memory_gb: int | float | None
    gpus: int | None
    time_limit_minutes: int | None
    allow_dependency_failure: bool
    allow_failure: bool
    download_patterns: list[str] | dict[str, list[str]] | None
    task_type: str
    operator_key: str | None
    status: str
    current_attempt_id: str | None


class TaskAttempt(Struct, frozen=True, kw_only=True):
    """One attempt at a task. Times are aware and in UTC."""

    attempt_id: str
    task_id: str
    run_id: str
    attempt_index: int
    status: str
    operator_key: str | None
    operator_type: str | None
    external_id: str | None
    operator_data: dict[str, Any]
    relative_path: str | None
    created_at: datetime
    submitted_at: datetime | None
    ended_at: datetime | None
    status_reason: str | None


class ExternalRunHandle(Struct, frozen=True, kw_only=True):
    """A legacy external job, one per task. `relative_path` is relative to the run's root path."""

    task_id: str
    operator_type: str
    external_id: str | None
    status: str
    operator_data: dict[str, Any]
    relative_path: Path | None


class Factories(Struct, frozen=True, kw_only=True):
    """Callables that make the objects a store returns, each replacing one struct.

    A factory gets the struct's fields as keyword arguments: those that its signature names, or all if it takes any. To
    a type checker a store still returns the structs.

    Args:
        naive_times: times are naive, in UTC: for hosts that compute with `datetime.utcnow()`.

    Raises:
        InvalidValue: a factory is not callable.
    """

    run: Callable[..., Any] = RunHandle
    metadata: Callable[..., Any] = RunMetadata
    task: Callable[..., Any] = Task
    attempt: Callable[..., Any] = TaskAttempt
    external_run: Callable[..., Any] = ExternalRunHandle
    naive_times: bool = False

    def __post_init__(self) -> None:
        check_flag(self.naive_times, "naive_times")
        for name in _FACTORIES.values():
            factory = getattr(self, name)
            if not callable(factory):
                raise InvalidValue(f"factory {name}", factory, "cannot be called")


_FACTORIES: Final[dict[type, str]] = {
    RunHandle: "run",
    RunMetadata: "metadata",
    Task: "task",
    TaskAttempt: "attempt",
    ExternalRunHandle: "external_run",
}


def checked_factories(given: object) -> Factories:
    """Return a host's factories; for None, those of the store's own structs.

    Raises:
        InvalidValue: `given` is anything else.
    """
    if given is None:
        return Factories()
    if not isinstance(given, Factories):
        raise InvalidValue("factories", given, f"is {type(given).__name__}, not Factories")
    return given


def make(factories: Factories, made: Made) -> Made:
    """Return what the factory for a struct makes of its fields."""
    if factories.naive_times:
        made = _with_naive_times(made)
    factory = getattr(factories, _FACTORIES[type(made)])
    if factory is type(made):
        return made
    fields = structs.asdict(made)
    names = _accepted_names(factory) if _is_hashable(factory) else _accepted_names.__wrapped__(factory)
    # The caller knows what its own factory returns; without one it is the struct, which is the declared type.
    return cast("Made", factory(**{name: value for name, value in fields.items() if names is None or name in names}))


def _with_naive_times(made: Made) -> Made:
    times = {name: time for name, time in structs.asdict(made).items() if isinstance(time, datetime)}
    return structs.replace(made, **{name: time.replace(tzinfo=None) for name, time in times.items()})


def _is_hashable(factory: Callable[..., Any]) -> bool:
    try:
        hash(factory)
    except TypeError:
        return False
    return True


@lru_cache(maxsize=64)
def _accepted_names(factory: Callable[..., Any]) -> frozenset[str] | None:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except ValueError:  # written in C, without a signature
        return None
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters):
        return None
    return frozenset(each.name for each in parameters if each.kind is not inspect.Parameter.POSITIONAL_ONLY)


def run_handle(info: model.RunInfo) -> RunHandle:
    root_path = None if info.root_path is None else Path(info.root_path)
    return RunHandle(run_id=info.run_id, workspace_slug=info.workspace_slug, root_path=root_path)


def run_metadata(info: model.RunInfo) -> RunMetadata:
    return RunMetadata(created_at=info.created_at, status=info.status, tags=info.tags, description=info.description)


def task(step: model.StepLog) -> Task:
    """Convert a step that has a specification to a task."""
    spec = structs.asdict(step.spec or TaskSpec())
    return Task(
        task_id=step.step,
        status=step.status,
        current_attempt_id=step.current_attempt_id,
        **{**spec, "dependencies": frozenset(spec["dependencies"])},
    )


def task_attempt(placed: PlacedAttempt) -> TaskAttempt:
    log = placed.log
    own = {name: getattr(log, name) for name in TaskAttempt.__struct_fields__ if name not in ("run_id", "task_id")}
    own["operator_data"] = log.operator_data or {}
    return TaskAttempt(run_id=placed.run_id, task_id=log.step, **own)


def external_run_handle(external_run: model.ExternalRun) -> ExternalRunHandle:
    path = external_run.relative_path
    return ExternalRunHandle(
        task_id=external_run.task_id,
        operator_type=external_run.operator_type,
        external_id=external_run.external_id,
        status=external_run.status,
        operator_data=external_run.operator_data or {},
        relative_path=None if path is None else Path(path),
    )
