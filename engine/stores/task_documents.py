"""The documents of a state store: runs, tasks, attempts and external runs, with the hosts' own attribute names.

A store accepts any object with these attributes, or a mapping with these keys. It returns these structs, or what the
host's own factories make of the same fields.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any, Final, TypeVar, cast

from msgspec import NODEFAULT, Struct, field, structs

from engine import model
from engine.errors import InvalidValue, shown
from engine.events import ExternalRunRegistered, ExternalRunUpdated, RunCreated
from engine.model import CREATED, TaskSpec
from engine.names import ROOT, check_name
from engine.times import plain_time
from engine.values import check_document, check_flag, check_task_spec, check_text
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

    A factory gets the struct's fields as keyword arguments: those that its signature names, or all if it takes any.

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
    names = _accepted_names(factory)
    # The caller knows what its own factory returns; without one it is the struct, which is the declared type.
    return cast("Made", factory(**{name: value for name, value in fields.items() if names is None or name in names}))


def _with_naive_times(made: Made) -> Made:
    times = {name: time for name, time in structs.asdict(made).items() if isinstance(time, datetime)}
    return structs.replace(made, **{name: time.replace(tzinfo=None) for name, time in times.items()})


@lru_cache(maxsize=64)
def _accepted_names(factory: Callable[..., Any]) -> frozenset[str] | None:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except ValueError:  # written in C, without a signature
        return None
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters):
        return None
    return frozenset(each.name for each in parameters if each.kind is not inspect.Parameter.POSITIONAL_ONLY)


def run_id_of(handle: object) -> str:
    """Return the run id of a handle."""
    return check_name(_attribute(handle, "run_id", "run"), "run id")


def run_created(handle: object, metadata: object | None) -> RunCreated:
    """Return the event that opens a run; without metadata, it is CREATED now."""
    given = {} if metadata is None else _with_any(metadata, "metadata", RunMetadata.__struct_fields__)
    created_at = _attribute(given, "created_at", "metadata", None)
    return RunCreated(
        branch=ROOT,
        status=status_of(_attribute(given, "status", "metadata", CREATED)),
        workspace_slug=optional_text(_attribute(handle, "workspace_slug", "run", None), "workspace_slug"),
        root_path=optional_text(_attribute(handle, "root_path", "run", None), "root_path"),
        description=optional_text(_attribute(given, "description", "metadata", None), "description"),
        tags=optional_document(_attribute(given, "tags", "metadata", None), "tags"),
        created_at=None if created_at is None else _as_utc(created_at),
    )


def _as_utc(moment: Any) -> datetime:
    # Hosts of the old store pass naive times in UTC.
    return plain_time(moment.replace(tzinfo=UTC) if isinstance(moment, datetime) and moment.tzinfo is None else moment)


def task_specs(workflow: object) -> list[tuple[str, TaskSpec]]:
    """Return the ids and specifications of a workflow's tasks, in its order."""
    tasks = _attribute(workflow, "tasks", "workflow")
    if not isinstance(tasks, Mapping):
        raise InvalidValue("workflow.tasks", tasks, "is not a mapping of ids to tasks")
    found = []
    for key, task in tasks.items():
        task_id = check_name(_attribute(task, "task_id", "task", key), "task id")
        found.append((task_id, _task_spec(task, f"task {shown(task_id)}")))
    return found


_DEFAULTS: Final = {name: getattr(TaskSpec(), name) for name in TaskSpec.__struct_fields__}


def _task_spec(task: object, where: str) -> TaskSpec:
    _with_any(task, where, ("task_id", *_DEFAULTS))
    given = {name: _attribute(task, name, where, default) for name, default in _DEFAULTS.items()}
    given["files"] = _plain_paths(given["files"])
    given["dependencies"] = _in_order(given["dependencies"])
    if _attribute(task, "task_type", where, None) is None:
        given["task_type"] = type(task).__name__
    return check_task_spec(TaskSpec(**given), where)


def _plain_paths(files: Any) -> Any:
    if not isinstance(files, Mapping):
        return files
    return {_plain_path(name): _plain_path(content) for name, content in files.items()}


def _plain_path(value: Any) -> Any:
    return str(value) if isinstance(value, PurePath) else value


def _in_order(dependencies: Any) -> Any:
    # A set has no stable order, but adding the same task twice must record nothing new.
    return sorted(dependencies, key=str) if isinstance(dependencies, AbstractSet) else dependencies


def external_run_registered(handle: object) -> ExternalRunRegistered:
    """Return the event that registers an external run."""
    operator_type = check_text(_attribute(handle, "operator_type", "external run"), "operator_type")
    return ExternalRunRegistered(branch=ROOT, operator_type=operator_type, **_external_run(handle))


def external_run_updated(handle: object) -> ExternalRunUpdated:
    """Return the event that updates an external run to its handle, which must have a status."""
    return ExternalRunUpdated(branch=ROOT, **_external_run(handle, NODEFAULT))


def _external_run(handle: object, status: Any = CREATED) -> dict[str, Any]:
    return {
        "task_id": check_name(_attribute(handle, "task_id", "external run"), "task id"),
        "status": status_of(_attribute(handle, "status", "external run", status)),
        "external_id": optional_text(_attribute(handle, "external_id", "external run", None), "external_id"),
        "operator_data": optional_document(_attribute(handle, "operator_data", "external run", None), "operator_data"),
        "relative_path": optional_text(_attribute(handle, "relative_path", "external run", None), "relative_path"),
    }


def status_of(status: object) -> str:
    """Return a status given as text, or as an enumeration member whose value is text."""
    return check_name(status.value if isinstance(status, Enum) else status, "status")


def optional_text(text: object, where: str) -> str | None:
    """Return a text or a path as text; None stays None."""
    return None if text is None else check_text(_plain_path(text), where)


def optional_document(document: object, where: str) -> dict[str, Any]:
    """Return a copy of a mapping; an empty one for None."""
    return {} if document is None else check_document(document, where)


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


def _with_any(given: object, what: str, names: Sequence[str]) -> object:
    # Every attribute is optional, but an object with none of them is surely a mistake.
    if all(_attribute(given, name, what, None) is None for name in names):
        raise InvalidValue(what, given, f"has none of {', '.join(names)}")
    return given


def _attribute(given: object, name: str, what: str, default: Any = NODEFAULT) -> Any:
    found = given.get(name, default) if isinstance(given, Mapping) else getattr(given, name, default)
    if found is NODEFAULT:
        raise InvalidValue(what, given, f"has no {name}")
    return found
