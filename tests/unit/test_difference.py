"""The difference between two compiled logs."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, structs

from engine.model import AttemptLog, BranchLog, Parameter, RunLog, StepLog, TaskSpec
from engine.reports.difference import (
    BranchDifference,
    FieldDifference,
    ParameterDifference,
    StepDifference,
    StepOutcome,
    difference,
)
from tests.strategies import parameters

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def step(name: str, status: str, *attempts: str) -> StepLog:
    logs = [
        AttemptLog(attempt_id=f"{name}-{index}", step=name, attempt_index=index, status=each, created_at=NOW)
        for index, each in enumerate(attempts, start=1)
    ]
    return StepLog(step=name, name=name, status=status, attempts=logs)


def log(name: str = "", *below: BranchLog, status: str = "CREATED", steps: Any = (), **values: Any) -> BranchLog:
    return BranchLog(
        branch=name,
        parent=None,
        status=status,
        status_reason=None,
        stream_version=1,
        steps={each.step: each for each in steps},
        branches={each.branch: each for each in below},
        parameters={key: value if isinstance(value, Parameter) else Parameter(value) for key, value in values.items()},
        details={},
    )


def test_parameters_are_added_removed_and_changed() -> None:
    """A difference lists added, removed and changed parameters with both values, and leaves out equal ones."""
    found = difference(
        log(same=1, gone=1, new_value=1, new_kind=1), log(same=1, new_value=2, new_kind=_metric(1), new=1)
    )
    one, two = Parameter(1), Parameter(2)
    assert found.branches[""].parameters == {
        "gone": ParameterDifference(one, None),
        "new": ParameterDifference(None, one),
        "new_kind": ParameterDifference(one, _metric(1)),
        "new_value": ParameterDifference(one, two),
    }


def _metric(value: Any) -> Parameter:
    return Parameter(value, "metric")


def test_values_are_told_apart_as_they_are_recorded() -> None:
    """1, 1.0 and True differ; NaN equals NaN."""
    assert difference(log(x=math.nan), log(x=math.nan)).branches == {}
    assert difference(log(x=1), log(x=1.0))
    assert difference(log(x=1), log(x=True))


def test_steps_are_added_removed_and_changed() -> None:
    """A difference lists added and removed steps, and those whose status or attempts' statuses differ."""
    before = log(steps=[step("a", "COMPLETED", "COMPLETED"), step("b", "FAILED", "FAILED"), step("c", "CREATED")])
    after = log(
        steps=[step("a", "COMPLETED", "COMPLETED"), step("b", "COMPLETED", "FAILED", "COMPLETED"), step("d", "CREATED")]
    )
    assert difference(before, after).branches[""].steps == {
        "b": StepDifference(StepOutcome("FAILED", ["FAILED"]), StepOutcome("COMPLETED", ["FAILED", "COMPLETED"])),
        "c": StepDifference(StepOutcome("CREATED", []), None),
        "d": StepDifference(None, StepOutcome("CREATED", [])),
    }


SPEC = TaskSpec(command="run", env={"N": "1"}, dependencies=["a", "b"])
BOTH = {"a.b": 1, "a": {"b": 1}}
"""Two members that would have the same path if names were not quoted."""

FIELDS: list[tuple[str, Any, Any, Any]] = [
    ("spec.command", {"spec": structs.replace(SPEC, command="stop")}, "run", "stop"),
    ("spec.env.N", {"spec": structs.replace(SPEC, env={})}, "1", UNSET),
    ("spec.dependencies[0]", {"spec": structs.replace(SPEC, dependencies=["c", "b"])}, "a", "c"),
    ("spec", {"spec": None}, SPEC, None),
    ("spec.dependencies[1]", {"spec": structs.replace(SPEC, dependencies=["a", "c"])}, "b", "c"),
    ("message", {"message": "late"}, "", "late"),
    ("details.size", {"details": {"size": 1.0}}, 1, 1.0),
    ("details.more", {"details": {"size": 1, "more": {"deep": []}}}, UNSET, {"deep": []}),
    ("details.nothing", {"details": {"size": 1, "nothing": None}}, UNSET, None),
    ("details.list", {"details": {"size": 1, "list": {}}}, [], {}),
    ('details["a.b"]', {"details": {"size": 1, "a.b": 2, "a": {"b": 1}}}, 1, 2),
    ("details.a.b", {"details": {"size": 1, "a.b": 1, "a": {"b": 2}}}, 1, 2),
    ("mock", {"mock": True}, False, True),
    ("status_reason", {"status_reason": "no memory"}, None, "no memory"),
]


