"""Redaction: what remains of an event when its payload is erased. Pure.

Names of parameters, steps and attempts, statuses, times and links stay, because later events refer to them. Values,
texts, paths, ids of other systems and free-form documents are removed.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from msgspec import UNSET, structs

from engine.errors import NotErasable
from engine.events import (
    AttemptCreated,
    AttemptUpdated,
    BranchLogged,
    BranchStatusChanged,
    Event,
    ExternalRunRegistered,
    ExternalRunUpdated,
    JobLogged,
    ParametersReduced,
    ParametersSet,
    RunConfigured,
    RunCreated,
    RunForked,
    RunPinned,
    RunStatusChanged,
    RunUnpinned,
    SourceCarriedOver,
    StepLogged,
    StepRemoved,
    StepStatusChanged,
)
from engine.model import ERASED, CarriedStep, Parameter, TaskSpec

ERASED_TEXT: Final = "(erased)"
ERASED_DOCUMENT: Final = {"erased": True}
_ERASED_VALUE: Final = {"value": ERASED.value, "kind": ERASED.kind}

SPEC_KEPT: Final = ("dependencies", "allow_dependency_failure", "allow_failure", "task_type", "operator_key")
"""The fields of a task's specification that stay, because other tasks and operators depend on them."""


def redacted(event: Event) -> Event:
    """Return an event without the content that erasing removes.

    Raises:
        NotErasable: events of this type have no such content.
    """
    redact = _REDACTIONS.get(type(event))
    if redact is None:
        raise NotErasable(type(event).__name__)
    return redact(event)


def is_erased(document: object) -> bool:
    """Whether a JSON value is the placeholder of an erased text, value or document, or was recorded as exactly that."""
    return document in (ERASED_TEXT, ERASED_DOCUMENT, _ERASED_VALUE)


def is_erased_spec(document: object) -> bool:
    """Whether a JSON value is an erased task's specification, of which only `SPEC_KEPT` remains."""
    return isinstance(document, dict) and document.get("command") == ERASED_TEXT


def _parameters(values: Mapping[str, Parameter]) -> dict[str, Parameter]:
    return dict.fromkeys(values, ERASED)


def _parameter(value: Parameter | None) -> Parameter | None:
    return None if value is None else ERASED


def _text(text: str | None) -> str | None:
    return ERASED_TEXT if text else text


def _document(document: dict[str, Any] | None) -> dict[str, Any] | None:
    return ERASED_DOCUMENT if document else document


def _run_created(event: RunCreated) -> Event:
    return structs.replace(
        event,
        tag=_text(event.tag),
        workspace_slug=_text(event.workspace_slug),
        root_path=_text(event.root_path),
        description=_text(event.description),
        tags=_document(event.tags),
    )


_WithReason: TypeAlias = (
    RunStatusChanged | RunPinned | RunUnpinned | BranchStatusChanged | StepStatusChanged | StepRemoved
)


def _reason(event: _WithReason) -> Event:
    return structs.replace(event, reason=_text(event.reason))


def _parameters_set(event: ParametersSet) -> Event:
    return structs.replace(event, values=_parameters(event.values))


def _parameters_reduced(event: ParametersReduced) -> Event:
    conflicts = [
        structs.replace(each, base=_parameter(each.base), parent=ERASED, child=ERASED) for each in event.conflicts
    ]
    return structs.replace(event, values=_parameters(event.values), conflicts=conflicts)


def _step_logged(event: StepLogged) -> Event:
    return structs.replace(
        event, message=_text(event.message), spec=_spec(event.spec), details=_document(event.details)
    )


def _spec(spec: TaskSpec | None) -> TaskSpec | None:
    # The placeholder is set even if there was no command: it is what marks the specification as erased.
    return spec and TaskSpec(command=ERASED_TEXT, **{name: getattr(spec, name) for name in SPEC_KEPT})


_ATTEMPT_FIELDS: Final[dict[str, Callable[[Any], Any]]] = {
    "status_reason": _text,
    "external_id": _text,
    "operator_data": _document,
    "relative_path": _text,
    "message": _text,
    "inputs": _parameters,
    "outputs": _parameters,
    "metrics": _parameters,
    "details": _document,
}


def _fields(struct: Any) -> dict[str, Any]:
    given = {name: getattr(struct, name) for name in _ATTEMPT_FIELDS if hasattr(struct, name)}
    return {
        name: _ATTEMPT_FIELDS[name](value) for name, value in given.items() if value is not UNSET and value is not None
    }


def _attempt_updated(event: AttemptUpdated) -> Event:
    return structs.replace(event, changes=structs.replace(event.changes, **_fields(event.changes)))


def _source_carried_over(event: SourceCarriedOver) -> Event:
    return structs.replace(
        event,
        values=_parameters(event.values),
        steps=[_carried(each) for each in event.steps],
        hidden=[_carried(each) for each in event.hidden],
        workspace_slug=_text(event.workspace_slug),
        root_path=_text(event.root_path),
        description=_text(event.description),
        tags=_document(event.tags),
        config=_configuration(event.config),
    )


def _configuration(config: dict[str, Any]) -> dict[str, Any]:
    return dict.fromkeys(config, ERASED_TEXT)


def _carried(carried: CarriedStep) -> CarriedStep:
    step = carried.log
    log = structs.replace(
        step,
        status_reason=_text(step.status_reason),
        message=_text(step.message),
        spec=_spec(step.spec),
        details=_document(step.details),
        attempts=[structs.replace(attempt, **_fields(attempt)) for attempt in step.attempts],
    )
    return structs.replace(carried, log=log)


def _with_fields(event: AttemptCreated | ExternalRunRegistered | ExternalRunUpdated) -> Event:
    return structs.replace(event, **_fields(event))


_REDACTIONS: Final[dict[type, Callable[[Any], Event]]] = {
    RunCreated: _run_created,
    RunForked: lambda event: structs.replace(event, tag=_text(event.tag) or ""),
    RunStatusChanged: _reason,
    RunPinned: _reason,
    RunUnpinned: _reason,
    SourceCarriedOver: _source_carried_over,
    RunConfigured: lambda event: structs.replace(event, config=_configuration(event.config)),
    JobLogged: lambda event: structs.replace(event, job=ERASED_DOCUMENT),
    BranchLogged: lambda event: structs.replace(event, details=_document(event.details)),
    BranchStatusChanged: _reason,
    ParametersSet: _parameters_set,
    ParametersReduced: _parameters_reduced,
    StepLogged: _step_logged,
    StepStatusChanged: _reason,
    StepRemoved: _reason,
    AttemptCreated: _with_fields,
    AttemptUpdated: _attempt_updated,
    ExternalRunRegistered: _with_fields,
    ExternalRunUpdated: _with_fields,
}
