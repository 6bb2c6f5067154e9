"""The commands that read runs: what each shows to people and to scripts."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from engine import open_engine
from engine.cli import main

Shown = Callable[..., str]


async def _record(database: Path) -> None:
    async with open_engine(database) as engine:
        run = await engine.create_run("r1", parameters={"lr": 0.1, "seed": 7}, tag="nightly", description="two fits")
        a, b = await run.fork("fit.a"), await run.fork("fit.b")
        async with a.attempt("train", operator_key="local") as attempt:
            await attempt.update(external_id="job-7", metrics={"accuracy": 0.9})
        await a.set_parameters({"loss": 0.3, "epochs": 3})
        with pytest.raises(ValueError, match="no data"):
            async with b.attempt("train"):
                raise ValueError("no data")
        async with b.attempt("train"):
            await b.set_parameters({"loss": 0.2, "epochs": 4})
        await run.reduce([a, b], rules={"loss": "min", "epochs": "sum"})
        await run.finalize("COMPLETED")
        forked = await engine.fork_run("r1", run_id="r2")
        await forked.set_parameters({"lr": 0.5})


@pytest.fixture
def recorded(database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database with a run of two branches, one of them with a failed attempt, and a run forked from it."""
    monkeypatch.setenv("ANABRANCH_DB", str(database))
    asyncio.run(_record(database))
    return database


def rows(text: str) -> list[list[str]]:
    """Return the words of a printed table, line by line."""
    return [line.split() for line in text.splitlines()]


def test_the_last_recorded_run_comes_first(recorded: Path, shown: Shown) -> None:
    """`runs` lists the last recorded run first, whatever its creation time is, and its help says so."""

    async def record() -> None:
        async with open_engine(recorded) as engine:
            await engine.create_run("old", created_at=datetime(2001, 1, 1, tzinfo=UTC))

    asyncio.run(record())
    assert [row[0] for row in rows(shown("runs"))] == ["RUN", "old", "r2", "r1"]
    assert "the last recorded first" in shown("runs", "--help")


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (["--status", "COMPLETED"], ["r1"]),
        (["--tag", "nightly"], ["r1"]),
        (["--since", "2020-01-01"], ["r2", "r1"]),
        (["--since", "1d"], ["r2", "r1"]),
        (["--until", "1d"], []),
        (["--until", "2020-01-01T00:00:00+01:00"], []),
        (["--limit", "1"], ["r2"]),
    ],
)
def test_runs_are_filtered(document: Callable[..., Any], filters: list[str], found: list[str]) -> None:
    """Each filter of `runs` keeps only the runs that match it."""
    assert [run["run_id"] for run in document("runs", *filters)["runs"]] == found


_HOUR = timedelta(hours=1)


def test_about_is_the_reason_or_else_the_description(recorded: Path, shown: Shown) -> None:
    """`runs` shows a run's status reason, else its description, and how long it took or has been running."""

    async def record() -> None:
        async with open_engine(recorded) as engine:
            await engine.create_run("described", description="a fit")
            failed = await engine.create_run("failed", description="a fit", created_at=datetime.now(UTC) - _HOUR)
            await failed.set_status("FAILED", "no disk")
            await engine.create_run("bare")
            await engine.create_run("active", status="RUNNING", created_at=datetime.now(UTC) - _HOUR)

    asyncio.run(record())
    about = {row[0]: row[4:] for row in rows(shown("runs"))}
    assert about["described"] == ["a", "fit"]
    assert about["failed"] == ["1", "h", "00", "min", "no", "disk"]
    assert about["bare"] == []
    assert about["active"] == ["1", "h", "00", "min", "so", "far"]


def test_a_page_of_runs_says_where_the_next_begins(document: Callable[..., Any], shown: Shown) -> None:
    """The cursor of a page of runs leads to the next page; the last page has none."""
    first = document("runs", "--limit", "1")
    second = document("runs", "--limit", "1", "--cursor", first["cursor"])

    assert ([run["run_id"] for run in second["runs"]], second["cursor"]) == (["r1"], None)
    assert f"--cursor {first['cursor']}" in shown("runs", "--limit", "1")


def test_an_empty_list_prints_a_message(shown: Shown) -> None:
    """An empty list of runs is said to be empty, with the filter."""
    assert shown("runs", "--tag", "unheard of") == "no runs tagged unheard of\n"


def test_show_prints_status_hash_and_counts(shown: Shown) -> None:
    """`show` prints a run's status, tag, description, hash and counts."""
    facts = {row[0]: " ".join(row[1:]) for row in rows(shown("show", "r1")) if row}

    assert (facts["status"], facts["tag"], facts["about"]) == ("COMPLETED", "nightly", "two fits")
    assert len(facts["hash"]) == 64
    assert facts["holds"].endswith("3 branches, 2 steps, 3 attempts (1 failed)")


