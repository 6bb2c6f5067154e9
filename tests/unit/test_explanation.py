"""Explanations of a run's state: tables of cases, and properties of every run."""

import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.model import (
    TERMINAL_STATUSES,
    AttemptLog,
    BranchLog,
    ExternalRun,
    RunInfo,
    RunLog,
    StepLog,
    TaskSpec,
)
from engine.reports.dependencies import in_order
from engine.reports.explanation import Explanation, Finding, explain
from engine.reports.standing import Place, PlacedStep, RunSteps

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(hours=2)


def attempt(status: str, *, index: int = 1, created_at: datetime = NOW, **fields: Any) -> AttemptLog:
    return AttemptLog(
        attempt_id=f"a{index}", step="", attempt_index=index, status=status, created_at=created_at, **fields
    )


def task(
    name: str, *dependencies: str, status: str = "PENDING", attempts: Iterable[AttemptLog] = (), **fields: Any
) -> PlacedStep:
    """A task; `external_run` and `branch` belong to the placed step, other fields to the spec."""
    branch, external_run = fields.pop("branch", ""), fields.pop("external_run", None)
    spec = TaskSpec(dependencies=list(dependencies), **fields)
    made = StepLog(step=name, name=name, status=status, spec=spec, attempts=list(attempts))
    return PlacedStep(branch=branch, step=made, external_run=external_run)


def step(name: str, branch: str = "", **fields: Any) -> PlacedStep:
    return PlacedStep(branch=branch, step=StepLog(step=name, name=name, **fields))


def branch(name: str, parent: str, status: str = "RUNNING", reason: str | None = None) -> BranchLog:
    return BranchLog(
        branch=name, parent=parent, status=status, status_reason=reason, stream_version=1,
        steps={}, branches={}, parameters={}, details={},
    )  # fmt: skip


def explained(*steps: PlacedStep, branches: Iterable[BranchLog] = ()) -> Explanation:
    info = RunInfo(
        run_id="r1", status="RUNNING", status_reason=None, tag="", created_at=NOW, dag_hash=None, original_run_id=None,
        workspace_slug=None, root_path=None, description=None, tags={}, finalized=False,
    )  # fmt: skip
    root = RunLog(
        run_id="r1", status="RUNNING", status_reason=None, tag="", tags={}, description=None, dag_hash=None,
        created_at=NOW, stream_version=1, steps={}, branches={}, parameters={}, config={}, job=None, finalized=False,
        details={},
    )  # fmt: skip
    return explain(RunSteps(info=info, branches=[root, *branches], steps=list(steps)), NOW)


def kinds(explanation: Explanation) -> dict[str, str]:
    return {finding.step: finding.kind for finding in explanation.findings}


def of(explanation: Explanation, name: str) -> Finding:
    (finding,) = [each for each in explanation.findings if each.step == name]
    return finding


