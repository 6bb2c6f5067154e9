"""The attempt fields that callers may set, and their validation."""

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any, TypedDict

from msgspec import structs

from engine.encoding.values import check_document, check_optional, check_parameters, check_text
from engine.errors import InvalidValue
from engine.expected_version import ExpectedVersion
from engine.model import NOT_INITIAL_FIELDS, AttemptChanges, AttemptDocument
from engine.names import check_name
from engine.times import plain_time


class AttemptFields(TypedDict, total=False):
    """The fields that callers may set when an attempt starts; None means unknown."""

    operator_key: str | None
    operator_type: str | None
    external_id: str | None
    operator_data: Mapping[str, Any] | None
    relative_path: str | None
    message: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    metrics: Mapping[str, Any]
    details: Mapping[str, Any]


class AttemptEnding(AttemptFields, total=False):
    """The fields that callers may set when an attempt ends, besides its status and reason."""

    submitted_at: datetime | None
    ended_at: datetime | None


class AttemptUpdates(AttemptEnding, total=False):
    """The fields that callers may update."""

    status: str
    status_reason: str | None


class StartOptions(AttemptFields, total=False):
    """The options of `Branch.start_attempt`."""

    status: str
    attempt_id: str | None
    expected_version: ExpectedVersion
    idempotency_key: str | None


def attempt_fields(fields: Mapping[str, Any]) -> AttemptChanges:
    """Return the validated initial fields of an attempt.

    Raises:
        InvalidValue: an unknown field, one that only an update may set, or a value that the field cannot hold.
    """
    return _checked(fields, _INITIAL_FIELDS)


def attempt_changes(fields: Mapping[str, Any]) -> AttemptChanges:
    """Return the validated fields as changes.

    Raises:
        InvalidValue: an unknown field, or a value that the field cannot hold.
    """
    return _checked(fields, _CHECKS)


def _checked(fields: Mapping[str, Any], allowed: Collection[str]) -> AttemptChanges:
    checked: dict[str, Any] = {}
    for name, value in fields.items():
        if name not in allowed:
            raise InvalidValue("attempt", name, f"is not one of the fields {', '.join(allowed)}")
        checked[name] = None if value is None and name in _NULLABLE else _CHECKS[name](value, name)
    return AttemptChanges(**checked)


def check_attempt_document(attempt: object) -> AttemptDocument:
    """Return a validated copy of an attempt document."""
    if not isinstance(attempt, AttemptDocument):
        raise InvalidValue("attempts", attempt, f"is {type(attempt).__name__}, not AttemptDocument")
    return structs.replace(
        attempt,
        status=check_name(attempt.status, "status"),
        message=check_text(attempt.message, "message"),
        details=check_document(attempt.details, "details"),
        inputs=check_parameters(attempt.inputs, "inputs"),
        outputs=check_parameters(attempt.outputs, "outputs"),
        metrics=check_parameters(attempt.metrics, "metrics"),
        began_at=check_optional(plain_time, attempt.began_at, "began_at"),
        ended_at=check_optional(plain_time, attempt.ended_at, "ended_at"),
    )


_CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "status": check_name,
    "status_reason": check_text,
    "operator_key": check_text,
    "operator_type": check_text,
    "external_id": check_text,
    "operator_data": check_document,
    "relative_path": check_text,
    "message": check_text,
    "inputs": check_parameters,
    "outputs": check_parameters,
    "metrics": check_parameters,
    "details": check_document,
    "submitted_at": plain_time,
    "ended_at": plain_time,
}
_INITIAL_FIELDS = tuple(name for name in _CHECKS if name not in NOT_INITIAL_FIELDS)
_NULLABLE = frozenset(_CHECKS) - {"status", "message", "inputs", "outputs", "metrics", "details"}