def test_show_says_which_branch_supplied_a_parameter(document: Callable[..., Any]) -> None:
    """`show` names the rule of a reduced value and the branches that supplied it; a value that was set has no rule."""
    parameters = document("show", "r1")["parameters"]

    assert [source["branch"] for source in parameters["loss"]["supplied_by"]] == ["fit.b"]
    assert [source["branch"] for source in parameters["epochs"]["supplied_by"]] == ["fit.a", "fit.b"]
    assert (parameters["loss"]["value"], parameters["loss"]["rule"]) == (0.2, "min")
    assert parameters["lr"]["rule"] is None


def test_show_counts_what_the_log_holds(document: Callable[..., Any], shown: Shown) -> None:
    """The number of events that `show` counts equals the number of lines of `events --json`."""
    assert document("show", "r1")["counts"]["events"] == len(shown("events", "r1", "--json").splitlines())


def test_a_forked_run_names_its_source(document: Callable[..., Any], shown: Shown) -> None:
    """`show` names the run that a run was forked from, and traces an inherited parameter into that run."""
    found = document("show", "r2")

    assert found["forked_from"]["run_id"] == "r1"
    assert found["parameters"]["loss"]["supplied_by"][0]["run_id"] == "r1"
    assert "r1: fit.b@" in shown("params", "r2")


def test_branches_of_another_run_are_named_with_it(shown: Shown) -> None:
    """`params` names the run of the branches that supplied a value when it is not the run shown."""
    assert "2 branches of r1: fit.a, fit.b" in shown("params", "r2")
    assert "2 branches: fit.a, fit.b" in shown("params", "r1")


def test_a_run_that_was_created_later_than_its_status_changed(recorded: Path, shown: Shown) -> None:
    """`show` prints no elapsed time for a run whose creation time is after its status change."""

    async def record() -> None:
        async with open_engine(recorded) as engine:
            run = await engine.create_run("r3", created_at=datetime(9999, 1, 1, tzinfo=UTC))
            await run.set_status("FAILED")

    asyncio.run(record())
    assert "later" not in shown("show", "r3")


def test_the_tree_nests_branches(shown: Shown) -> None:
    """`tree` prints each branch below its parent, with its status, version, steps and attempts."""
    root, a, b = shown("tree", "r1").splitlines()

    assert root.startswith("r1  COMPLETED")
    assert (a.split()[1], b.split()[1]) == ("fit.a", "fit.b")
    assert "1 step, 2 attempts (1 failed)" in b


def test_the_tree_shows_steps_when_asked(shown: Shown) -> None:
    """With `--steps`, `tree` prints each step, with its attempts where there were several."""
    assert "train  COMPLETED  #1 FAILED, #2 COMPLETED" in shown("tree", "r1", "--steps")


def test_the_tree_is_one_document(document: Callable[..., Any]) -> None:
    """`tree --json` nests branches in `branches`, and steps carry their attempts."""
    a, b = document("tree", "r1")["branches"]

    assert (a["branch"], b["branch"]) == ("fit.a", "fit.b")
    assert [attempt["status"] for attempt in b["steps"][0]["attempts"]] == ["FAILED", "COMPLETED"]


def test_events_come_in_order(shown: Shown) -> None:
    """`events` prints a line with the date, then one line for each event in the order of positions."""
    date, *lines = shown("events", "r1").splitlines()

    assert date.endswith("UTC")
    assert [int(line.split()[0]) for line in lines] == list(range(1, len(lines) + 1))
    assert "RunCreated" in lines[0]


def test_events_are_filtered(shown: Shown) -> None:
    """`events` selects by branch, type and position; an empty name means the root branch."""
    lines = shown("events", "r1", "--branch", "fit.a", "--json").splitlines()
    reduced = json.loads(shown("events", "r1", "--branch", "", "--type", "ParametersReduced", "--json"))

    assert {json.loads(line)["branch"] for line in lines} == {"fit.a"}
    assert (reduced["type"], reduced["event"]["rules"]) == ("ParametersReduced", {"epochs": "sum", "loss": "min"})
    assert shown("events", "r1", "--after", str(reduced["position"]), "--json").count("\n") == 2


def test_json_has_the_whole_event(shown: Shown) -> None:
    """A line of `events --json` has the envelope, with hexadecimal ids and ISO times, and all fields of the event."""
    event = json.loads(shown("events", "r1", "--json").splitlines()[0])

    assert (len(event["hash"]), len(event["event_id"]), event["recorded_at"][-1]) == (64, 32, "Z")
    assert (event["event"]["tag"], event["event"]["dag_hash"]) == ("nightly", None)