ALONE = [
    (task("t"), "ready"),
    (task("t", status="CREATED"), "ready"),
    (task("t", status="no such word"), "ready"),
    (task("t", status="RUNNING"), "running"),
    (task("t", status="WAITING_EXTERNAL"), "running"),
    (task("t", status="COMPLETED"), None),
    (task("t", status="SUCCESS"), None),
    (task("t", status="SKIPPED"), None),
    (task("t", status="FAILED"), "failed"),
    (task("t", status="FAIL"), "failed"),
    (task("t", status="FAILED_INIT"), "failed"),
    (task("t", status="CANCELLED"), "cancelled"),
    (task("t", attempts=[attempt("RUNNING")]), "running"),
    (task("t", attempts=[attempt("no such word")]), "running"),
    (task("t", attempts=[attempt("no such word", ended_at=NOW)]), "ended"),
    (step("s", status="TIMED_OUT", attempts=[attempt("TIMED_OUT", ended_at=NOW)]), "ended"),
    (task("t", attempts=[attempt("RUNNING", ended_at=NOW)]), "running"),  # set to RUNNING again after its end
    (task("t", attempts=[attempt("COMPLETED")]), None),
    (task("t", attempts=[attempt("FAILED_INIT")]), "failed"),
    (task("t", status="RUNNING", attempts=[attempt("CANCELLED")]), "cancelled"),
    (task("t", status="COMPLETED", attempts=[attempt("FAILED")]), None),
    (task("t", status="FAILED", attempts=[attempt("RUNNING")]), "failed"),
    (task("t", attempts=[attempt("FAILED"), attempt("RUNNING", index=2)]), "running"),
    (task("t", attempts=[attempt("CREATED")]), "running"),
    (task("t", attempts=[attempt("CREATED", created_at=LONG_AGO)]), "orphaned"),
    (task("t", attempts=[attempt("CREATED", created_at=NOW - timedelta(hours=1))]), "orphaned"),
    (task("t", attempts=[attempt("CREATED", created_at=NOW - timedelta(seconds=3599.9))]), "running"),
    (task("t", attempts=[attempt("CREATED", created_at=LONG_AGO, external_id="7")]), "running"),
    (task("t", attempts=[attempt("SUBMITTED", created_at=LONG_AGO)]), "running"),
    (task("t", external_run=ExternalRun(task_id="t", operator_type="HPC", status="FAILED")), "failed"),
    (task("t", external_run=ExternalRun(task_id="t", operator_type="HPC", status="SUBMITTED")), "running"),
    (
        task(
            "t",
            attempts=[attempt("RUNNING")],
            external_run=ExternalRun(task_id="t", operator_type="HPC", status="FAILED"),
        ),
        "running",
    ),
    (task("t", "nope"), "missing"),
    (task("t", "t"), "cycle"),
    (step("s", status="FAIL"), "failed"),
    (step("s", status="CREATED"), None),
    (step("s", status="RUNNING"), "running"),
    (step("s", status="CREATED", attempts=[attempt("CREATED", created_at=LONG_AGO)]), "orphaned"),
]


@pytest.mark.parametrize(("one", "kind"), ALONE)
def test_a_step_alone(one: PlacedStep, kind: str | None) -> None:
    """A step's kind follows from its final status, else its current attempt's, else its external run's."""
    assert [finding.kind for finding in explained(one).findings] == ([] if kind is None else [kind])


DEPENDENT = [
    (task("a", status="COMPLETED"), task("b", "a"), "ready"),
    (task("a", status="SKIPPED"), task("b", "a"), "ready"),
    (task("a", attempts=[attempt("COMPLETED")]), task("b", "a"), "ready"),
    (task("a", status="FAILED"), task("b", "a"), "blocked"),
    (task("a", status="CANCELLED"), task("b", "a"), "blocked"),
    (task("a", status="FAILED", allow_failure=True), task("b", "a"), "ready"),
    (task("a", status="FAILED"), task("b", "a", allow_dependency_failure=True), "ready"),
    (task("a", attempts=[attempt("FAILED")]), task("b", "a"), "blocked"),
    (task("a", attempts=[attempt("TIMED_OUT", ended_at=NOW)]), task("b", "a"), "blocked"),
    (task("a", "nope"), task("b", "a"), "blocked"),
    (task("a", "a"), task("b", "a"), "blocked"),
    (task("a", "nope"), task("b", "a", allow_dependency_failure=True), "blocked"),
    (task("a", status="RUNNING"), task("b", "a"), "waiting"),
    (task("a"), task("b", "a"), "waiting"),
    (task("a", attempts=[attempt("CREATED", created_at=LONG_AGO)]), task("b", "a"), "waiting"),
    (task("a", status="no such word"), task("b", "a"), "waiting"),
    (task("a", status="FAILED"), task("b", "a", "nope"), "missing"),
    (task("a", status="FAILED"), task("b", "a", status="RUNNING"), "running"),
]


@pytest.mark.parametrize(("first", "second", "kind"), DEPENDENT)
def test_a_task_that_depends_on_another(first: PlacedStep, second: PlacedStep, kind: str) -> None:
    """The kind of a task that has not begun follows from its dependencies."""
    assert of(explained(first, second), "b").kind == kind


def test_the_root_cause_is_named_through_the_chain() -> None:
    """Blocked tasks name the failed task at the root of their chain, which has its last attempt's reason."""
    tries = [attempt("FAILED"), attempt("FAILED", index=2, status_reason="no memory", operator_key="slurm")]
    found = explained(task("c", "b"), task("b", "a"), task("a", status="FAILED", attempts=tries))

    a, b, c = of(found, "a"), of(found, "b"), of(found, "c")
    assert (a.reason, a.attempts, a.blocks) == ("no memory", 2, 2)
    assert a.job is not None
    assert (a.job.attempt_index, a.job.operator) == (2, "slurm")
    assert (b.through, b.root, b.root_kind, b.between) == (Place("", "a"), Place("", "a"), "failed", 0)
    assert (c.through, c.root, c.root_kind, c.between) == (Place("", "b"), Place("", "a"), "failed", 1)


