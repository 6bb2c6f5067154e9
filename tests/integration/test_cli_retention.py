"""`anabranch erase`, `pin`, `unpin`, `delete`, `gc` and `compact`: what they do, print, ask and refuse."""

import asyncio
import json
import os
import pty
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine import open_engine
from engine.cli import main
from engine.model import COMPLETED

SECRET = "correct-horse-battery"
Said = Callable[..., tuple[int, str, str]]


async def _record(database: Path) -> None:
    async with open_engine(database) as engine:
        run = await engine.create_run("r1", parameters={"key": SECRET, "lr": 0.1}, status="RUNNING")
        await (await run.fork("a")).set_parameters({"loss": 0.3})
        await run.reduce()
        for run_id in ("old 1", "old 2"):
            old = await engine.create_run(run_id, parameters={"x": "x" * 5000})
            await old.set_status(COMPLETED)
        await engine.fork_run("old 1", run_id="fork")


@pytest.fixture
def database(database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A running run with a secret, and two completed runs, one of them forked; the environment names the file."""
    asyncio.run(_record(database))
    monkeypatch.setenv("ANABRANCH_DB", str(database))
    monkeypatch.setenv("COLUMNS", "80")
    return database


@pytest.fixture
def said(database: Path, capsys: pytest.CaptureFixture[str]) -> Said:
    """Run a command; return its exit code and what it wrote to each stream."""
    assert database.exists()

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def document(said: Said) -> Callable[..., Any]:
    """Run a command with `--json`, and return its document."""
    return lambda *arguments: json.loads(said(*arguments, "--json")[1])


def test_an_erased_event_is_shown_as_erased(database: Path, said: Said) -> None:
    """An erased value is shown as `(erased)` by every command, and its bytes are no longer in the file."""
    assert said("erase", "r1", "2", "--reason", "a key", "--by", "ada", "--yes") == (
        0,
        "erased version 2 of (root) in r1\n",
        "",
    )
    assert said("erase", "r1", "2", "--reason", "a key", "--yes")[1].startswith("already erased: version 2")
    for command in (("show", "r1"), ("params", "r1"), ("events", "r1"), ("blame", "r1", "key")):
        code, out, _ = said(*command)
        assert (code, "(erased)" in out, "null" in out) == (0, True, False), command
    assert "PayloadErased" in said("events", "r1")[1]
    assert said("verify")[0] == 0
    assert SECRET.encode() not in database.read_bytes()


def test_reductions_that_still_hold_the_value_are_named(said: Said, document: Callable[..., Any]) -> None:
    """`erase` exits with 1 and names each reduction that still holds the value."""
    code, out, _ = said("erase", "r1", "2", "--branch", "a", "--reason", "wrong", "--yes")
    assert code == 1
    assert out.splitlines() == [
        "erased version 2 of a in r1",
        "version 3 of (root) in r1 holds the same content: if it comes from the erased event, erase it, too",
    ]
    assert said("erase", "r1", "3", "--reason", "wrong", "--yes")[0] == 0
    erasure = document("erase", "r1", "2", "--branch", "a", "--reason", "wrong", "--yes")
    assert erasure == {"erased": False, "carried": []}


def test_carried_over_values_are_named_and_can_be_erased(said: Said, document: Callable[..., Any]) -> None:
    """`erase` of a carried-over value names the other forks that hold a copy; erasing the last one names none."""
    assert said("fork", "old 1", "--as", "fork 2")[0] == 0
    assert said("delete", "old 1", "--reason", "old", "--yes", "--carry-over")[0] == 0
    code, out, _ = said("erase", "fork", "2", "--reason", "wrong", "--yes")
    assert (code, out.splitlines()) == (
        1,
        [
            "erased version 2 of (root) in fork",
            "version 2 of (root) in fork 2 holds the same content: if it comes from the erased event, erase it, too",
        ],
    )
    assert document("erase", "fork 2", "2", "--reason", "wrong", "--yes") == {"erased": True, "carried": []}
    assert "exit code is 1" in said("erase", "--help")[1]


def test_pins_keep_runs(said: Said, document: Callable[..., Any]) -> None:
    """A pinned run is neither deleted nor collected; `pin` and `unpin` say whether anything changed."""
    assert said("pin", "old 2", "--reason", "figures") == (0, "old 2 is pinned\n", "")
    assert said("pin", "old 2")[1] == "old 2 was already pinned\n"
    assert said("pin", "old 2", "--reason", "more")[1] == "old 2 was already pinned; the reason was not recorded\n"
    code, _, error = said("delete", "old 2", "--reason", "old", "--yes")
    assert (code, error) == (1, "anabranch: RunIsPinned: run 'old 2' is pinned\n")
    assert document("gc", "--older-than", "0m", "--dry-run")["deleted"] == []
    assert document("unpin", "old 2") == {"run_id": "old 2", "pinned": False, "changed": True}
    assert said("pin", "nobody")[0] == 1


def test_a_deleted_run_gives_its_space_back(database: Path, said: Said) -> None:
    """`delete --keep-size` leaves the file's size as it is, and `compact` reduces it."""
    size = database.stat().st_size
    code, out, _ = said("delete", "old 2", "--reason", "old", "--yes", "--keep-size")
    assert (code, out) == (0, "deleted old 2: 3 events in 1 branch\n")
    assert database.stat().st_size == size
    code, out, _ = said("compact")
    assert (code, out.split()[:3], out.split()[-2:]) == (0, ["the", "file", "is"], ["kB", "freed"])
    assert database.stat().st_size < size


def test_deleted_runs_are_listed(said: Said, document: Callable[..., Any]) -> None:
    """`runs --deleted` lists deleted runs, the last first, with reason and event count.

    It filters by the time of deletion only.
    """
    assert said("runs", "--deleted")[1] == "no runs were deleted\n"
    for run_id in ("fork", "old 1"):
        said("delete", run_id, "--reason", f"no {run_id}", "--yes")
    _, printed, _ = said("runs", "--deleted", "--limit", "1")
    headers, row, more = printed.splitlines()
    assert headers.split("  ")[0] == "RUN"
    assert row.startswith("old 1  ")
    assert row.endswith("  no old 1")
    assert more == "1 more: use --limit, or --until for earlier ones"
    found = document("runs", "--deleted")["deleted"]
    assert [(each["run_id"], each["reason"], each["events"]) for each in found] == [
        ("old 1", "no old 1", 3),
        ("fork", "no fork", 1),
    ]
    earlier = document("runs", "--deleted", "--until", found[1]["deleted_at"])["deleted"]
    assert [each["run_id"] for each in earlier] == ["fork"]
    assert document("runs", "--deleted", "--since", "2100-01-01")["deleted"] == []
    code, _, refused = said("runs", "--deleted", "--tag", "t")
    assert code == 2
    assert "--deleted cannot be combined with --status, --tag or --cursor" in refused


def test_a_forked_run_is_deleted_when_it_is_carried_over(said: Said) -> None:
    """Deleting a forked run is refused with the names of its forks, unless `--carry-over` is given."""
    code, _, error = said("delete", "old 1", "--reason", "old", "--yes")
    assert (code, "'fork'" in error, error.endswith("; add --carry-over\n")) == (1, True, True)
    assert said("delete", "old 1", "--reason", "old", "--yes", "--carry-over")[0] == 0
    assert "xxx" in said("params", "fork")[1]


def test_collecting_shows_what_it_does(said: Said, document: Callable[..., Any]) -> None:
    """`gc --dry-run` prints what `gc` then does: the runs, their number, and what is kept and why."""
    _, dry, _ = said("gc", "--older-than", "0m", "--dry-run")
    assert dry.splitlines()[-3:] == [
        "would delete 1 run",
        "equally old, but not finished: CREATED 1, RUNNING 1",
        "kept old 1: run 'old 1' is the source of 'fork'; delete it with carry_over",
    ]
    _, done, _ = said("gc", "--older-than", "0m", "--yes")
    assert done.splitlines()[:2] == dry.splitlines()[:2]
    assert done.splitlines()[2].startswith("deleted 1 run; ")
    found = document("gc", "--older-than", "0m", "--yes")
    assert (found["deleted"], [*found["kept"]], found["compaction"]) == ([], ["old 1"], None)


def test_old_runs_with_other_statuses_are_counted(said: Said, document: Callable[..., Any]) -> None:
    """`gc` counts runs that are old enough but have a status other than the selected ones.

    Those that `--status` cannot select, because they are not finished, are counted apart.
    """
    told = said("gc", "--older-than", "0m", "--dry-run", "--status", "DONE")[1].splitlines()
    assert told[0] == "would delete 0 runs"
    assert told[1].startswith("equally old, with other statuses (--status): COMPLETED ")
    assert "RUNNING" not in told[1]
    assert told[2] == "equally old, but not finished: CREATED 1, RUNNING 1"
    assert said("gc", "--older-than", "0m", "--dry-run", "--status", "RUNNING")[0] == 1
    assert document("gc", "--older-than", "0m", "--dry-run", "--status", "DONE")["others"]["COMPLETED"] > 0


@pytest.mark.parametrize(
    ("age", "deleted"), [("1s", 0), ("1m", 0), ("2h", 0), ("30d", 0), ("4w", 0), ("2020-01-01", 0), ("9999-01-01", 1)]
)
def test_ages_and_times(document: Callable[..., Any], age: str, deleted: int) -> None:
    """`gc --older-than` takes seconds, minutes, hours, days, weeks or a time."""
    assert len(document("gc", "--older-than", age, "--dry-run")["deleted"]) == deleted


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("gc", "--older-than", "soon", "--dry-run"), 2, "neither an age"),
        (("gc", "--older-than", "-1d", "--dry-run"), 2, "neither an age"),
        (("gc", "--older-than", "1000000d", "--dry-run"), 2, "more than 999,999 days"),
        (("gc", "--older-than", "999999w", "--dry-run"), 1, "before the year 1"),
        (("gc", "--older-than", "1d", "--status", "RUNNING", "--dry-run"), 1, "RUNNING"),
        (("gc", "--older-than", "1d", "--reason", " ", "--yes"), 1, "is blank"),
        (("erase", "r1", "2"), 2, "--reason"),
        (("erase", "r1", "two", "--reason", "why"), 2, "VERSION"),
        (("erase", "r1", "99", "--reason", "why", "--yes"), 1, "no version 99"),
        (("erase", "r1", "1", "--branch", "a", "--reason", "why", "--yes"), 1, "BranchForked"),
        (("delete", "r1", "--reason", "", "--yes"), 1, "is blank"),
        (("delete", "nobody", "--reason", "why", "--yes"), 1, "no run 'nobody'"),
        (("delete", "r1", "--reason", "why"), 2, "--yes is needed"),
        (("erase", "r1", "2", "--reason", "why"), 2, "--yes is needed"),
        (("gc", "--older-than", "0m"), 2, "--yes is needed"),
    ],
)
def test_wrong_arguments_are_one_line_errors(
    said: Said, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, message: str
) -> None:
    """A command that cannot be done is one line on standard error that names the cause."""
    with open(os.devnull) as nobody:  # noqa: PTH123 - a stream, not a path
        monkeypatch.setattr(sys, "stdin", nobody)
        found, out, error = said(*arguments)
    assert (found, out) == (code, "")
    assert message in error
    assert len(error.splitlines()) == 1


