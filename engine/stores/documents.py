"""The documents of a partitioned run log, and the conversion of callers' own documents.

The attributes have the names that hosts use, so any object with them is a document: a pydantic model, a dataclass, a
mapping, or one of these structs. The contents of `data_catalog` and `code_identities` belong to the host and are kept
unchanged.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct, field, structs

from engine.encoding.values import check_document
from engine.errors import InvalidValue
from engine.model import CREATED, Parameter

Document = TypeVar("Document", bound=Struct)

_REASON_CHARACTERS_MAX: Final = 300


class StepAttempt(Struct, frozen=True, kw_only=True):
    """One attempt at a step. `start_time` and `end_time` are texts in the host's own format."""

    attempt_number: int = 1
    start_time: str = ""
    end_time: str = ""
    status: str = CREATED
    message: str = ""
    input_parameters: dict[str, Parameter] = field(default_factory=dict)
    output_parameters: dict[str, Parameter] = field(default_factory=dict)
    user_defined_metrics: dict[str, Parameter] = field(default_factory=dict)
    retry_indicator: str = ""
    code_identities: list[Any] = field(default_factory=list)


class StepLog(Struct, frozen=True, kw_only=True):
    """A step with its attempts; `branches` are those that the step opened, by full name."""

    name: str = ""
    internal_name: str
    status: str = CREATED
    step_type: str = "task"
    message: str = ""
    mock: bool = False
    attempts: list[StepAttempt] = field(default_factory=list)
    branches: dict[str, "BranchLog"] = field(default_factory=dict)
    data_catalog: list[Any] = field(default_factory=list)


class BranchLog(Struct, frozen=True, kw_only=True):
    """A branch: steps by internal name, and all of its child branches by full name."""

    internal_name: str
    status: str = CREATED
    steps: dict[str, StepLog] = field(default_factory=dict)
    parameters: dict[str, Parameter] = field(default_factory=dict)
    branches: dict[str, "BranchLog"] = field(default_factory=dict)


class JobLog(Struct, frozen=True, kw_only=True):
    """The log of a single-job run."""

    status: str = CREATED
    message: str = ""
    mock: bool = False
    code_identities: list[Any] = field(default_factory=list)
    attempts: list[StepAttempt] = field(default_factory=list)
    data_catalog: list[Any] = field(default_factory=list)


class RunLog(Struct, frozen=True, kw_only=True):
    """A run: the steps of its root branch, and all of the root's child branches by full name."""

    run_id: str
    dag_hash: str | None = None
    tag: str | None = ""
    status: str = CREATED
    steps: dict[str, StepLog] = field(default_factory=dict)
    job: JobLog | None = None
    parameters: dict[str, Parameter] = field(default_factory=dict)
    run_config: dict[str, Any] = field(default_factory=dict)
    branches: dict[str, BranchLog] = field(default_factory=dict)


def as_document(given: object, document: type[Document]) -> Document:
    """Convert a caller's document to one of these structs.

    Raises:
        InvalidValue: an attribute is missing or of the wrong type.
    """
    # msgspec would return an instance without checking its fields; this checks them, but not those of nested structs.
    attributes = structs.asdict(given) if isinstance(given, document) else _dumped(given)
    try:
        return msgspec.convert(attributes, document, from_attributes=True)
    # msgspec itself fails on lone surrogates, and on some attributes of foreign classes
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        # msgspec's text ends with the path to the fault, which is as long as the document is deep.
        raise InvalidValue(document.__name__, given, f"is not one: {str(error)[:_REASON_CHARACTERS_MAX]}") from error


def is_branch_log(given: object) -> bool:
    """Return whether a document is a branch's log; a run's log has a `run_id`."""
    return "run_id" not in given if isinstance(given, Mapping) else not hasattr(given, "run_id")


def as_parameters(given: Mapping[str, Any]) -> dict[str, Parameter]:
    """Convert parameters, each a plain value or any object with a `kind` and a `value`.

    Raises:
        InvalidValue: they are not a mapping, or one of them is not a parameter.
    """
    if not isinstance(given, Mapping):
        raise InvalidValue("parameters", given, "is not a mapping of names to values")
    return {name: as_parameter(value) for name, value in given.items()}


def as_parameter(given: Any) -> Parameter:
    if isinstance(given, Parameter):
        return given
    if hasattr(given, "kind") and hasattr(given, "value"):
        return as_document(given, Parameter)
    return Parameter(_dumped(given))


def as_mapping(given: object, where: str) -> dict[str, Any]:
    """Convert a host's free-form object to a mapping of JSON values.

    Raises:
        InvalidValue: it is not a mapping, and has no attributes to make one of.
    """
    dumped = _dumped(given)
    if isinstance(dumped, Struct):
        dumped = msgspec.to_builtins(dumped)
    elif not isinstance(dumped, Mapping) and hasattr(dumped, "__dict__"):
        dumped = vars(dumped)
    return check_document(dumped, where)


def _dumped(given: Any) -> Any:
    # A pydantic model converts its own values to JSON, and includes its extra fields.
    if isinstance(given, type):
        raise InvalidValue("document", given, "is a class, not an instance of one")
    return given.model_dump(mode="json") if callable(getattr(given, "model_dump", None)) else given