def test_params_show_what_a_branch_sees(document: Callable[..., Any], shown: Shown) -> None:
    """`params --branch` shows the branch's own parameters and those inherited from its parent at the fork."""
    found = document("params", "r1", "--branch", "fit.a")["parameters"]

    assert {name: (each["value"], each["set_by"]["branch"]) for name, each in found.items()} == {
        "epochs": (3, "fit.a"),
        "loss": (0.3, "fit.a"),
        "lr": (0.1, ""),
        "seed": (7, ""),
    }
    assert ["lr", "json", "0.1", "(root)@2", "(root)@2"] in rows(shown("params", "r1", "--branch", "fit.a"))


def test_params_as_of_a_version(document: Callable[..., Any]) -> None:
    """`params --at` takes a version of the branch's stream."""
    found = document("params", "r1", "--at", "2")

    assert (found["branch"], set(found["parameters"])) == ("", {"lr", "seed"})


def test_params_as_of_a_time(document: Callable[..., Any], shown: Shown) -> None:
    """`params --at` takes a time, and includes everything recorded until then."""
    created = json.loads(shown("events", "r1", "--json").splitlines()[1])["recorded_at"]

    assert set(document("params", "r1", "--at", created)["parameters"]) == {"lr", "seed"}


def test_steps_of_all_branches_or_one(document: Callable[..., Any], shown: Shown) -> None:
    """`steps` lists the steps of all branches, or of one branch or one status."""
    assert [step["branch"] for step in document("steps", "r1")["steps"]] == ["fit.a", "fit.b"]
    assert [step["branch"] for step in document("steps", "r1", "--branch", "fit.b")["steps"]] == ["fit.b"]
    assert shown("steps", "r1", "--status", "FAILED") == "no steps that are FAILED\n"
    assert rows(shown("steps", "r1"))[2][:4] == ["fit.b", "train", "COMPLETED", "2"]


def test_attempts_say_why_they_failed(document: Callable[..., Any], shown: Shown) -> None:
    """`attempts` shows the reason of a failed attempt and the metrics of a completed one."""
    (failed,) = document("attempts", "r1", "--status", "FAILED")["attempts"]

    assert (failed["branch"], failed["step"], failed["status_reason"]) == ("fit.b", "train", "ValueError: no data")
    assert "ValueError: no data" in shown("attempts", "r1", "--branch", "fit.b")
    assert "accuracy=0.9" in shown("attempts", "r1", "--step", "train")


def test_rebuild_checks_what_it_made(document: Callable[..., Any], shown: Shown) -> None:
    """`rebuild` verifies the views that it built, and reports that they match the events."""
    assert document("rebuild")["differences"] == []
    assert "the views match the events" in shown("rebuild")


def test_every_command_explains_itself(shown: Shown) -> None:
    """Called without arguments, the program lists every command; the help of each command has an example."""
    commands = {line.split()[0] for line in shown().split("Commands:\n")[1].splitlines()}

    assert commands == {
        *("attempts", "backup", "blame", "checkpoint", "compact", "delete", "demo", "diff", "doctor", "erase"),
        *("events", "explain", "fork"),
        *("export", "gc", "import", "params", "pin", "rebuild", "runs", "show", "steps", "tail", "tasks", "tree"),
        *("unpin", "verify"),
    }
    for command in commands:
        assert f"\n    anabranch {command}" in shown(command, "--help")


def test_an_optional_argument_is_in_brackets_once(shown: Shown) -> None:
    """The parser adds the brackets to the name."""
    for command in ("tail", "verify"):
        assert shown(command, "--help").startswith(f"Usage: anabranch {command} [OPTIONS] [RUN]\n")


async def _create(database: Path, run_id: str) -> None:
    async with open_engine(database) as engine:
        await engine.create_run(run_id, tag="t" * 40, description="d" * 40)