@pytest.mark.parametrize(
    ("operator", "name"),
    [
        ({"operator_key": "slurm", "operator_type": "HPC"}, "slurm"),
        ({"operator_type": "HPC"}, "HPC"),
        ({}, None),
    ],
)
def test_an_operator_is_named_by_its_key_or_else_by_its_type(operator: dict[str, Any], name: str | None) -> None:
    """A job's operator is the attempt's operator key, else its type, else None."""
    job = of(explained(task("t", attempts=[attempt("RUNNING", **operator)])), "t").job
    assert job is not None
    assert job.operator == name


@pytest.mark.parametrize(("submitted_at", "since"), [(NOW, NOW), (None, LONG_AGO)])
def test_a_job_runs_since_it_was_submitted(submitted_at: datetime | None, since: datetime) -> None:
    """A job runs since its attempt was submitted, or if that is unknown, since it was created."""
    running = attempt("RUNNING", created_at=LONG_AGO, submitted_at=submitted_at)
    job = of(explained(task("t", attempts=[running])), "t").job
    assert job is not None
    assert job.since == since


def test_a_message_stands_in_for_a_reason() -> None:
    """An attempt's message is the reason if it has no status reason."""
    found = explained(task("a", status="FAIL", attempts=[attempt("FAIL", message="exit code 1")]))
    assert of(found, "a").reason == "exit code 1"


def test_an_attempt_that_went_well_is_no_reason() -> None:
    """A failed step whose attempt completed has the step's own reason."""
    failed = step("s", status="FAILED", status_reason="no output", attempts=[attempt("COMPLETED", message="5 rows")])
    assert of(explained(failed), "s").reason == "no output"


def test_the_worst_dependency_is_the_cause() -> None:
    """Of several unmet dependencies, a missing or failed one is the cause before a running one; all are listed."""
    found = explained(
        task("runs", status="RUNNING"), task("failed", status="FAILED"), task("b", "runs", "failed", "nope", "nope")
    )
    b = of(found, "b")
    assert (b.kind, b.missing, b.waits_for) == ("missing", ("nope",), (Place("", "runs"), Place("", "failed")))
    c = of(
        explained(*[task("runs", status="RUNNING"), task("failed", status="FAILED")], task("c", "runs", "failed")), "c"
    )
    assert (c.kind, c.root) == ("blocked", Place("", "failed"))


def test_only_those_in_a_cycle_are_in_it() -> None:
    """Only the members of a cycle have the kind "cycle"; tasks that depend on one are blocked."""
    found = explained(
        task("a", "b"), task("b", "c"), task("c", "a"), task("behind", "b"), task("done", status="SUCCESS")
    )
    assert kinds(found) == {"a": "cycle", "b": "cycle", "c": "cycle", "behind": "blocked"}
    assert (of(found, "a").through, of(found, "behind").root) == (Place("", "b"), Place("", "b"))


def test_a_cycle_through_what_has_finished_is_none() -> None:
    """A dependency that has completed is met, even if it is part of a cycle."""
    assert kinds(explained(task("a", "b", status="COMPLETED"), task("b", "a"))) == {"b": "ready"}


def test_a_dependency_is_looked_for_up_the_branches() -> None:
    """A dependency is looked up in the task's own branch, then in the branches above it."""
    found = explained(
        task("prepare", status="FAILED"),
        task("train", "prepare", branch="fit.a"),
        task("train", "prepare", branch="fit.b"),
        task("prepare", status="COMPLETED", branch="fit.b"),
        task("test", "train", branch="other"),
        branches=[branch("fit.a", ""), branch("fit.b", ""), branch("other", "")],
    )
    by_place = {(each.branch, each.step): each.kind for each in found.findings}
    assert by_place == {
        ("", "prepare"): "failed",
        ("fit.a", "train"): "blocked",
        ("fit.b", "train"): "ready",
        ("other", "test"): "missing",
    }


