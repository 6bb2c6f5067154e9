"""`anabranch diff`, and `show` and `tree` with `--at`, for people and for scripts."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import TaskSpec, open_engine
from engine.cli import main

Told = Callable[..., tuple[int, str]]


async def _record(database: Path) -> None:
    async with open_engine(database) as engine:
        run = await engine.create_run("r1", parameters={"lr": 0.1, "seed": 7}, tag="nightly")  # versions 1 and 2
        await run.log_step("prepare", status="COMPLETED")
        a, b = await run.fork("fit.a"), await run.fork("fit.b")
        await a.set_parameters({"loss": 0.3, "mode": "fast"})
        await (await a.fork("inner")).set_parameters({"k": 1})
        await b.set_parameters({"loss": 0.2})
        await run.set_parameters({"lr": 0.5})  # version 4
        await (await run.start_attempt("train")).finish("FAILED")
        await (await run.start_attempt("train")).finish()
        await run.finalize("COMPLETED")
        await engine.fork_run("r1", run_id="r2", at=4, tag="again")
        await (await engine.create_run("r1:fit.a", parameters={"alone": 1})).fork("x")
        await engine.create_run("r1@2")


@pytest.fixture
def told(database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Told:
    """Run a command; return its exit code and what it printed."""
    monkeypatch.setenv("ANABRANCH_DB", str(database))
    monkeypatch.delenv("COLUMNS", raising=False)
    asyncio.run(_record(database))

    def run(*arguments: str) -> tuple[int, str]:
        code = main(arguments)
        captured = capsys.readouterr()
        return code, captured.out or captured.err

    return run


@pytest.fixture
def document(told: Told) -> Callable[..., Any]:
    return lambda *arguments: json.loads(told(*arguments, "--json")[1])


@pytest.mark.parametrize("columns", ["60", "80"])
def test_a_narrow_terminal_tells_the_sides_apart(
    told: Told, database: Path, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    """The heading of each side of `diff` keeps the end of a long name, where the points of a run differ."""

    async def record() -> None:
        async with open_engine(database) as engine:
            run = await engine.create_run("census-20261128-212547", parameters={"bytes": 1})
            await run.set_parameters({"bytes": 2, "newest": "x" * 80})

    asyncio.run(record())
    monkeypatch.setenv("COLUMNS", columns)
    heading = told("diff", "census-20261128-212547@2", "census-20261128-212547@3")[1].splitlines()[0]
    assert [word[-2:] for word in heading.split()[2:]] == ["@2", "@3"]


def test_runs_may_be_named_like_a_column(told: Told, database: Path) -> None:
    """`diff` shows both sides also of runs whose names are headers of its table."""

    async def record() -> None:
        async with open_engine(database) as engine:
            await engine.create_run("WHAT", parameters={"lr": 1})
            await engine.create_run("BRANCH", parameters={"lr": 2})

    asyncio.run(record())
    lines = told("diff", "WHAT", "BRANCH")[1].splitlines()
    assert [line.split() for line in lines] == [
        ["BRANCH", "WHAT", "WHAT", "BRANCH"],
        ["~", "(root)", "parameter", "lr", "1", "2"],
    ]


def test_two_points_of_a_run(told: Told) -> None:
    """`diff` of two points marks every change between them: status, parameters, steps with attempts, and branches."""
    code, text = told("diff", "r1", "r1", "--a-at", "2")
    rows = [line.split(maxsplit=2) for line in text.splitlines()[1:]]
    assert code == 1
    assert [(sign, branch, " ".join(rest.split()[:2])) for sign, branch, rest in rows] == [
        ("~", "(root)", "status CREATED"),
        ("~", "(root)", "parameter lr"),
        ("+", "(root)", "step prepare"),
        ("+", "(root)", "step train"),
        ("+", "fit.a", "branch CREATED:"),
        ("+", "fit.a.inner", "branch CREATED:"),
        ("+", "fit.b", "branch CREATED:"),
    ]
    assert "COMPLETED (#1 FAILED, #2 COMPLETED)" in text


def test_nothing_differs(told: Told) -> None:
    """`diff` exits with 0, and says so, when nothing differs."""
    assert told("diff", "r1", "r1") == (0, "nothing differs\n")
    assert told("diff", "r1", "r1", "--a-at", "2999-01-01")[0] == 0


async def _record_two_tries(database: Path) -> None:
    async with open_engine(database) as engine:
        for run_id, command, rows in (("try 1", "fit --fast", 7), ("try 2", "fit", 8)):
            run = await engine.create_run(run_id)
            await run.log_step("fit", spec=TaskSpec(command=command))
            async with run.attempt("fit", external_id=f"job of {run_id}") as attempt:
                await attempt.update(outputs={"rows": rows})


def test_two_executions_of_the_same_tasks(told: Told, database: Path, document: Callable[..., Any]) -> None:
    """`diff` of two runs compares specifications and outputs, but neither job ids nor times."""
    asyncio.run(_record_two_tries(database))
    code, text = told("diff", "try 1", "try 2")
    assert code == 1
    assert [" ".join(line.split()) for line in text.splitlines()[1:]] == [
        '~ (root) step fit: spec.command "fit --fast" "fit"',
        "~ (root) step fit: attempts[0].outputs.rows 7 8",
    ]
    fields = document("diff", "try 1", "try 2")["branches"][""]["steps"]["fit"]["fields"]
    assert fields == {
        "spec.command": {"before": "fit --fast", "after": "fit"},
        "attempts[0].outputs.rows": {
            "before": {"value": 7, "kind": "json"},
            "after": {"value": 8, "kind": "json"},
        },
    }


async def _record_two_configurations(database: Path) -> None:
    async with open_engine(database) as engine:
        for run_id, sha, threads in (("monday", "abc123", 4), ("tuesday", "abc124", 8)):
            run = await engine.create_run(run_id, tags={"git": sha})
            await run.configure({"env": {"OMP_NUM_THREADS": threads}})
            await run.log_job({"name": "nightly"})


def test_two_runs_with_different_configurations(told: Told, database: Path) -> None:
    """`diff` compares configurations and tags, and the job logs between two points of a run."""
    asyncio.run(_record_two_configurations(database))
    code, text = told("diff", "monday", "tuesday")
    assert (code, [" ".join(line.split()) for line in text.splitlines()[1:]]) == (
        1,
        ['~ (root) tags.git "abc123" "abc124"', "~ (root) config.env.OMP_NUM_THREADS 4 8"],
    )
    code, text = told("diff", "monday@2", "monday")
    assert (code, text.split()[-4:]) == (1, ["job", "null", '{"name":', '"nightly"}'])


async def _record_texts(database: Path) -> None:
    async with open_engine(database) as engine:
        for run_id, end, accent in (("one", "A", "caf\u00e9"), ("other", "B", "cafe\u0301")):
            await engine.create_run(run_id, parameters={"long": "q" * 300 + end, "name": accent})


def test_values_that_begin_alike_are_told_apart(told: Told, database: Path) -> None:
    """`diff` cuts long values so that they show where they differ, and escapes values that only look the same."""
    asyncio.run(_record_texts(database))
    _, text = told("diff", "one", "other")
    rows = [line.split()[-2:] for line in text.splitlines()[1:]]
    assert rows == [['…qqqqqqqqqqqqA"', '…qqqqqqqqqqqqB"'], ['"caf\\xe9"', '"cafe\\u0301"']]


def test_a_value_that_was_erased(told: Told) -> None:
    """`diff` shows an erased value as `(erased)`, not as null, and without a kind."""
    told("erase", "r1", "2", "--reason", "wrong", "--yes", "--json")
    _, text = told("diff", "r1", "r1", "--a-at", "2")
    assert [line.split() for line in text.splitlines() if " lr " in line] == [
        ["~", "(root)", "parameter", "lr", "(erased)", "0.5"]
    ]


def test_an_invalid_position(told: Told) -> None:
    """The error for a point that does not exist says what it is: a position, a version or a time."""
    _, said = told("show", "r1", "--at", "p99999")
    assert "did not exist at position 99999, or the log does not reach it" in said
    assert "has no version 999; it has the versions 1 to" in told("show", "r1", "--at", "999")[1]
    assert "did not exist at 2020-01-01T" in told("show", "r1", "--at", "2020-01-01")[1]


def test_a_point_may_be_an_age(told: Told) -> None:
    """`--at` takes an age and means the time that long ago; a malformed age is refused."""
    assert "did not exist at " in told("show", "r1", "--at", "1d")[1]
    assert told("show", "r1", "--at", "0m")[0] == 0
    assert "is neither an age (30s, 90m, 12h, 30d, 4w) nor an ISO 8601 time" in told("show", "r1", "--at", "1x")[1]


def test_the_roots_display_name_is_not_its_name(told: Told) -> None:
    """`--branch "(root)"` is an error that says how to name the root branch."""
    code, said = told("params", "r1", "--branch", "(root)")
    assert (code, said.strip().endswith("; omit --branch for the root branch")) == (1, True)


def test_two_branches(told: Told, document: Callable[..., Any]) -> None:
    """`diff` compares two branches by what is below each, and says where they part."""
    code, text = told("diff", "r1", "r1", "--a-branch", "fit.a", "--b-branch", "fit.b")
    assert (code, text.splitlines()[0]) == (1, "their histories part after (root)@3")
    found = document("diff", "r1", "r1", "--a-branch", "fit.a", "--b-branch", "fit.b")
    assert list(found["branches"]) == ["", "inner"]
    assert found["branches"][""]["parameters"] == {
        "loss": {"before": {"value": 0.3, "kind": "json"}, "after": {"value": 0.2, "kind": "json"}},
        "mode": {"before": {"value": "fast", "kind": "json"}, "after": None},
    }


def test_a_fork_and_its_source(document: Callable[..., Any]) -> None:
    """`diff` of a fork and its source names the fork point; an inherited step is no difference."""
    found = document("diff", "r1", "r2")
    assert found["parting"] == {"run_id": "r1", "branch": "", "stream_version": 4}
    assert (found["same"], list(found["branches"][""]["steps"])) == (False, ["train"])
    again = document("diff", "r1@4", "r2")
    assert list(again["branches"][""]["fields"]) == ["tag"]
    assert {name: each["status_after"] for name, each in again["branches"].items()} == {
        "": "CREATED",
        "fit.a": None,
        "fit.a.inner": None,
        "fit.b": None,
    }


READINGS = {
    "r1": ("r1", "", None),
    "r1@4": ("r1", "", 4),
    "r1@p5": ("r1", "", {"n": 5}),
    "r1@2999-01-31T12:00": ("r1", "", "2999-01-31T12:00:00.000000Z"),
    "r1:fit.b": ("r1", "fit.b", None),
    "r1:fit.b@1": ("r1", "fit.b", 1),
    "r1:fit.a": ("r1:fit.a", "", None),
    "r1:fit.a@1": ("r1:fit.a", "", 1),
    "r1:fit.a:x": ("r1:fit.a", "x", None),
    "r1@2": ("r1@2", "", None),
    "r1@2@1": ("r1@2", "", 1),
}


@pytest.mark.parametrize(("text", "meant"), READINGS.items(), ids=READINGS)
def test_the_longest_existing_run_id_is_taken(
    document: Callable[..., Any], text: str, meant: tuple[str, str, Any]
) -> None:
    """`diff` reads `run:branch@point` with the longest existing run id, since run ids may contain `:` and `@`."""
    found = document("diff", text, "r2")["before"]
    assert (found["run_id"], found["branch"], found["at"]) == meant


REFUSED = {
    ("diff", "nobody", "r1"): (1, "RunNotFound"),
    ("diff", "r1:nobody", "r1"): (1, "BranchNotFound"),
    ("diff", "r1@99", "r1"): (1, "PointNotFound"),
    ("diff", "r1@p9999", "r1"): (1, "PointNotFound"),
    ("diff", "r2@yesterday", "r1"): (2, "UsageError"),
    ("diff", "r1"): (2, "UsageError"),
    ("diff", "r1", "r1", "--b-at", "p0"): (2, "UsageError"),
    ("show", "r1", "--at", "99"): (1, "PointNotFound"),
    ("show", "r1", "--at", "9" * 30): (2, "UsageError"),
    ("tree", "r1", "--at", "2001-01-01"): (1, "PointNotFound"),
}


@pytest.mark.parametrize(("arguments", "expected"), REFUSED.items(), ids=map(" ".join, REFUSED))
def test_unknown_places_are_refused(told: Told, arguments: tuple[str, ...], expected: tuple[int, str]) -> None:
    """A place that does not exist, or cannot be read, is one line of error with its name."""
    code, text = told(*arguments)
    assert (code, text.split(":")[1].strip(), text.count("\n")) == (*expected, 1)


def test_show_at_a_point(told: Told, document: Callable[..., Any]) -> None:
    """`show --at` shows the run's status, counts and parameters as of that point."""
    found = document("show", "r1", "--at", "2")
    assert (found["status"], found["finalized"], found["status_changed_at"]) == ("CREATED", None, None)
    assert found["counts"] == {"events": 2, "branches": 1, "steps": 0, "attempts": 0, "failed_attempts": 0}
    assert found["parameters"]["lr"]["value"] == 0.1
    assert "finalised" in told("show", "r1")[1]
    assert "finalised" not in told("show", "r1", "--at", "2")[1]


def test_show_counts_what_is_inherited(told: Told) -> None:
    """`show` counts a forked run's inherited steps, and says how many they are."""
    text = told("show", "r2")[1]
    assert "r1: (root)@4" in text
    assert "1 event, 1 branch, 1 step (1 inherited), 0 attempts" in text


def test_tree_at_a_point(told: Told) -> None:
    """`tree --at` shows only the branches that existed at that point."""
    assert "fit" not in told("tree", "r1", "--at", "2")[1]
    assert "inner" in told("tree", "r1", "--at", "4")[1]