@pytest.mark.parametrize(("path", "changes", "before", "after"), FIELDS, ids=[path for path, *_ in FIELDS])
def test_a_step_differs_in_any_field(path: str, changes: dict[str, Any], before: Any, after: Any) -> None:
    """A step's differing fields are listed by their full path, with both values; 1 and 1.0 differ."""
    also: dict[str, dict[str, Any]] = {"details.list": {"list": []}, 'details["a.b"]': BOTH, "details.a.b": BOTH}
    one = structs.replace(step("s", "COMPLETED"), spec=SPEC, details={"size": 1, **also.get(path, {})})
    found = difference(log(steps=[one]), log(steps=[structs.replace(one, **changes)])).branches[""].steps["s"]
    assert found.fields == {path: FieldDifference(before, after)}
    assert type(found.fields[path].after) is type(after)
    assert found.before == found.after


def test_a_step_differs_in_the_outputs_of_its_attempts() -> None:
    """A step's attempts differ by their outputs, not by their ids, times, places and operator data."""
    one = step("s", "COMPLETED", "FAILED", "COMPLETED")
    first, second = one.attempts
    other = structs.replace(
        one,
        current_attempt_id="another",
        attempts=[
            structs.replace(first, attempt_id="x", external_id="job-7", relative_path="here", submitted_at=NOW),
            structs.replace(second, attempt_id="y", outputs={"rows": Parameter(8)}, operator_data={"node": 1}),
        ],
    )
    found = difference(log(steps=[one]), log(steps=[other])).branches[""].steps["s"]
    assert found.fields == {"attempts[1].outputs.rows": FieldDifference(UNSET, Parameter(8))}


def test_branches_and_runs_differ_in_other_recorded_fields() -> None:
    """Branches differ by status reason and details, and runs also by tags, hash, configuration and job."""
    found = difference(log(), structs.replace(log(), details={"note": 1}, status_reason="why"))
    assert found.branches[""].fields == {
        "status_reason": FieldDifference(None, "why"),
        "details.note": FieldDifference(UNSET, 1),
    }
    one = RunLog(
        run_id="r",
        status="CREATED",
        status_reason=None,
        tag="",
        tags={"git": "abc123"},
        description=None,
        dag_hash="a",
        created_at=NOW,
        stream_version=1,
        steps={},
        branches={},
        parameters={},
        config={"executor": "local"},
        job=None,
        finalized=False,
        details={},
    )
    other = structs.replace(
        one, run_id="s", tag="t", tags={"git": "abc124"}, dag_hash="b", config={"executor": "slurm"}, job={"id": 1}
    )
    assert difference(log(), one).branches == {}, "a branch has no configuration to compare"
    assert {path: (each.before, each.after) for path, each in difference(one, other).branches[""].fields.items()} == {
        "tag": ("", "t"),
        "tags.git": ("abc123", "abc124"),
        "dag_hash": ("a", "b"),
        "config.executor": ("local", "slurm"),
        "job": (None, {"id": 1}),
    }


def test_a_branch_that_is_on_one_side_only() -> None:
    """A branch on one side only has no status on the other, and all of its content differs."""
    found = difference(log(), log("", log("a", x=1, status="RUNNING")))
    assert found.branches == {
        "a": BranchDifference(None, "RUNNING", {"x": ParameterDifference(None, Parameter(1))}, {}),
    }


def test_two_branches_are_compared_by_relative_names() -> None:
    """Branches below two compared branches are matched by their relative names, others by their full names."""
    before = log("fit.a", log("fit.a.inner", x=1), log("elsewhere", y=1))
    after = log("fit.b", log("fit.b.inner", x=2), log("elsewhere", y=2))
    assert list(difference(before, after).branches) == ["inner", "elsewhere"]


def test_nothing_differs_from_itself() -> None:
    """The difference of a log from itself is empty and false."""
    one = log("", log("a", x=1), steps=[step("s", "COMPLETED", "COMPLETED")], y=math.nan)
    assert not difference(one, one)
    assert difference(one, one).branches == {}


VALUES = st.dictionaries(st.sampled_from(["x", "y", "z"]), parameters, max_size=3)


def applied(before: dict[str, Any], changes: dict[str, ParameterDifference]) -> dict[str, Any]:
    """Apply a difference to parameters."""
    after = {**before, **{name: each.after for name, each in changes.items()}}
    return {name: value for name, value in after.items() if value is not None}


@given(VALUES, VALUES)
def test_a_difference_leads_from_one_side_to_the_other(before: Any, after: Any) -> None:
    """A difference applied to one side gives the other, and the opposite difference mirrors it."""
    left, right = log(**before), log(**after)
    there, back = difference(left, right), difference(right, left)
    changes = there.branches[""].parameters if there else {}
    assert not difference(log(**applied(before, changes)), right)
    mirrored = back.branches[""].parameters if back else {}
    assert repr(mirrored) == repr(
        {name: ParameterDifference(each.after, each.before) for name, each in changes.items()}
    )
