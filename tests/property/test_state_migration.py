"""Drawn state stores of every schema version: the migrated views hold their rows, and the same rows after a rebuild."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import open_engine
from tests import legacy_state_files as old
from tests.legacy_state_files import Rows
from tests.legacy_state_rows import Values, assert_holds, expected, values_of
from tests.strategies import documents, integers, names, texts

_Row = dict[str, Any]

QUICK = settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])
MANY = settings(QUICK, max_examples=500)

_EXACT_INTEGER_MAX = 2**53

times = (
    st.datetimes()
    .filter(lambda moment: 1 < moment.year < 9999)
    .flatmap(
        lambda moment: st.sampled_from(
            [str(moment), moment.isoformat(), moment.isoformat(" ", "microseconds"), f"{moment.isoformat()}+05:30"]
        )
    )
)
jsons = st.one_of(
    st.just("null"), st.none(), documents.map(json.dumps), documents.map(lambda each: json.dumps(each, indent=2))
)
patterns = st.lists(texts, max_size=2)
patterns_of_kinds = st.dictionaries(texts, patterns, max_size=2)
statuses = st.sampled_from(["CREATED", "RUNNING", "COMPLETED", "FAILED", "WAITING_EXTERNAL", ""])


def _maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), strategy)


_runs = st.fixed_dictionaries(
    {
        "workspace_slug": texts,
        "root_path": texts,
        "created_at": times,
        "status": statuses,
        "status_reason": _maybe(texts),
        "tags": jsons,
        "description": _maybe(texts),
    }
)
_tasks = st.fixed_dictionaries(
    {
        "image": texts,
        "command": texts,
        "files": jsons,
        "env": _maybe(st.dictionaries(texts, texts, max_size=2).map(json.dumps)),
        "dependencies": _maybe(patterns.map(json.dumps)),
        "cores": _maybe(integers),
        "memory_gb": _maybe(st.integers(-_EXACT_INTEGER_MAX, _EXACT_INTEGER_MAX)),
        "gpus": _maybe(integers),
        "time_limit_minutes": _maybe(integers),
        "allow_dependency_failure": st.sampled_from([0, 1, None]),
        "allow_failure": st.sampled_from([0, 1, None]),
        "download_patterns": _maybe(st.one_of(st.none(), patterns, patterns_of_kinds).map(json.dumps)),
        "status": statuses,
        "task_type": texts,
        "operator_key": _maybe(texts),
    }
)
_operators = {"external_id": _maybe(texts), "operator_data": jsons, "relative_path": _maybe(texts), "status": statuses}
_external_runs = st.fixed_dictionaries({"operator_type": texts, **_operators})
_attempts = st.fixed_dictionaries(
    {
        "operator_type": _maybe(texts),
        "operator_key": _maybe(texts),
        "created_at": times,
        "submitted_at": _maybe(times),
        "ended_at": _maybe(times),
        "status_reason": _maybe(texts),
        **_operators,
    }
)


@st.composite
def state_stores(draw: st.DrawFn) -> Rows:
    """Draw the rows of a state store with few names, so that rows meet; some refer to rows that are missing."""
    run_ids = draw(st.lists(names, unique=True, min_size=1, max_size=3))
    task_ids = draw(st.lists(names, unique=True, min_size=1, max_size=4))
    some_run, some_task = st.sampled_from(run_ids), st.sampled_from(task_ids)
    runs = [{"run_id": run_id, **draw(_runs)} for run_id in run_ids[draw(st.integers(0, 1)) :]]
    tasks = [
        {"task_id": task_id, "run_id": draw(some_run), **draw(_tasks)}
        for task_id in task_ids
        if draw(st.integers(0, 3)) > 0
    ]
    keys = draw(st.lists(st.tuples(some_task, st.integers(-1, 5)), unique=True, max_size=6))
    attempts = [
        {"attempt_id": f"{index} {task_id}"[:100], "task_id": task_id, "attempt_index": number, **draw(_attempts)}
        for index, (task_id, number) in enumerate(keys)
    ]
    for attempt in attempts:
        attempt["run_id"] = draw(some_run) if draw(st.integers(0, 9)) == 0 else _run_of(attempt, tasks, run_ids)
    for task in tasks:
        own = [each["attempt_id"] for each in attempts if _place(each) == _place(task)]
        task["current_attempt_id"] = draw(st.sampled_from([None, *own]))
    external_runs = [
        {"task_id": task_id, "run_id": draw(some_run), **draw(_external_runs)}
        for task_id in draw(st.lists(some_task, unique=True, max_size=3))
    ]
    return {"runs": runs, "tasks": tasks, "task_attempts": attempts, "external_runs": external_runs}


def _place(row: _Row) -> tuple[str, str]:
    return row["run_id"], row["task_id"]


def _run_of(attempt: _Row, tasks: list[_Row], run_ids: list[str]) -> str:
    found: list[str] = [task["run_id"] for task in tasks if task["task_id"] == attempt["task_id"]]
    return found[0] if found else run_ids[0]


async def _migrated_and_rebuilt(database: Path) -> tuple[Values, Values]:
    async with open_engine(database, durability="relaxed") as engine:
        assert await engine.verify_views() == []
        assert list((await engine.verify()).problems) == []
    migrated = values_of(database)
    async with open_engine(database, durability="relaxed") as engine:
        await engine.rebuild()
    return migrated, values_of(database)


async def _check(version: str, rows: Rows) -> None:
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "state.db"
        if version == "1":
            del rows["task_attempts"]
        old.make(database, version, rows)
        due = expected(values_of(database), version)
        migrated, rebuilt = await _migrated_and_rebuilt(database)
        assert_holds(migrated, due)
        assert rebuilt == migrated


@QUICK
@given(st.sampled_from(old.VERSIONS), state_stores())
async def test_rows_are_the_same_after_a_migration_and_after_a_rebuild(version: str, rows: Rows) -> None:
    """The views hold the rows of any state store after its migration, and the same rows after a rebuild."""
    await _check(version, rows)


@pytest.mark.slow
@MANY
@given(st.sampled_from(old.VERSIONS), state_stores())
async def test_many_state_stores_are_the_same_after_a_migration_and_after_a_rebuild(version: str, rows: Rows) -> None:
    """The views hold the rows of many more state stores after their migration, and the same rows after a rebuild."""
    await _check(version, rows)