def test_a_failed_branch_without_a_failed_step_is_a_finding() -> None:
    """A failed branch is reported only if no step in or below it failed."""
    found = explained(
        step("train", "map.1", status="FAIL", attempts=[attempt("FAIL", message="no data")]),
        branches=[branch("map", "", "FAIL"), branch("map.1", "map", "FAIL"), branch("map.2", "map", "FAIL", "killed")],
    )
    assert [(each.what, each.branch, each.reason) for each in found.findings] == [
        ("step", "map.1", "no data"),
        ("branch", "map.2", "killed"),
    ]


def test_deep_chains_do_not_recurse() -> None:
    """A chain of ten thousand dependent tasks is explained without recursion."""
    depth = 10_000
    assert depth > sys.getrecursionlimit()
    chain = [task(str(number), str(number - 1)) for number in range(depth, 0, -1)]
    found = explained(*chain, task("0", status="FAILED"))

    last = of(found, str(depth))
    assert (last.kind, last.root, last.between) == ("blocked", Place("", "0"), depth - 1)
    assert of(found, "0").blocks == depth


def test_long_cycles_end() -> None:
    """All of ten thousand tasks in one ring have the kind "cycle"."""
    found = explained(*[task(str(number), str((number + 1) % 10_000)) for number in range(10_000)])
    assert {each.kind for each in found.findings} == {"cycle"}


STATUSES = ["PENDING", "CREATED", "RUNNING", "COMPLETED", "SUCCESS", "FAILED", "CANCELLED", "SKIPPED", "odd"]
NAMES = "abcdef"


@st.composite
def runs(draw: st.DrawFn) -> list[PlacedStep]:
    """Tasks that depend on any of each other, on themselves, or on a missing one."""
    made = []
    for name in NAMES:
        tries = [
            attempt(draw(st.sampled_from(STATUSES)), index=index, created_at=draw(st.sampled_from([NOW, LONG_AGO])))
            for index in range(1, draw(st.integers(0, 2)) + 1)
        ]
        made.append(
            task(
                name,
                *draw(st.lists(st.sampled_from([*NAMES, "nope"]), max_size=3)),
                status=draw(st.sampled_from(STATUSES)),
                attempts=tries,
                allow_failure=draw(st.booleans()),
                allow_dependency_failure=draw(st.booleans()),
            )
        )
    return made


@given(runs())
def test_every_unfinished_task_is_in_exactly_one_finding(steps: list[PlacedStep]) -> None:
    """Every unfinished task has exactly one finding, and a completed one has none."""
    found = explained(*steps)
    told = [each.step for each in found.findings]

    assert len(told) == len(set(told))
    by_name = {each.step.step: each.status for each in steps}
    assert {name for name in told if by_name[name] not in TERMINAL_STATUSES} == {
        name for name, status in by_name.items() if status not in TERMINAL_STATUSES
    }
    assert {by_name[name] for name in told} & {"COMPLETED", "SUCCESS", "SKIPPED"} == set()


@given(runs())
def test_every_wait_leads_to_its_cause(steps: list[PlacedStep]) -> None:
    """Following `through` from a waiting task reaches its root after `between` tasks."""
    found = {each.place: each for each in explained(*steps).findings}
    for finding in found.values():
        assert (finding.root is None) == (finding.kind not in {"blocked", "waiting"})
        at = finding
        for _ in range(finding.between + 1 if finding.root else 0):
            assert at.through is not None
            at = found[at.through]
        assert finding.root in {None, at.place}
    assert sum(each.blocks for each in found.values()) == sum(each.root is not None for each in found.values())


def reachable(graph: dict[Place, list[Place]], start: Place) -> set[Place]:
    """Return what can be reached from a key in one step or more, by a simple search."""
    seen: set[Place] = set()
    waiting = list(graph[start])
    while waiting:
        key = waiting.pop()
        if key not in seen:
            seen.add(key)
            waiting.extend(graph.get(key, []))
    return seen


KEYS = st.sampled_from([Place("", name) for name in NAMES])


@given(st.dictionaries(KEYS, st.lists(KEYS, max_size=4)))
def test_components_come_in_order(graph: dict[Place, list[Place]]) -> None:
    """`in_order` gives strongly connected components, each after all that it depends on."""
    known = {key: [each for each in neighbours if each in graph] for key, neighbours in graph.items()}
    before: set[Place] = set()
    for component in in_order(graph):
        for key in component:
            assert {key, *(each for each in reachable(known, key) if key in reachable(known, each))} == set(component)
            assert reachable(known, key) <= before | set(component)
        before |= set(component)
    assert before == set(graph)
