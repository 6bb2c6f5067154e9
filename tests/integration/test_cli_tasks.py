"""The commands that report on the tasks of a run."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from engine import open_engine
from engine.cli import main
from engine.commands import LogTask, Record
from engine.events import AttemptCreated
from engine.model import TaskSpec
from engine.stores import JobLog, PartitionedRunLogStore, StepAttempt
from tests.integration.recorded_tasks import LONG_AGO, record_tasks
from tests.integration.test_cli_text import hidden

Shown = Callable[..., str]

_HOSTILE = "[red]x[/red] :smile: `|` \u202e\x1b[2J"
_HOSTILE_NAME = "[red]x[/red] :smile: `|`"


@pytest.fixture
def recorded(database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database with a run of tasks; the environment names it."""
    monkeypatch.setenv("ANABRANCH_DB", str(database))
    monkeypatch.delenv("COLUMNS", raising=False)
    asyncio.run(record_tasks(database))
    return database


def test_tasks_are_shown_with_their_operators(shown: Shown) -> None:
    """`tasks` prints a line for each task in the order they were logged, and none for steps that are no tasks."""
    lines = shown("tasks", "r1").splitlines()

    assert [line.split()[0] for line in lines[1:]] == [
        *("prepare", "relax", "dock", "report", "plot", "publish", "legacy", "lost"),
    ]
    assert lines[2].split() == ["relax", "FAILED", "FAILED", "2", "slurm", "job-3", "prepare"]
    assert lines[5].split() == ["plot", "PENDING", "RUNNING", "1", "local", "4711", "prepare"]
    assert lines[7].split() == ["legacy", "PENDING", "SUBMITTED", "0", "HPC", "9"]


def test_tasks_of_branches_are_shown_with_their_branch(shown: Shown, recorded: Path) -> None:
    """`tasks` has a branch column only when a task belongs to a branch other than the root."""

    async def record() -> None:
        async with open_engine(recorded) as engine:
            run = await engine.create_run("r5")
            await run.fork("fit")
            await engine.write("r5", *(LogTask(branch=branch, task_id="t", spec=TaskSpec()) for branch in ("", "fit")))

    asyncio.run(record())
    assert "BRANCH" not in shown("tasks", "r1")
    assert [line.split()[:2] for line in shown("tasks", "r5").splitlines()] == [
        ["BRANCH", "TASK"],
        ["(root)", "t"],
        ["fit", "t"],
    ]


def test_tasks_are_whole_in_json(document: Callable[..., Any]) -> None:
    """`tasks --json` has each task's specification, current attempt, external run and overall status."""
    tasks = {task["task_id"]: task for task in document("tasks", "r1")["tasks"]}

    assert (tasks["relax"]["attempts"], tasks["relax"]["current_attempt"]["attempt_id"]) == (2, "x2")
    assert (tasks["plot"]["status"], tasks["plot"]["stands"]) == ("PENDING", "RUNNING")
    assert (tasks["legacy"]["external_run"]["external_id"], tasks["dock"]["external_run"]) == ("9", None)
    assert tasks["prepare"]["spec"]["env"] == {"N": "1"}


def test_tasks_are_filtered_by_what_either_column_shows(document: Callable[..., Any], shown: Shown) -> None:
    """`tasks --status` matches a task's own status or that of its attempt."""
    assert [task["task_id"] for task in document("tasks", "r1", "--status", "FAILED")["tasks"]] == ["relax"]
    assert [task["task_id"] for task in document("tasks", "r1", "--status", "RUNNING")["tasks"]] == ["plot"]
    assert shown("tasks", "r1", "--status", "DONE") == "no tasks that are DONE\n"


