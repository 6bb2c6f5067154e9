"""`anabranch blame`: where a value came from, for people and for scripts."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import open_engine
from engine.cli import main

Shown = Callable[..., str]
HOSTILE = "\x1b[2J\u202e"


async def _record(database: Path) -> None:
    async with open_engine(database) as engine:
        run = await engine.create_run("r1", parameters={"lr": 0.1, "loss": 0.9})
        a, b = await run.fork("fit.a"), await run.fork("fit.b")
        await a.set_parameters({"loss": 0.3, "epochs": 3, "only_a": "v" * 200})
        async with b.attempt("train"):
            await b.set_parameters({"loss": 0.2, "epochs": 4})
        await run.set_parameters({"loss": 0.8})
        await run.reduce([a, b], rules={"loss": "min", "epochs": "sum", "only_a": "first"})
        await a.set_parameters({"late": 1})
        await engine.fork_run("r1", run_id="r2")
        doubtful = await engine.create_run("doubtful")
        attempt = await doubtful.start_attempt("train")
        await doubtful.set_parameters({"loss": 0.1})
        await attempt.finish("FAILED", "killed")
        long = await engine.create_run("long")
        for number in range(150):
            await long.set_parameters({"x": number})
        wide = await engine.create_run("wide")
        for number in range(150):
            await (await wide.fork(f"b{number}")).set_parameters({"least": number, "all": number})
        await wide.reduce(rules={"least": "min", "all": "sum"})


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that is only read, with a forked run of two branches, a failed attempt, and a run of 150 branches."""
    database = tmp_path_factory.mktemp("blame") / "runs.db"
    asyncio.run(_record(database))
    return database


@pytest.fixture
def shown(recorded: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shown:
    """Run `blame`, which must succeed, on a terminal of 80 columns, and return what it printed."""
    monkeypatch.setenv("ANABRANCH_DB", str(recorded))
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: str) -> str:
        assert main(["blame", *arguments]) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def refused(recorded: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shown:
    """Run `blame`, which must fail, and return the error that it printed."""
    monkeypatch.setenv("ANABRANCH_DB", str(recorded))

    def run(*arguments: str) -> str:
        assert main(["blame", *arguments]) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        return captured.err

    return run


def untimed(text: str) -> list[str]:
    """Return the lines without times, tree lines and the hash."""
    lines = [line.split("  20")[0].strip("│├└─ ") for line in text.splitlines()]
    return [line for line in lines if not line.startswith("hash ")]


def test_a_reduced_value_is_a_tree_of_its_sources(shown: Shown) -> None:
    """`blame` shows a reduced value with rule, values taken and passed over, conflicts and the overwritten value."""
    assert untimed(shown("r1", "loss")) == [
        "loss = 0.2",
        "(root)@4  reduced by min from 2 branches",
        "taken  fit.b@4  0.2 (was 0.9)  set during train #1",
        "passed over  fit.a@2  0.3",
        "conflict with fit.a, not taken: child 0.3, parent 0.8 (was 0.9)",
        "conflict with fit.b, taken: child 0.2, parent 0.8 (was 0.9)",
        "overwrote  (root)@3  0.8  set",
    ]


def test_combined_sources_are_not_marked_as_taken(shown: Shown) -> None:
    """When a rule combines all values, `blame` lists the sources in branch order and calls none of them taken."""
    assert untimed(shown("r1", "epochs"))[2:] == ["fit.a@2  3  set", "fit.b@4  4  set during train #1"]


def test_a_value_from_another_run_names_that_run(shown: Shown) -> None:
    """`blame` names the run that an inherited value came from, and the fork."""
    lines = untimed(shown("r2", "lr"))
    assert lines == ["lr = 0.1", "r1: (root)@2  set", "inherited by (root), forked at r1: (root)@4"]


def test_history_lists_overwritten_values(shown: Shown) -> None:
    """`blame --history` adds one line for each overwritten value, newest first."""
    lines = untimed(shown("r1", "loss", "--history"))
    assert lines[-2:] == ["overwrote  (root)@3  0.8  set", "overwrote  (root)@2  0.9  set"]


@pytest.mark.parametrize(("at", "value"), [("2", "0.9"), ("3", "0.8"), ("4", "0.2"), ("9999-01-01", "0.2")])
def test_as_of_a_version_or_a_time(shown: Shown, at: str, value: str) -> None:
    """`blame --at` shows the value that the branch saw at that version or time."""
    assert shown("r1", "loss", "--at", at).splitlines()[0] == f"loss = {value}"


@pytest.mark.parametrize("arguments", [("r1", "loss"), ("r1", "only_a"), ("wide", "all"), ("wide", "least")])
def test_no_line_is_longer_than_the_terminal(shown: Shown, arguments: tuple[str, str]) -> None:
    """`blame` prints no line longer than the terminal is wide."""
    assert max(map(len, shown(*arguments).splitlines())) <= 80


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("all", "… 50 more child branches, not shown (--json shows more)"),
        ("least", "… 50 more child branches, not shown (--json shows more)"),
    ],
)
def test_omitted_branches_are_counted(shown: Shown, name: str, last: str) -> None:
    """`blame` of a wide reduction cuts its output and says how many branches and values it leaves out."""
    lines = untimed(shown("wide", name))
    assert lines[-1] == last
    assert ("… and passed over 91 more (--json)" in lines) is (name == "least")
    assert len(lines) < 120