def test_run_ids_are_not_cut_for_other_columns(shown: Shown, recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a narrow terminal `runs` shortens the tag and the description, but not the run id."""
    monkeypatch.setenv("COLUMNS", "80")
    asyncio.run(_create(recorded, "nightly-2026-01-31-120000"))

    assert rows(shown("runs"))[1][0] == "nightly-2026-01-31-120000"


def test_a_long_run_id_leaves_room_for_the_status(
    shown: Shown, recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`runs` shortens the middle of a very long run id on a narrow terminal, and prints it whole into a pipe."""
    long = "nightly/" + "churn/" * 20 + "2026-11-28"
    asyncio.run(_create(recorded, long))
    assert rows(shown("runs"))[1][0] == long
    monkeypatch.setenv("COLUMNS", "80")
    lines = shown("runs").splitlines()
    assert {"STATUS", "CREATED"} <= set(lines[0].split())
    assert "2026-11-28" in lines[1].split()[0]
    assert "CREATED" in lines[1]


async def _delete(database: Path) -> None:
    async with open_engine(database) as engine:
        await engine.create_run("gone")
        await engine.delete_run("gone", "too old")


def test_an_unknown_run(shown: Shown, recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error for an unknown run says when and why it was deleted, or suggests a run of a similar name."""
    asyncio.run(_delete(recorded))
    for asked in (["show", "gone"], ["diff", "gone", "r1"], ["delete", "gone", "--yes", "--reason", "again"]):
        assert main(asked) == 1
        assert capsys.readouterr().err.endswith(" UTC, 'too old'\n")
    assert main(["show", "r11"]) == 1
    assert capsys.readouterr().err.endswith("; did you mean 'r1'?\n")


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("fit.aa", "; did you mean 'fit.a' or 'fit.b'?"),
        ("fib.b", "; did you mean 'fit.b' or 'fit.a'?"),
        ("b", "; did you mean 'fit.b'?"),
        ("(root)", "; omit --branch for the root branch"),
        ("quite another", ""),
    ],
)
def test_an_unknown_branch(recorded: Path, capsys: pytest.CaptureFixture[str], asked: str, hint: str) -> None:
    """The error for an unknown branch suggests the branches that end with this name, or have a similar one."""
    assert recorded.exists()
    for command in ("params", "events", "steps"):
        assert main([command, "r1", "--branch", asked]) == 1
        assert capsys.readouterr().err == f"anabranch: BranchNotFound: no branch '{asked}' in run 'r1'{hint}\n"


def test_a_status_in_lower_case(shown: Shown) -> None:
    """`steps --status` with a status in the wrong case finds nothing, and suggests the recorded spelling."""
    assert shown("steps", "r1", "--status", "failed") == "no steps that are failed; did you mean FAILED?\n"


@pytest.mark.parametrize("command", ["show", "tree", "params", "events", "steps", "attempts"])
def test_lines_fit_the_terminal(shown: Shown, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """No command prints a line longer than the terminal is wide."""
    monkeypatch.setenv("COLUMNS", "60")

    assert max(len(line) for line in shown(command, "r1").splitlines()) <= 60


async def _record_narrow(database: Path) -> None:
    async with open_engine(database) as engine:
        run = await engine.create_run("narrow", status="RUNNING", created_at=datetime.now(UTC) - _HOUR, tag="nightly")
        attempt = await (await run.fork("evaluate")).start_attempt("training")
        await attempt.finish("FAILED", "the loss is not a number")


@pytest.mark.parametrize(
    ("command", "columns", "headers"),
    [
        ("attempts narrow", "60", ["BRANCH", "STEP", "#", "STATUS", "TOOK", "OUTCOME"]),
        ("attempts narrow", "42", ["BRANCH", "STEP", "#", "STATUS", "OUTCOME"]),
        ("steps narrow", "50", ["BRANCH", "STEP", "STATUS", "ATTEMPTS", "REASON"]),
        ("runs", "60", ["RUN", "STATUS", "CREATED", "(UTC)", "TAG", "ABOUT"]),
    ],
)
def test_a_narrow_terminal_has_fewer_columns(
    recorded: Path, shown: Shown, monkeypatch: pytest.MonkeyPatch, command: str, columns: str, headers: list[str]
) -> None:
    """On a narrow terminal, columns of times are left out rather than names and statuses cut to a letter or two."""
    asyncio.run(_record_narrow(recorded))
    monkeypatch.setenv("COLUMNS", columns)
    lines = rows(shown(*command.split()))
    assert lines[0] == headers
    names = {"evaluate", "training", "FAILED"} if "narrow" in command else {"narrow", "RUNNING", "nightly"}
    assert names <= set(lines[1])


def test_steps_and_attempts_as_of_a_version(document: Callable[..., Any]) -> None:
    """`steps --at` and `attempts --at` show what the branch held at that version, and nothing later."""
    now = document("attempts", "r1", "--branch", "fit.b")["attempts"]
    begun = document("attempts", "r1", "--branch", "fit.b", "--at", "3")["attempts"]
    assert [each["status"] for each in now] == ["FAILED", "COMPLETED"]
    assert [(each["attempt_id"], each["status"]) for each in begun] == [(now[0]["attempt_id"], "RUNNING")]
    assert document("steps", "r1", "--branch", "fit.b", "--at", "1")["steps"] == []


@pytest.mark.usefixtures("recorded")
def test_an_unknown_task_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """`attempts --task` with an unknown task is an error, not an empty list, and suggests steps of a similar name."""
    for task, hint in (("nope", ""), ("trian", "; did you mean 'train'?")):
        assert main(["attempts", "r1", "--task", task]) == 1
        assert capsys.readouterr().err == f"anabranch: TaskNotFound: no task '{task}' in run 'r1'{hint}\n"
