"""Find every public method that takes a name or a value, so that methods added later are attacked, too.

A `Case` is one place for a name or a value in a call. A new parameter must be described: in `_VALID` (attacked.py), by
a valid argument; in `NO_NAMES`, if it takes neither names nor values; in `DOCUMENTS`, by the places inside it.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct
from typing_extensions import override

from engine import Engine, Run
from engine.handles.attempt import Attempt
from engine.handles.branch import Branch
from engine.model import AttemptDocument, Parameter, TaskSpec
from engine.stores import BlockingRunLogStore, PartitionedRunLogStore, SQLiteStateStore, StateStore
from engine.stores.runnable_plugin import AnabranchRunLogStore

FACES: Final[tuple[type, ...]] = (
    Engine,
    Run,
    Branch,
    Attempt,
    PartitionedRunLogStore,
    BlockingRunLogStore,
    StateStore,
    SQLiteStateStore,
    AnabranchRunLogStore,
)

Takes: TypeAlias = Literal["name", "value"]
Make: TypeAlias = Callable[[Any], Any]
"""Wraps a given object in the argument that carries it."""


class Case(Struct, frozen=True):
    """One place for a text (`"name"`) or any value (`"value"`) in a call; `make` returns the arguments that hold it."""

    face: type
    method: str
    place: str
    takes: Takes
    make: Make

    @override
    def __str__(self) -> str:
        return f"{self.face.__name__}.{self.method}({self.place})"


NO_NAMES: Final = {
    "progress": "a function",
    "work": "a function",
    "since": "a checkpoint: `tests/faults/test_hostile_bytes.py`",
    "file": "an export: `tests/faults/test_hostile_bytes.py`",
    "path": "where the caller wants a file: `test_hostile_paths`",
    "commands": "what the methods attacked here build from their arguments",
    "other": "a branch",
    "created_at": "a time",
    "created_from": "a time",
    "created_until": "a time",
    "older_than": "a time",
    "at": "a point",
    "other_at": "a point",
    "expected_version": "a number or a constant",
    **dict.fromkeys(("limit", "depth", "after", "until", "version", "timeout_seconds"), "a number"),
    **dict.fromkeys(("use_cached", "exist_ok", "dry_run", "carry_over", "compact", "descendants"), "a flag"),
    **dict.fromkeys(("with_sources", "readable", "nested", "inherited", "history", "mock", "full"), "a flag"),
}
"""Parameters that take neither names nor values; `tests/integration/test_bad_input_values.py` covers them."""


def _attributes(valid: Mapping[str, Any], names: str, values: str = "") -> dict[str, tuple[Takes, Make]]:
    """Return the places for names and values in a document of plain attributes."""
    parts: dict[str, tuple[Takes, Make]] = {}
    for name in names.split():
        parts[name] = "name", _object_with(valid, name, _itself)
    for name in values.split():
        parts[name] = "value", _object_with(valid, name, _itself)
        parts[f"{name}.key"] = "name", _object_with(valid, name, _as_key)
        parts[f"{name}.member"] = "value", _object_with(valid, name, _as_member)
    return parts


def _object_with(valid: Mapping[str, Any], name: str, make: Make) -> Make:
    return lambda given: SimpleNamespace(**{**valid, name: make(given)})


def _struct_with(struct: Callable[..., Any], name: str) -> Make:
    return lambda given: struct(**{name: given})


def _task_of(make: Make) -> Make:
    return lambda given: SimpleNamespace(tasks={"new task": make(given)})


def _listed(make: Make) -> Make:
    return lambda given: [make(given)]


def _argument(name: str, make: Make) -> Make:
    return lambda given: {name: make(given)}


def _itself(given: Any) -> Any:
    return given


def _as_key(given: Any) -> Any:
    return {given: 1}


def _as_member(given: Any) -> Any:
    return {"k": given}


def _as_parameter(given: Any) -> Any:
    return {"k": Parameter(given)}


def _as_kind(given: Any) -> Any:
    return {"k": Parameter("v", given)}


_TASK = {"task_id": "new task"}
_EXTERNAL = {"task_id": "task", "operator_type": "hpc", "status": "RUNNING"}
_STEP = {"internal_name": "new step"}
_BRANCH = {"internal_name": "new branch"}

DOCUMENTS: Final[dict[str, dict[str, tuple[Takes, Make]]]] = {
    "create_run.handle": _attributes({"run_id": "new run"}, "run_id workspace_slug root_path"),
    "create_run.metadata": _attributes({"status": "X"}, "status description", "tags"),
    "handle": _attributes(_EXTERNAL, "task_id operator_type status external_id relative_path", "operator_data"),
    "workflow": {
        part: (takes, _task_of(make))
        for part, (takes, make) in _attributes(
            _TASK,
            "task_id image command task_type operator_key",
            "files env dependencies cores memory_gb gpus time_limit_minutes download_patterns allow_failure",
        ).items()
    },
    "run_log": _attributes({"run_id": "new run"}, "run_id dag_hash tag status", "parameters run_config steps branches"),
    "branch_log": _attributes(_BRANCH, "internal_name status", "parameters steps branches"),
    "step_log": _attributes(_STEP, "name internal_name status step_type message", "attempts branches data_catalog"),
    "job_log": _attributes({}, "status message", "attempts code_identities data_catalog"),
    "spec": {name: ("value", _struct_with(TaskSpec, name)) for name in TaskSpec.__struct_fields__},
    "attempts": {
        name: ("value", _listed(_struct_with(AttemptDocument, name))) for name in AttemptDocument.__struct_fields__
    },
}
"""The places inside a document, keyed by parameter or by method and parameter."""

_FIELD_TEXTS: Final = "operator_key operator_type external_id relative_path message"
_FIELD_DOCUMENTS: Final = "operator_data inputs outputs metrics details"
_CHANGED_TEXTS: Final = f"{_FIELD_TEXTS} status status_reason"

_TEXTS: Final = ("Collection[str]", "Iterable[str]", "Iterable[type | str]", "Iterable[Branch | str]")


def cases() -> list[Case]:
    """Return a case for every place in every public method."""
    return [
        Case(face, name, place, takes, make)
        for face in FACES
        for name, method in inspect.getmembers(face, callable)
        if _is_ours(face, name)
        for parameter in list(inspect.signature(method).parameters.values())[1:]
        for place, takes, make in _places(face, name, parameter)
    ]


def _is_ours(face: type, name: str) -> bool:
    # The pydantic base class has a hundred public methods of its own.
    return not name.startswith("_") and (face is not AnabranchRunLogStore or name in vars(face))


def _places(face: type, method: str, parameter: inspect.Parameter) -> Iterator[tuple[str, Takes, Make]]:
    name, annotation = parameter.name, inspect.formatannotation(parameter.annotation)
    if name in NO_NAMES:
        return
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
        yield from _field_places(method)
    elif face is AnabranchRunLogStore and name.endswith("_log"):
        return  # takes the host's own models; `PartitionedRunLogStore` is attacked with the same documents
    elif (parts := DOCUMENTS.get(f"{method}.{name}") or DOCUMENTS.get(name)) is not None:
        for part, (takes, make) in parts.items():
            yield f"{name}.{part}", takes, _argument(name, make)
    elif any(each in annotation.replace("collections.abc.", "") for each in _TEXTS):
        yield name, "name", _argument(name, _itself)
        yield f"{name}[0]", "name", _argument(name, _listed(_itself))
    elif "Mapping" in annotation or annotation.startswith("dict"):
        yield from _mapping_places(name)
        if face is not AnabranchRunLogStore:  # it takes the host's own parameter models
            yield f"{name}.parameter", "value", _argument(name, _as_parameter)
            yield f"{name}.kind", "name", _argument(name, _as_kind)
    else:
        known = "str" in annotation or "Literal" in annotation
        assert known, f"{face.__name__}.{method}: unknown parameter {name}; see the docstring of {__name__}"
        yield name, "name", _argument(name, _itself)


def _mapping_places(name: str) -> Iterator[tuple[str, Takes, Make]]:
    yield name, "value", _argument(name, _itself)
    yield f"{name}.key", "name", _argument(name, _as_key)
    yield f"{name}.member", "value", _argument(name, _as_member)


def _field_places(method: str) -> Iterator[tuple[str, Takes, Make]]:
    yield "**", "name", _as_key
    for name in (_CHANGED_TEXTS if method == "update" else _FIELD_TEXTS).split():
        yield name, "name", _argument(name, _itself)
    for name in _FIELD_DOCUMENTS.split():
        yield from _mapping_places(name)