def test_json_has_all_of_it(shown: Shown) -> None:
    """`blame --json` prints the whole tree as nested objects, with values, hashes and times."""
    document = json.loads(shown("wide", "least", "--json"))
    lineage = document["lineage"]
    assert (document["run_id"], document["branch"], document["name"]) == ("wide", "", "least")
    assert (lineage["value"]["value"], lineage["rule"], lineage["more"]) == (0, "min", 0)
    assert [source["branch"] for source in lineage["sources"]] == ["b0"]
    assert len(lineage["passed_over"]) == 149
    assert (len(lineage["hash"]), lineage["recorded_at"][-1]) == (64, "Z")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("r1", "los"), "no parameter 'los' in branch '' of run 'r1'; did you mean 'loss'?"),
        (("r1", "late"), "; it was written in fit.a (--branch)"),
        (("r1", "epochs", "--at", "2"), "; it was written after that point"),
        (("r1", "nothing like it"), "of run 'r1'\n"),
    ],
)
def test_an_unknown_name_is_an_error_with_a_hint(refused: Shown, arguments: Any, hint: str) -> None:
    """An unknown parameter is an error with a hint: a similar name, a branch that has it, or that it came later."""
    error = refused(*arguments)
    assert error.startswith("anabranch: ParameterNotFound: ")
    assert hint in error
    assert error.count("\n") == 1


def test_an_error_is_json_for_scripts(refused: Shown) -> None:
    """With `--json` the error is a JSON document with its type and message."""
    error = json.loads(refused("r1", "los", "--json"))["error"]
    assert error["type"] == "ParameterNotFound"
    assert error["message"].endswith("did you mean 'loss'?")


def test_hostile_names_and_values_reach_no_terminal(
    database: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`blame` escapes control characters in names and values, in its output and in its errors."""

    async def record() -> None:
        async with open_engine(database) as engine:
            run = await engine.create_run("r")
            await (await run.fork("a")).set_parameters({"x": HOSTILE, "[red]": HOSTILE})
            await run.reduce()

    asyncio.run(record())
    monkeypatch.setenv("ANABRANCH_DB", str(database))
    assert main(["blame", "r", "x"]) == 0
    assert main(["blame", "r", "[red]"]) == 0
    assert main(["blame", "r", HOSTILE]) == 1
    captured = capsys.readouterr()
    assert "[red] = " in captured.out
    assert "\x1b" not in captured.out + captured.err
    assert "\u202e" not in captured.out + captured.err


def test_a_value_set_by_a_failed_attempt_names_it(shown: Shown) -> None:
    """`blame` says of a value that the attempt which set it failed."""
    assert "set during train #1, which is FAILED" in untimed(shown("doubtful", "loss"))[1]


def test_a_long_history_says_where_it_goes_on(shown: Shown) -> None:
    """`blame --history` shows a limited number of values, and the command for the earlier ones."""
    text = shown("long", "x", "--history")
    assert text.count("overwrote") == 100
    told = " ".join(text.split())
    assert told.endswith("… and earlier values, from (root)@50: see anabranch blame long x --at 50 --history")
