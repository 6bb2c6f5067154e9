"""Summaries of events in a few words."""

from collections.abc import Callable, Iterable
from typing import Any, Final

from msgspec import UNSET, structs

from engine.cli.escapes import visible
from engine.cli.text import branch_text, counted, parameters_text, shortened, value_text
from engine.events import (
    AttemptCreated,
    AttemptUpdated,
    BranchForked,
    BranchLogged,
    BranchStatusChanged,
    Event,
    ExternalRunRegistered,
    ExternalRunUpdated,
    JobLogged,
    ParametersReduced,
    ParametersSet,
    PayloadErased,
    RunConfigured,
    RunCreated,
    RunFinalized,
    RunForked,
    RunPinned,
    RunStatusChanged,
    RunUnpinned,
    SourceCarriedOver,
    StepLogged,
    StepRemoved,
    StepStatusChanged,
)
from engine.model import Parameter

_CHARACTERS_MAX: Final = 400
_VALUE_CHARACTERS_MAX: Final = 40


def event_text(event: Event) -> str:
    """Return a summary of an event as one line that is safe to print."""
    return shortened(_SUMMARIES[type(event)](event), _CHARACTERS_MAX)


def _pairs(values: dict[str, Any]) -> str:
    return parameters_text({name: Parameter(value) for name, value in values.items()}, _VALUE_CHARACTERS_MAX)


def _given(event: Event, names: Iterable[str]) -> str:
    found = {name: getattr(event, name) for name in names}
    return _pairs({name: value for name, value in found.items() if value})


def _status(event: RunStatusChanged | BranchStatusChanged) -> str:
    return _with_reason(visible(event.status), event.reason)


def _step_status(event: StepStatusChanged) -> str:
    return _with_reason(visible(f"{event.step} {event.status}"), event.reason)


def _with_reason(shown: str, reason: str | None) -> str:
    return f"{shown}: {visible(reason)}" if reason else shown


def _run_created(event: RunCreated) -> str:
    rest = _given(event, ("tag", "original_run_id", "dag_hash", "workspace_slug", "root_path", "description", "tags"))
    return f"{visible(event.status)} {rest}".rstrip()


def _run_forked(event: RunForked) -> str:
    return f"from {visible(event.source_run_id)}: {branch_text(event.source_branch)}@{event.source_version}"


def _parameters_set(event: ParametersSet) -> str:
    source = event.copied_from
    copied = "" if source is None else f"copied from {branch_text(source.branch)}@{source.stream_version}: "
    return f"{copied}{parameters_text(event.values, _VALUE_CHARACTERS_MAX)}"


def _reduced(event: ParametersReduced) -> str:
    conflicts = f", {counted(len(event.conflicts), 'conflict')}" if event.conflicts else ""
    values = f": {parameters_text(event.values, _VALUE_CHARACTERS_MAX)}" if event.values else ""
    return f"{counted(len(event.children), 'branch', 'branches')}{conflicts}{values}"


def _erased(event: PayloadErased) -> str:
    by = f" by {event.by}" if event.by else ""
    return visible(f"v{event.stream_version} {event.event_type}{by}: {event.reason}")


def _step_logged(event: StepLogged) -> str:
    return visible(" ".join(part for part in (event.step, event.status, event.message) if part))


def _attempt_created(event: AttemptCreated) -> str:
    rest = _given(event, ("operator_key", "operator_type", "external_id", "message"))
    inputs = parameters_text(event.inputs, _VALUE_CHARACTERS_MAX)
    began = f"{visible(event.step)} #{event.attempt_index} {visible(event.status)}{_with_its_step(event)}"
    return " ".join(part for part in (began, rest, inputs) if part)


def _attempt_updated(event: AttemptUpdated) -> str:
    changed = {name: value for name, value in structs.asdict(event.changes).items() if value is not UNSET}
    status, reason = visible(changed.pop("status", "")), changed.pop("status_reason", None)
    parameters = {
        name: value for field in ("inputs", "outputs", "metrics") for name, value in changed.pop(field, {}).items()
    }
    statuses = f"{visible(event.step)} {status}".rstrip() + _with_its_step(event)
    parts = statuses, _pairs(changed), parameters_text(parameters, _VALUE_CHARACTERS_MAX)
    return _with_reason(" ".join(part for part in parts if part), reason)


def _with_its_step(event: AttemptCreated | AttemptUpdated) -> str:
    return f", its step {visible(event.step_status)}" if event.step_status is not None else ""


def _external_run(event: ExternalRunRegistered | ExternalRunUpdated) -> str:
    rest = _given(event, ("external_id", "operator_data", "relative_path"))
    return f"{visible(event.task_id)} {visible(event.status)} {rest}".rstrip()


_SUMMARIES: Final[dict[type, Callable[[Any], str]]] = {
    RunCreated: _run_created,
    RunForked: _run_forked,
    RunStatusChanged: _status,
    RunConfigured: lambda event: _pairs(event.config),
    JobLogged: lambda event: value_text(event.job, _VALUE_CHARACTERS_MAX),
    RunPinned: lambda event: visible(event.reason or ""),
    RunUnpinned: lambda event: visible(event.reason or ""),
    SourceCarriedOver: lambda event: parameters_text(event.values, _VALUE_CHARACTERS_MAX),
    PayloadErased: _erased,
    RunFinalized: lambda event: f"heads of {counted(len(event.heads), 'stream')}",
    BranchForked: lambda event: f"from {branch_text(event.parent)}@{event.parent_version}",
    BranchLogged: lambda event: _pairs(event.details),
    BranchStatusChanged: _status,
    ParametersSet: _parameters_set,
    ParametersReduced: _reduced,
    StepLogged: _step_logged,
    StepStatusChanged: _step_status,
    StepRemoved: lambda event: _with_reason(visible(event.step), event.reason),
    AttemptCreated: _attempt_created,
    AttemptUpdated: _attempt_updated,
    ExternalRunRegistered: _external_run,
    ExternalRunUpdated: _external_run,
}