def test_tasks_and_explanations_as_of_a_point(
    shown: Shown, document: Callable[..., Any], recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`tasks --at` and `explain --at` answer as of a version, and `explain` as of a time, with durations as of then."""

    async def record() -> datetime:
        async with open_engine(recorded) as engine:
            run = await engine.create_run("r6")
            await run.log_step("a", spec=TaskSpec())
            began = datetime.now(UTC) - timedelta(hours=3, minutes=30)
            started = AttemptCreated(
                branch="", step="a", attempt_id="a1", attempt_index=1, status="RUNNING", created_at=began
            )
            await engine.write("r6", Record(events=(started,)))
            before = datetime.now(UTC)
            await (await run.find_attempt("a1")).finish("FAILED", "no space left")
            return before

    before = asyncio.run(record()).isoformat()
    assert [task["stands"] for task in document("tasks", "r6", "--at", "3")["tasks"]] == ["RUNNING"]
    assert [task["stands"] for task in document("tasks", "r6")["tasks"]] == ["FAILED"]
    assert "1 task failed" in shown("explain", "r6")
    for point in ("3", before):
        answer, line = shown("explain", "r6", "--at", point).splitlines()
        assert (answer, line.split()[1:6]) == ("r6 is CREATED: 1 task is running", ["a", "RUNNING", "for", "3", "h"])
    assert shown("explain", "r6", "--at", "2").splitlines()[0] == "r6 is CREATED: 1 task is ready to run"
    assert main(["explain", "r6", "--at", "9"]) == 1
    assert "PointNotFound" in capsys.readouterr().err


def test_attempts_of_a_task(document: Callable[..., Any]) -> None:
    """`attempts --task` prints the same as `attempts --step`."""
    found = document("attempts", "r1", "--task", "relax")

    assert [attempt["attempt_id"] for attempt in found["attempts"]] == ["x1", "x2"]
    assert found == document("attempts", "r1", "--step", "relax")


def test_attempts_that_run_are_shown_with_the_time_so_far(shown: Shown) -> None:
    """`attempts` says of a running attempt how long it has taken so far; one that has not begun has no time."""
    lines = shown("attempts", "r1").splitlines()
    assert [line.split()[3:5] for line in lines if "so far" in line] == [["plot", "1"]]
    assert any("lost" in line for line in lines)


def test_explain_answers_in_one_line_first(shown: Shown) -> None:
    """The first line of `explain` says what failed, how much that blocks, and what else holds up the run."""
    answer, *_ = shown("explain", "r1").splitlines()

    assert answer == (
        "r1 is RUNNING: 1 task and 1 step failed and block 2; 1 task depends on a missing task;"
        " 1 task is orphaned; 2 tasks are running"
    )


def test_explain_lists_waiting_tasks_below_their_cause(shown: Shown) -> None:
    """`explain` lists below each failed task, with its reason, the tasks that it blocks."""
    lines = [line.strip(" │├└─") for line in shown("explain", "r1").splitlines()]

    assert lines[1:4] == [
        "relax  FAILED  attempt 2 on slurm as job-3: exit code 137: out of memory",
        "dock  PENDING  waits for relax",
        "report  PENDING  waits for dock, which waits for relax",
    ]
    assert "fit.a: train  FAILED  attempt 1: no data" in lines
    assert "publish  PENDING  depends on nope, which does not exist" in lines
    assert any(line.startswith("lost  CREATED  was created") for line in lines)
    assert "legacy  SUBMITTED  on HPC as 9" in lines


def test_explain_is_whole_in_json(document: Callable[..., Any]) -> None:
    """`explain --json` has the answer and a finding for every line of the text."""
    found = document("explain", "r1")
    findings = {finding["step"]: finding for finding in found["findings"]}

    assert found["answer"].startswith("r1 is RUNNING: ")
    assert {name: finding["kind"] for name, finding in findings.items()} == {
        "relax": "failed", "train": "failed", "publish": "missing", "dock": "blocked", "report": "blocked",
        "lost": "orphaned", "plot": "running", "legacy": "running",
    }  # fmt: skip
    assert findings["report"]["root"] == {"branch": "", "step": "relax"}
    assert findings["plot"]["job"]["since"].endswith("Z")


def test_explain_is_limited(shown: Shown) -> None:
    """`explain --limit` bounds each kind and what is behind each cause, and says how many more there are."""
    text = shown("explain", "r1", "--limit", "1")

    assert "… and 1 more (--limit)" in text
    assert "… and 1 more that failed (--limit)" in text
    assert "report" not in text


async def _two_of_each(database: Path) -> None:
    async with open_engine(database) as engine:
        run = await engine.create_run("r4")
        needed = {"missing": ["nope"], "left": ["right"], "right": ["left"], "ready": [], "orphaned": []}
        for number in "12":
            for name, names in needed.items():
                spec = TaskSpec(dependencies=[f"{each}{number}" for each in names])
                await run.write(LogTask(task_id=f"{name}{number}", spec=spec))
            for status in ("FAILED", "CANCELLED", "RUNNING"):
                await run.start_attempt(f"{status}{number}", status=status)
            step = f"orphaned{number}"
            created = AttemptCreated(branch="", step=step, attempt_id=step, attempt_index=1, created_at=LONG_AGO)
            await run.write(Record(events=(created,)))


def test_explain_counts_what_it_does_not_show(shown: Shown, recorded: Path) -> None:
    """`explain --limit` counts what it leaves out for every kind of finding."""
    asyncio.run(_two_of_each(recorded))
    lines = [line.strip(" │├└─") for line in shown("explain", "r4", "--limit", "1").splitlines()]

    assert [line for line in lines if line.startswith("…")] == [
        "… and 1 more that failed (--limit)",
        "… and 1 more that depend on missing tasks (--limit)",
        "… and 3 more that depend on each other (--limit)",
        "… and 1 more that are cancelled (--limit)",
        "… and 1 more that are orphaned (--limit)",
        "… and 1 more that are running (--limit)",
        "… and 1 more that are ready to run (--limit)",
    ]


async def _finish(database: Path) -> None:
    async with open_engine(database) as engine:
        run = await engine.create_run("r2")
        async with run.attempt("train"):
            pass
        await run.finalize("COMPLETED")
        await (await engine.create_run("r3")).write(LogTask(task_id="t", spec=TaskSpec()))


def test_there_may_be_nothing_to_explain(shown: Shown, recorded: Path) -> None:
    """`explain` says that a run completed without failures, or that its tasks are ready to run."""
    asyncio.run(_finish(recorded))

    assert shown("explain", "r2") == "r2 is COMPLETED: no step or branch failed, and none is waiting\n"
    assert shown("explain", "r3").splitlines()[0] == "r3 is CREATED: 1 task is ready to run"


async def _record_job(database: Path) -> None:
    async with open_engine(database) as engine:
        store = PartitionedRunLogStore(engine)
        await store.create_run_log("job")
        attempt = StepAttempt(status="FAIL", message="no such function")
        await store.add_job_log("job", JobLog(status="FAIL", attempts=[attempt]))
        for run_id, attempts in (("shapeless", "none"), ("stranger", ["none"])):
            run = await engine.create_run(run_id)
            await run.log_job({"attempts": attempts, "status": 7})


def test_a_run_that_is_a_single_job_is_explained_by_it(shown: Shown, recorded: Path) -> None:
    """`explain` and `show` report a failed job from the run's job log.

    A job log of another shape is ignored.
    """
    asyncio.run(_record_job(recorded))
    assert shown("explain", "job") == "job is FAIL: its job is FAIL: no such function\n"
    assert ["job", "FAIL: no such function"] in [line.split(None, 1) for line in shown("show", "job").splitlines()]
    for run_id in ("shapeless", "stranger"):
        told = f"{run_id} is CREATED: no step or branch failed, and none is waiting\n"
        assert shown("explain", run_id) == told


async def _hostile(database: Path) -> None:
    async with open_engine(database) as engine:
        run = await engine.create_run(_HOSTILE_NAME)
        branch = await run.fork(_HOSTILE_NAME)
        tasks = [
            LogTask(branch=branch.name, task_id=f"{_HOSTILE_NAME}{number}", spec=TaskSpec(dependencies=[_HOSTILE]))
            for number in range(2)
        ]
        await branch.write(*tasks)
        await branch.start_attempt(f"{_HOSTILE_NAME}0", status="FAILED", message=_HOSTILE, operator_key=_HOSTILE)


@pytest.mark.parametrize("command", ["tasks", "explain"])
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_hostile_names_stay_text(shown: Shown, recorded: Path, command: str, options: list[str]) -> None:
    """`tasks` and `explain` escape control characters, and print markup as plain text."""
    asyncio.run(_hostile(recorded))
    printed = shown(command, _HOSTILE_NAME, *options)

    assert hidden(printed) <= {"\n"}
    assert _HOSTILE_NAME in printed


@pytest.mark.parametrize("command", ["tasks", "explain"])
def test_lines_fit_the_terminal(shown: Shown, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """`tasks` and `explain` print no line longer than the terminal is wide."""
    monkeypatch.setenv("COLUMNS", "60")

    assert max(len(line) for line in shown(command, "r1").splitlines()) <= 60


@pytest.mark.parametrize("command", [["tasks"], ["explain"], ["export", "evidence", "--to", "/nowhere"]])
def test_an_unknown_run(recorded: Path, capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    """An unknown run is one line of error with exit code 1."""
    assert main([*command, "r9"]) == 1
    assert capsys.readouterr() == ("", "anabranch: RunNotFound: no run 'r9'\n")
