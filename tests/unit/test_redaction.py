"""The remainder of an erased event keeps its structure and links, and none of its content."""

from typing import Any

import pytest
from msgspec import Struct, structs

from engine.codec import EVENT_TYPES, decode_event, encode_canonical
from engine.errors import NotErasable
from engine.events import Event, ParametersReduced
from engine.model import ERASED, AttemptChanges, Parameter, ParameterConflict
from engine.proof.redaction import redacted
from tests.golden.samples import SAMPLES, golden_events

HOLDS_NOTHING = {"BranchForked", "PayloadErased", "RunFinalized"}
SAMPLES_ERASABLE = [each for each in SAMPLES if type(each).__name__ not in HOLDS_NOTHING]
GOLDEN_ERASABLE = [each for each in golden_events() if each["type"] not in HOLDS_NOTHING]

# The fields that stay: identity, status and links. All others are erased, including fields added in the future.
STAYS: dict[str, set[str]] = {
    "RunCreated": {"status", "dag_hash", "original_run_id", "use_cached", "created_at"},
    "RunForked": {"source_run_id", "source_branch", "source_version", "source_hash", "status"},
    "RunStatusChanged": {"status"},
    "RunConfigured": set(),
    "JobLogged": set(),
    "RunPinned": set(),
    "RunUnpinned": set(),
    "SourceCarriedOver": {"part", "parts", "dag_hash", "use_cached", "runs"},
    "BranchLogged": set(),
    "BranchStatusChanged": {"status"},
    "ParametersSet": set(),
    "ParametersReduced": {"children", "rules", "sources", "on_conflict"},
    "StepLogged": {"step", "name", "status", "step_type", "mock"},
    "StepStatusChanged": {"step", "status"},
    "StepRemoved": {"step"},
    "AttemptCreated": {
        *("step", "attempt_id", "attempt_index", "status", "operator_key", "operator_type", "created_at", "current"),
        "step_status",
    },
    "AttemptUpdated": {"step", "attempt_id", "step_status"},
    "ExternalRunRegistered": {"task_id", "operator_type", "status"},
    "ExternalRunUpdated": {"task_id", "status"},
}
CHANGES_STAY = {"status", "operator_key", "operator_type", "submitted_at", "ended_at"}
STRUCTURE = {
    *("step", "name", "attempt_id", "current_attempt_id", "status", "step_type", "task_type", "kind", "branch"),
    *("operator_key", "operator_type", "dependencies"),
}


def name_of(event: Event) -> str:
    return type(event).__name__


def test_every_type_is_erasable_or_holds_nothing() -> None:
    """Every event type is listed as erasable or as having nothing to erase."""
    assert STAYS.keys() | HOLDS_NOTHING == EVENT_TYPES.keys()


@pytest.mark.parametrize("event", [each for each in SAMPLES if name_of(each) in HOLDS_NOTHING], ids=name_of)
def test_what_holds_nothing_cannot_be_erased(event: Event) -> None:
    """Erasing an event without content raises NotErasable with its type."""
    with pytest.raises(NotErasable) as raised:
        redacted(event)
    assert raised.value.event_type == name_of(event)


@pytest.mark.parametrize("event", SAMPLES_ERASABLE, ids=name_of)
def test_what_stays_is_as_it_was(event: Event) -> None:
    """The remainder keeps the type and the fields listed in `STAYS`."""
    left = redacted(event)
    assert type(left) is type(event)
    for field in {"branch", *STAYS[name_of(event)]}:
        assert getattr(left, field) == getattr(event, field)


@pytest.mark.parametrize("event", SAMPLES_ERASABLE, ids=name_of)
def test_nothing_that_was_said_is_left(event: Event) -> None:
    """The remainder holds no text or number of the erased fields."""
    kept = {"branch", *STAYS[name_of(event)]}
    if name_of(event) == "AttemptUpdated":
        kept |= {"changes"}
    for field in set(event.__struct_fields__) - kept:
        said = _said(getattr(event, field))
        assert not said & _said(getattr(redacted(event), field)), field


def _said(value: Any, key: str = "") -> set[str]:
    """Return the content inside a value: its texts and numbers, without names, statuses and empty values."""
    if isinstance(value, Parameter):
        return set() if value == ERASED else _said(value.value)
    if isinstance(value, Struct):
        return {said for name in value.__struct_fields__ for said in _said(getattr(value, name), name)}
    if isinstance(value, dict):
        return {said for name, member in value.items() for said in _said(member, str(name))}
    if isinstance(value, list):
        return {said for member in value for said in _said(member, key)}
    if key in STRUCTURE or not isinstance(value, str | float) or value in ("", "(erased)"):
        return set()
    return {repr(value)}


@pytest.mark.parametrize("changes", [each.changes for each in SAMPLES if hasattr(each, "changes")])
def test_an_update_still_sets_the_same_fields(changes: AttemptChanges) -> None:
    """An erased update sets the same fields, so that values that it overwrote do not come back."""
    event = next(structs.replace(each, changes=changes) for each in SAMPLES if hasattr(each, "changes"))
    left = getattr(redacted(event), "changes")  # noqa: B009 - the union of all events has no such attribute
    for field in changes.__struct_fields__:
        before, after = getattr(changes, field), getattr(left, field)
        if field in CHANGES_STAY or not before:
            assert after == before
        else:
            assert after in ("(erased)", {"erased": True}, dict.fromkeys(before, ERASED))


@pytest.mark.parametrize("event", SAMPLES_ERASABLE, ids=name_of)
def test_names_of_parameters_stay(event: Event) -> None:
    """The remainder keeps the names of parameters, each with the erased value."""
    values = getattr(event, "values", {})
    assert getattr(redacted(event), "values", {}) == dict.fromkeys(values, ERASED)


def test_a_conflict_without_a_base_still_has_none() -> None:
    """An erased conflict has a base only if it had one before."""
    bare, based = (ParameterConflict("x", "a", base, Parameter(1), Parameter(2)) for base in (None, Parameter(0)))
    event = ParametersReduced(branch="", children=[], rules={}, values={}, sources={}, conflicts=[bare, based])
    left = redacted(event)
    assert isinstance(left, ParametersReduced)
    assert [each.base for each in left.conflicts] == [None, ERASED]


@pytest.mark.parametrize("event", SAMPLES_ERASABLE, ids=name_of)
def test_redacting_twice_is_redacting_once(event: Event) -> None:
    """Redacting a remainder leaves it unchanged."""
    assert redacted(redacted(event)) == redacted(event)


@pytest.mark.parametrize("golden", GOLDEN_ERASABLE, ids=lambda golden: f"{golden['type']}-{golden['version']}")
def test_what_is_left_reads_under_the_version_it_was_recorded_as(golden: dict[str, Any]) -> None:
    """The remainder of a golden event decodes unchanged under the schema version that the event was recorded with."""
    event_type, version = golden["type"], golden["version"]
    left = redacted(decode_event(event_type, version, bytes.fromhex(golden["payload"])))
    assert decode_event(event_type, version, encode_canonical(left)) == left