@pytest.fixture
def answered(said: Said, monkeypatch: pytest.MonkeyPatch) -> Said:
    """Run a command whose standard input is a terminal, with a prepared answer to its question."""

    def run(answer: bytes, *arguments: str) -> tuple[int, str, str]:
        person, terminal = pty.openpty()
        os.write(person, answer)
        with open(person, "rb"), open(terminal) as stdin:  # noqa: PTH123 - descriptors, not paths
            monkeypatch.setattr(sys, "stdin", stdin)
            return said(*arguments)

    return run


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        (("delete", "old 2", "--reason", "old"), ""),
        (("erase", "old 2", "2", "--reason", "old"), ""),
        (("gc", "--older-than", "0m"), "RUN "),
    ],
)
def test_they_ask_before_they_delete(database: Path, answered: Said, arguments: tuple[str, ...], first: str) -> None:
    """`delete`, `erase` and `gc` ask on a terminal first: "no" changes nothing, "yes" does it.

    `gc` shows what it would delete before it asks.
    """
    before = database.read_bytes()
    code, out, error = answered(b"n\n", *arguments)
    assert (code, out.startswith(first), error.endswith("nothing was done\n")) == (1, True, True)
    assert "Traceback" not in error
    assert database.read_bytes() == before
    code, out, _ = answered(b"y\n", *arguments)
    assert (code, "old 2" in out) == (0, True)
    assert database.read_bytes() != before


def test_nothing_to_delete_asks_nothing(answered: Said) -> None:
    """`gc` asks nothing when there is nothing to delete."""
    assert answered(b"", "gc", "--older-than", "1d") == (0, "would delete 0 runs\n", "")


def test_names_are_escaped(database: Path, said: Said) -> None:
    """Control characters in arguments are escaped in errors."""
    hostile = "\x1b[2J"
    for command in (("pin", hostile), ("delete", hostile, "--reason", "r", "--yes"), ("gc", "--older-than", hostile)):
        _, out, error = said(*command)
        assert "\x1b" not in out + error
    assert database.exists()
