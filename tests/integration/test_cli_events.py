"""`anabranch events`: the filters by step, status and time."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import open_engine
from engine.cli import main

_COMMAND = [sys.executable, "-c", "import sys; from engine.cli import main; sys.exit(main())"]


async def _record(database: Path) -> None:
    async with open_engine(database) as engine:
        run = await engine.create_run("r1", parameters={"lr": 0.1})
        branch = await run.fork("fit")
        async with branch.attempt("train"):
            pass
        async with branch.attempt("test"):
            pass


@pytest.fixture
def recorded(database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database with nine events of one run: 4 to 6 at the step `train`, 7 to 9 at `test`."""
    monkeypatch.setenv("ANABRANCH_DB", str(database))
    asyncio.run(_record(database))
    return database


@pytest.mark.parametrize(
    ("filters", "positions"),
    [
        (["--step", "train"], [4, 5, 6]),
        (["--step", "none"], []),
        (["--status", "RUNNING"], [4, 5, 7, 8]),
        (["--step", "test", "--status", "RUNNING"], [7, 8]),
        (["--step", "test", "--after", "7"], [8, 9]),
        (["--step", "train", "--branch", ""], []),
        (["--since", "1h"], [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (["--since", "2999-01-01"], []),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_only_matching_events_are_printed(shown: Callable[..., str], filters: list[str], positions: list[int]) -> None:
    """An event must meet every condition."""
    lines = shown("events", "r1", "--json", *filters).splitlines()
    assert [json.loads(line)["position"] for line in lines] == positions


def test_people_are_told_that_no_event_matches(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If no event matches, `events` says so on standard error; with `--json` it prints nothing."""
    assert recorded.exists()
    assert main(["events", "r1", "--step", "trian", "--status", "running"]) == 0
    assert capsys.readouterr() == ("", "no events at trian that are running; did you mean RUNNING?\n")
    assert main(["events", "r1", "--step", "trian", "--json"]) == 0
    assert capsys.readouterr() == ("", "")


def test_since_includes_its_own_time(shown: Callable[..., str]) -> None:
    """An event recorded exactly at the time is printed, and none recorded before it."""
    times = [json.loads(line)["recorded_at"] for line in shown("events", "r1", "--json").splitlines()]
    later = shown("events", "r1", "--json", "--since", times[6]).splitlines()
    assert [json.loads(line)["recorded_at"] for line in later] == [time for time in times if time >= times[6]]


@pytest.mark.usefixtures("recorded")
def test_since_takes_times_and_ages_only(capsys: pytest.CaptureFixture[str]) -> None:
    """Anything else is a usage error that names it."""
    assert main(["events", "r1", "--since", "soon"]) == 2
    assert "'soon' is neither an age" in capsys.readouterr().err


async def _set_statuses(database: Path) -> None:
    async with open_engine(database) as engine:
        run = await engine.run("r1")
        await run.set_status("FAILED")
        await run.set_status("COMPLETED")


def test_followers_filter_what_comes(recorded: Path) -> None:
    """New events must meet the same conditions as those that are there."""
    follower = subprocess.Popen(
        [*_COMMAND, "events", "r1", "--follow", "--json", "--status", "COMPLETED", "--since", "1h"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert follower.stdout is not None
    assert [json.loads(follower.stdout.readline())["position"] for _ in range(2)] == [6, 9]

    asyncio.run(_set_statuses(recorded))

    assert json.loads(follower.stdout.readline())["position"] == 11
    follower.send_signal(signal.SIGINT)
    rest, complaints = follower.communicate()
    assert (follower.returncode, rest, complaints) == (130, b"", b"")
