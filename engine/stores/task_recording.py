"""Callers' runs, workflows and external runs as what the engine records: events and task specifications. Pure.

Any object with the attributes of the structs in `task_documents` is accepted, or a mapping with these keys.
"""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from enum import Enum
from pathlib import PurePath
from typing import Any, Final

from msgspec import NODEFAULT

from engine.encoding.values import check_document, check_task_spec, check_text
from engine.errors import InvalidValue, shown
from engine.events import ExternalRunRegistered, ExternalRunUpdated, RunCreated
from engine.model import CREATED, TaskSpec
from engine.names import ROOT, check_name
from engine.stores.task_documents import RunMetadata
from engine.times import plain_time


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


def task_specs(workflow: object) -> Iterator[tuple[str, TaskSpec]]:
    """Yield the ids and specifications of a workflow's tasks, in its order."""
    tasks = _attribute(workflow, "tasks", "workflow")
    if not isinstance(tasks, Mapping):
        raise InvalidValue("workflow.tasks", tasks, "is not a mapping of ids to tasks")
    for key, task in list(tasks.items()):  # a copy, because the caller may go on between two of them
        task_id = check_name(_attribute(task, "task_id", "task", key), "task id")
        yield task_id, _task_spec(task, f"task {shown(task_id)}")


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
